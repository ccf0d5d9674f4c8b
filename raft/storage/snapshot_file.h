#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/status.h"
#include "base/unique_fd.h"
#include "raft/storage/key_ring.h"
#include "raft/storage/log_store.h"

namespace muster::raft {

// "snapshot-<index>-<term>": whoever knows the mark knows the file.
std::string snapshot_file_name(Index index, Term term);

// Writes a snapshot as encrypted frames (FORMAT.md) into a temporary file of its own; finish()
// syncs it and gives it its name.
class SnapshotFileWriter final : public SnapshotSink {
 public:
  // RESOURCE_EXHAUSTED, reason "disk-full", from add() when less than `free_bytes_min` is left on
  // the file system: what is there is kept for the log.
  static Result<std::unique_ptr<SnapshotSink>> create(const std::filesystem::path& dir,
                                                      std::shared_ptr<const KeyRing> ring,
                                                      Index index, Term term,
                                                      uint64_t free_bytes_min);
  ~SnapshotFileWriter() override;

  Status add(std::string_view chunk) override;
  Status finish() override;

 private:
  SnapshotFileWriter(std::filesystem::path dir, std::shared_ptr<const KeyRing> ring, Index index,
                     Term term, uint64_t free_bytes_min);
  Status open();
  Status add_frame(std::string_view kind, std::string_view chunk);
  Status write_all(std::string_view data);
  Status hand_over();

  const std::filesystem::path dir_;
  const std::shared_ptr<const KeyRing> ring_;
  const std::shared_ptr<const DataKey> key_;
  const Index index_;
  const Term term_;
  const uint64_t free_bytes_min_;
  const std::filesystem::path temporary_;
  std::string head_;
  uint64_t frames_ = 0;
  uint64_t written_ = 0;      // bytes
  uint64_t handed_over_ = 0;  // of them, to the disk
  UniqueFd fd_;
};

class SnapshotFileReader final : public SnapshotSource {
 public:
  // NOT_FOUND, or DATA_LOSS when it is no snapshot of that moment that `ring` has the key of.
  static Result<std::unique_ptr<SnapshotSource>> open(const std::filesystem::path& dir,
                                                      std::shared_ptr<const KeyRing> ring,
                                                      Index index, Term term);
  Result<std::string> next() override;

 private:
  SnapshotFileReader(std::filesystem::path file, std::shared_ptr<const KeyRing> ring, Index index,
                     Term term);
  Status read_head();
  Result<bool> read_exactly(std::string& out, size_t bytes);
  Status damaged() const;

  const std::filesystem::path file_;
  const std::shared_ptr<const KeyRing> ring_;
  std::shared_ptr<const DataKey> key_;
  const Index index_;
  const Term term_;
  std::string head_;
  uint64_t frames_ = 0;
  bool ended_ = false;
  UniqueFd fd_;
};

// The number of the key a snapshot file (a temporary one, too) was written with; nothing when it
// has no whole head yet.
std::optional<uint8_t> snapshot_key_id(const std::filesystem::path& file);

}  // namespace muster::raft
