#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/thread_executor.h"
#include "manager/store/durable/replicated_store.h"
#include "manager/store/store.h"
#include "raft/node/log_disk.h"
#include "raft/node/node.h"

namespace rocksdb {
class Env;
}

namespace muster::manager::store {

// A store whose log is on this machine's disk and on those of the other managers: the one thing a
// manager has to open.
//
//   MUSTER_ASSIGN(auto durable, DurableStore::open(strand, {.dir = data_dir / "raft", .log =
//   log})); MUSTER_TRY(durable->start({.on_lead = ..., .on_follow = ...}));
//   ... in on_lead: durable->store().update(...);
//
// open() makes the directory or reads it. start() loads the snapshot; the entries after it are
// applied as soon as they are known to be committed, which for a manager alone is after two writes
// to its disk. After every `snapshot_entries` entries, or snapshot bytes of them, the state is
// written as a snapshot beside the running store and the log before it is dropped.
//
// Strand: open(), every call and the destructor run on the strand given.
class DurableStore {
 public:
  struct Options {
    std::filesystem::path dir;
    Log log;

    // Who this manager is in its log's group.
    raft::Member self{.id = {1}};
    std::string cluster_id;
    // How an empty log begins; one that is not empty goes on.
    raft::StartMode mode = raft::StartMode::kFound;
    raft::Members members;  // kJoin: what the leader said
    // The other managers are lost for good: goes on alone with everything that is here.
    bool force_new_cluster = false;
    // Null: nobody to talk to.
    std::function<std::unique_ptr<raft::Transport>(raft::TransportEvents&)> make_transport;
    raft::Tuning tuning;

    uint64_t snapshot_entries = 10'000;
    // See raft::Node::Options::on_fatal; null ends the process.
    std::function<void(const Status&)> on_fatal;
    // As in raft::RocksLogStore::Options.
    std::optional<std::string> unlock_key;
    rocksdb::Env* env = nullptr;
    uint64_t free_bytes_min = 32 << 20;
    uint64_t reserve_bytes = 64 << 20;
  };

  // What raft::RocksLogStore::open() says when the log cannot be used.
  static Result<std::unique_ptr<DurableStore>> open(Executor& strand, Options options);
  // As a crash, if stop() has not ended: what the disk was told is finished, nothing is answered.
  ~DurableStore();

  // Once. FAILED_PRECONDITION (reason "feature-level") when the snapshot is of a newer muster,
  // DATA_LOSS when it is damaged; of entries that come later `on_fatal` is told.
  Status start(ReplicationEvents events);
  // Orderly: leadership is handed over, the others hear a goodbye, the disk finishes. `done` comes
  // on the strand, and nothing after it.
  void stop(UniqueFunction<void()> done);

  Store& store() { return replicated_->store(); }
  const Store& store() const { return replicated_->store(); }
  raft::Group& group() { return replicated_->group(); }
  // The term it leads; 0: it does not.
  uint64_t term() const { return replicated_->node().leading_term(); }

  // Takes one now, whatever the count; for backups, new data keys and tests.
  void take_snapshot(UniqueFunction<void(Status)> done);
  // Runs `f` with the log's files on the thread that writes them: for its keys.
  void with_log(UniqueFunction<void(raft::LogStore&)> f) { disk_.with_store(std::move(f)); }

 private:
  DurableStore(Executor& strand, Options options, std::unique_ptr<raft::LogStore> store,
               raft::Restored restored);

  SystemRng rng_;
  ThreadExecutor raft_strand_;
  raft::LogDisk disk_;
  std::unique_ptr<raft::Transport> transport_;
  ReplicationEvents events_;
  std::unique_ptr<ReplicatedStore> replicated_;  // goes first: it stops the others
};

}  // namespace muster::manager::store
