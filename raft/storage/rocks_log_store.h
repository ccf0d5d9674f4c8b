#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "raft/storage/disk_reserve.h"
#include "raft/storage/key_ring.h"
#include "raft/storage/log_store.h"

namespace rocksdb {
class Env;
}

namespace muster::raft {

struct LogDb;
struct LogMeta;
struct LogUse;

// The log on disk: one RocksDB instance of its own, every record encrypted and chained, snapshots
// in files beside it (FORMAT.md). After open() one thread at a time uses it, but for
// create_snapshot() and open_snapshot().
class RocksLogStore final : public LogStore {
 public:
  struct Options {
    std::filesystem::path dir;
    Log log;
    // Of a new log: what it is bound to. Of one that exists: a mismatch of what is stated here
    // (not empty, not 0) is FAILED_PRECONDITION, reason "foreign-log".
    LogIdentity identity;
    // What the data keys are wrapped with on disk; 32 bytes. A log whose keys are not wrapped
    // opens with one, too, and stays as it is.
    std::optional<std::string> unlock_key;
    rocksdb::Env* env = nullptr;  // for fault injection; null = the system's
    // Free bytes on the file system below which proposals are refused, so that no write ever meets
    // a full disk; and what is set aside for term and vote.
    uint64_t free_bytes_min = 32 << 20;
    uint64_t reserve_bytes = 64 << 20;
    // A data key is changed by itself at the snapshot after so many entries: far below the 2^32
    // seals that random nonces allow.
    Index entries_per_key = Index{1} << 30;
  };

  // Makes the directory and a new log when there is none; blocks for disk reads.
  //
  // FAILED_PRECONDITION: another format, another process ("in-use"), another identity
  // ("foreign-log"). Wrapped keys: UNAVAILABLE, reason "locked", without an unlock key,
  // UNAUTHENTICATED, reason "wrong-unlock-key", with another. DATA_LOSS ("log-corrupt"): what was
  // acknowledged is damaged or gone; then nothing was changed. A torn write after the last synced
  // one is normal, and dropped.
  static Result<std::unique_ptr<RocksLogStore>> open(Options options);
  ~RocksLogStore() override;

  const LogIdentity& identity() const override { return ring_->identity(); }
  const HardState& hard_state() const override;
  const SnapshotMark& snapshot() const override;
  Index first_index() const override;
  Index last_index() const override;
  Term last_term() const override;
  const std::filesystem::path& dir() const { return options_.dir; }

  Result<Restored> restore() const override;
  Status write(const std::vector<const Write*>& writes) override;
  Status set_snapshot(const SnapshotMark& mark, Index keep_from) override;
  void settle() override;
  DiskRoom room() const override { return reserve_.room(); }
  Status rotate_data_key() override;
  size_t data_keys() const override { return ring_->size(); }
  Status rewrap(const std::optional<std::string>& unlock_key) override;
  Result<std::unique_ptr<SnapshotSink>> create_snapshot(Index index, Term term) override;
  Result<std::unique_ptr<SnapshotSource>> open_snapshot(Index index, Term term) const override;

 private:
  struct Step;
  RocksLogStore(Options options, UniqueFd lock);

  Status open_log();
  Status make_log();
  Status load();
  Status make_room(bool accepted);
  Status stage_install(Step& step, const SnapshotMark& mark) const;
  Status stage_entries(Step& step, const std::vector<Entry>& entries) const;
  Status commit(Step& step);
  Status check_mark(const SnapshotMark& mark) const;
  void after_snapshot(Index dropped_to);
  void sweep_snapshots(bool all);
  void drop_keys();
  void save_watermark(bool now);

  Options options_;
  UniqueFd lock_;
  DiskReserve reserve_;
  std::shared_ptr<KeyRing> ring_;
  std::unique_ptr<LogDb> db_;
  std::unique_ptr<LogMeta> meta_;
  std::unique_ptr<LogUse> use_;
  Status failed_;
  uint64_t saved_step_ = 0;  // of the watermark file
  int64_t saved_ns_ = 0;
};

// Moves a log that cannot be used any more aside, so that a new one can take its place: to
// "<dir>.damaged-<n>". The name it has then.
Result<std::filesystem::path> set_log_aside(const std::filesystem::path& dir);

}  // namespace muster::raft
