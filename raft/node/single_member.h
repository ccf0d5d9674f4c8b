#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/log.h"
#include "base/thread_executor.h"
#include "raft/node/replicated_log.h"
#include "raft/storage/rocks_log_store.h"

namespace muster::raft {

// A replicated log of one member: what is synced to its disk is committed. Every life of it is a
// new term.
//
// Proposals are written by one thread of its own; all that queue while a write is under way become
// one write with one sync. Snapshots are encoded by a second thread, so that they do not hold up
// the log.
//
// Strand: the one given, for every call and every callback; `on_fatal` and `produce` excepted.
class SingleMember final : public ReplicatedLog {
 public:
  struct Options {
    RocksLogStore::Options store;
    // Called on the writer's thread when the disk failed. What was acknowledged is safe, nothing
    // more can be: the process has to end and start anew. Null = log the reason and _exit(70).
    std::function<void(const Status&)> on_fatal;
  };

  // Opens or makes the log and starts a term. Blocks for disk reads.
  static Result<std::unique_ptr<SingleMember>> open(Executor& strand, Options options);
  // Waits for the write under way; queued proposals are dropped unanswered.
  ~SingleMember() override;

  // Hands over everything committed so far: the snapshot's chunks if there is one, then entries.
  // Blocks; to be called once, before the first proposal.
  struct Replay {
    std::function<Status(std::string chunk)> snapshot_chunk;
    std::function<Status()> snapshot_end;  // only after chunks
    std::function<Status(uint64_t index, std::string payload)> entry;
  };
  Status replay(const Replay& into) const;

  void propose(uint64_t term, std::string payload,
               UniqueFunction<void(ProposeResult)> done) override;
  uint64_t leading_term() const override { return term_.load(std::memory_order_relaxed); }

  // Writes a snapshot of the state at `index` and drops the log up to there. `produce` runs on the
  // snapshot thread and hands the chunks to its argument. One at a time: FAILED_PRECONDITION to
  // `done` when another is under way.
  using Sink = std::function<Status(std::string chunk)>;
  void take_snapshot(uint64_t index, UniqueFunction<Status(const Sink& sink)> produce,
                     UniqueFunction<void(Status)> done);

 private:
  struct Pending {
    uint64_t term;
    std::string payload;
    UniqueFunction<void(ProposeResult)> done;
  };

  SingleMember(Executor& strand, Options options, std::unique_ptr<RocksLogStore> store);
  void write_queue();
  void answer(std::vector<Pending> batch, std::vector<ProposeResult> results);
  void fatal(const Status& status);
  Result<std::string> write_snapshot(uint64_t index,
                                     UniqueFunction<Status(const Sink& sink)>& produce);
  void end_snapshot(UniqueFunction<void(Status)> done, Status status);

  Executor& strand_;
  std::function<void(const Status&)> on_fatal_;
  Log log_;
  DataKey key_;
  std::filesystem::path dir_;
  std::unique_ptr<RocksLogStore> store_;  // the writer's, once replay is over
  std::atomic<uint64_t> term_{0};
  bool snapshotting_ = false;
  std::mutex mutex_;
  std::vector<Pending> queue_;  // guarded by mutex_
  // Callbacks posted to the strand look here whether the log still lives; made and dropped there.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  // Last: their threads use everything above.
  std::unique_ptr<ThreadExecutor> writer_;
  std::unique_ptr<ThreadExecutor> snapshotter_;
};

}  // namespace muster::raft
