#pragma once

#include <rocksdb/db.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "raft/core/types.h"

namespace muster::raft {

// The RocksDB instance of a log, with the options its promises rest on. Internal to the room: what
// includes this compiles RocksDB's headers.
struct LogDb {
  std::unique_ptr<rocksdb::DB> db;
  std::unique_ptr<rocksdb::ColumnFamilyHandle> fallback;  // RocksDB's obligatory "default"
  std::unique_ptr<rocksdb::ColumnFamilyHandle> meta;
  std::unique_ptr<rocksdb::ColumnFamilyHandle> log;
  std::unique_ptr<rocksdb::ColumnFamilyHandle> snap;

  LogDb() = default;
  LogDb(const LogDb&) = delete;
  LogDb& operator=(const LogDb&) = delete;
  ~LogDb();

  // `env` may be null. DATA_LOSS when RocksDB finds damage. Read-only and salvage change nothing on
  // the disk; salvage shows what was written before the first damage in a WAL: to look at only.
  enum class Mode { kReadOnly, kReadWrite, kSalvage };
  static Result<std::unique_ptr<LogDb>> open(const std::filesystem::path& dir, Mode mode,
                                             rocksdb::Env* env);
  static bool exists(const std::filesystem::path& dir);

  // Empty text when there is none.
  Result<std::string> get(rocksdb::ColumnFamilyHandle& family, std::string_view key) const;
  Status write(rocksdb::WriteBatch& batch) const;  // synced
  // Gives back the space of entries that were deleted up to and with `index`.
  void reclaim(Index index) const;
};

// Keys in `meta` and `snap` (FORMAT.md).
inline constexpr std::string_view kKeyFormat = "format";
inline constexpr std::string_view kKeyHardState = "hard_state";
inline constexpr std::string_view kKeyDurable = "durable";
inline constexpr std::string_view kKeySnapshot = "current";
inline constexpr std::string_view kFormat = "muster-log 2";

std::string index_key(Index index);
inline rocksdb::Slice slice(std::string_view text) {
  return {text.data(), text.size()};
}
Status from_rocksdb(const rocksdb::Status& status, std::string_view what);

// Files of RocksDB's that end in a write that did not reach the disk entirely (the last WAL, the
// list of files) are cut there, after copying them into `aside`.
struct MendedTail {
  std::filesystem::path file;
  std::filesystem::path copy;
};
Result<std::vector<MendedTail>> mend_torn_tails(const std::filesystem::path& dir,
                                                const std::filesystem::path& aside, const Log& log);
// Whether the last WAL ends in such a write; what cannot be read does not.
bool ends_torn(const std::filesystem::path& dir);
Status unmend(const std::vector<MendedTail>& mended);

// Holds the log's directory for one process: FAILED_PRECONDITION, reason "in-use". Without `create`
// nothing is made in the directory, and one that was never held is free.
Result<UniqueFd> lock_directory(const std::filesystem::path& dir, bool create = true);

}  // namespace muster::raft
