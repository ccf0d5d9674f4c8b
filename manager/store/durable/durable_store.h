#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>

#include "base/executor.h"
#include "base/log.h"
#include "manager/store/durable/log_proposer.h"
#include "manager/store/store.h"
#include "raft/node/single_member.h"

namespace rocksdb {
class Env;
}

namespace muster::manager::store {

// A store whose log is on this machine's disk: the one thing a daemon has to open.
//
//   MUSTER_ASSIGN(auto durable, DurableStore::open(strand, {.dir = data_dir / "raft", .log =
//   log})); durable->store().update(...);
//
// open() makes the directory or reads it back (snapshot, then entries), and starts leading. After
// every `snapshot_entries` entries the state is written as a snapshot beside the running store and
// the log before it is dropped.
//
// Strand: open(), every call and the destructor run on the strand given. The store goes first on
// destruction; queued transactions are dropped unanswered, the write under way is finished.
class DurableStore {
 public:
  struct Options {
    std::filesystem::path dir;
    Log log;
    uint64_t snapshot_entries = 10'000;
    // See raft::SingleMember::Options::on_fatal; null ends the process.
    std::function<void(const Status&)> on_fatal;
    // As in raft::LogStore::Options.
    rocksdb::Env* env = nullptr;
    uint64_t free_bytes_min = 32 << 20;
    uint64_t reserve_bytes = 64 << 20;
  };

  // FAILED_PRECONDITION (reason "feature-level") when the log was written by a newer muster;
  // DATA_LOSS when acknowledged data is damaged or gone.
  static Result<std::unique_ptr<DurableStore>> open(Executor& strand, Options options);
  ~DurableStore();

  Store& store() { return store_; }
  const Store& store() const { return store_; }

  // Takes one now, whatever the count; for backups and tests.
  void take_snapshot(UniqueFunction<void(Status)> done);

 private:
  DurableStore(Executor& strand, const Options& options,
               std::unique_ptr<raft::SingleMember> member);
  Status replay();
  void start();
  void count_entry();

  Log log_;
  uint64_t snapshot_entries_;
  std::unique_ptr<raft::SingleMember> member_;
  LogProposer proposer_;
  Store store_;
  uint64_t entries_since_snapshot_ = 0;
  bool snapshotting_ = false;
  Store::Subscription subscription_;
};

}  // namespace muster::manager::store
