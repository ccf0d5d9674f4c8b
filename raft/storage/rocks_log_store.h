#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "raft/core/types.h"
#include "raft/storage/data_key.h"
#include "raft/storage/record.h"

namespace rocksdb {
class Env;
}

namespace muster::raft {

// One durable step: everything in it reaches the disk, or nothing does.
struct LogBatch {
  bool has_hard_state = false;
  HardState hard_state;
  // In order. The first index may lie inside the log: everything from there on is replaced.
  std::vector<LogEntry> entries;
};

// The snapshot the log begins after.
struct StoredSnapshot {
  uint64_t index = 0;  // 0: none was taken
  uint64_t term = 0;
  Chain chain;       // of the entry at `index`
  std::string file;  // name inside the log's directory
};

// The replicated log on disk: one RocksDB instance of its own, every record encrypted and chained
// (FORMAT.md). Not thread-safe; after open() one thread at a time uses it (LogWriter's).
//
// A failed write or sync is final: after it nothing on disk can be trusted until the directory is
// opened again, and every further call fails.
class RocksLogStore {
 public:
  struct Options {
    std::filesystem::path dir;
    Log log;
    rocksdb::Env* env = nullptr;  // for fault injection; null = the system's
    // Free bytes on the file system below which entries are refused, so that no write ever meets a
    // full disk; and the size of the reserve file, deleted to be able to start on a full one.
    uint64_t free_bytes_min = 32 << 20;
    uint64_t reserve_bytes = 64 << 20;
  };

  // Makes the directory when it is missing. DATA_LOSS when acknowledged entries are damaged or
  // gone (a torn write after the last synced one is normal and dropped); what is damaged is left as
  // it is.
  static Result<std::unique_ptr<RocksLogStore>> open(Options options);
  ~RocksLogStore();

  const HardState& hard_state() const { return hard_state_; }
  const StoredSnapshot& snapshot() const { return snapshot_; }
  uint64_t first_index() const { return snapshot_.index + 1; }
  uint64_t last_index() const { return mark_.index; }
  uint64_t last_term() const { return mark_.term; }
  const DataKey& key() const { return key_; }
  const std::filesystem::path& dir() const { return options_.dir; }

  // Writes all batches with one synced write. RESOURCE_EXHAUSTED (reason "disk-full") when there is
  // too little room: nothing was written and the log goes on. Any other error is final.
  Status append(const std::vector<LogBatch>& batches);

  // Visits entries from `from` (at least first_index()) to the end, checked and decrypted; stops at
  // the first error.
  Status read(uint64_t from, const std::function<Status(LogEntry entry)>& visit) const;

  // Makes `file` (complete and synced, of the state at `index`) the log's beginning and drops the
  // entries up to it and the snapshot before.
  Status set_snapshot(uint64_t index, const std::string& file);
  // The term of an entry in the log or of the snapshot; NOT_FOUND for others.
  Result<uint64_t> term_of(uint64_t index) const;

 private:
  struct Db;
  RocksLogStore(Options options, DataKey key, std::unique_ptr<Db> db);

  Status recover();
  Status check_entries();
  Status check_room();
  Status add_entries(const LogBatch& batch, void* write_batch, Watermark& mark);
  Result<Chain> chain_before(uint64_t index) const;
  Result<std::string> record(uint64_t index) const;
  void save_watermark_file(bool now);
  void remove_stale_snapshots();

  Options options_;
  DataKey key_;
  std::unique_ptr<Db> db_;
  HardState hard_state_;
  StoredSnapshot snapshot_;
  Watermark mark_;
  Status failed_;
  int64_t watermark_saved_ns_ = 0;
};

}  // namespace muster::raft
