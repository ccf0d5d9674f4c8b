#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "base/status.h"
#include "base/unique_fd.h"
#include "raft/storage/data_key.h"
#include "raft/storage/log_store.h"

namespace muster::raft {

// Writes a snapshot as encrypted frames (FORMAT.md) into a temporary file; finish() syncs it and
// gives it its name. Destroyed before, it leaves nothing. Any thread, one at a time.
class SnapshotFileWriter {
 public:
  static Result<SnapshotFileWriter> create(const std::filesystem::path& dir, const DataKey& key,
                                           uint64_t index);
  SnapshotFileWriter(SnapshotFileWriter&&) = default;
  ~SnapshotFileWriter();

  Status add(std::string_view chunk);
  // The file's name inside `dir`.
  Result<std::string> finish();

 private:
  SnapshotFileWriter(std::filesystem::path dir, DataKey key, uint64_t index, UniqueFd fd);
  Status add_frame(std::string_view kind, std::string_view chunk);
  Status write_all(std::string_view data);
  std::string name() const;
  std::filesystem::path temporary() const;

  std::filesystem::path dir_;
  DataKey key_;
  uint64_t index_;
  uint64_t frames_ = 0;
  UniqueFd fd_;
};

// Visits the chunks in order. DATA_LOSS when a frame is damaged, missing or out of place.
Status read_snapshot(const std::filesystem::path& file, const DataKey& key, uint64_t index,
                     const std::function<Status(std::string chunk)>& visit);

}  // namespace muster::raft
