#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>

#include "raft/node/disk.h"
#include "raft/transport/transport.h"

namespace muster::raft {

// The transport may cut a snapshot into pieces as it likes; on the way each chunk has its length in
// front (4 bytes, big-endian), so that the other side stores the same chunks.

// Opens the snapshot when the first piece is asked for, on the asker's thread.
class FramedReader final : public SnapshotReader {
 public:
  // Does not own `disk`.
  FramedReader(Disk& disk, Index index, Term term) : disk_(disk), index_(index), term_(term) {}
  Result<std::string> next() override;

 private:
  Disk& disk_;
  Index index_;
  Term term_;
  std::unique_ptr<SnapshotSource> chunks_;
};

class FramedWriter final : public SnapshotWriter {
 public:
  // `busy` is true as long as this lives.
  FramedWriter(std::unique_ptr<SnapshotSink> chunks, std::shared_ptr<std::atomic<bool>> busy);
  ~FramedWriter() override { *busy_ = false; }
  Status write(std::string_view piece) override;
  Status finish() override;

 private:
  std::unique_ptr<SnapshotSink> chunks_;
  std::shared_ptr<std::atomic<bool>> busy_;
  std::string rest_;  // of a chunk that is not complete
};

}  // namespace muster::raft
