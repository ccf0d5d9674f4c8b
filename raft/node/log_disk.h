#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/thread_executor.h"
#include "raft/node/disk.h"
#include "raft/storage/log_store.h"

namespace muster::raft {

// A disk over a log store. One thread writes: everything that queues while it does becomes one
// write with one sync. A second thread encodes snapshots, so that they do not hold up the log.
class LogDisk final : public Disk {
 public:
  explicit LogDisk(std::unique_ptr<LogStore> store);
  ~LogDisk() override;

  void start(DiskEvents& events) override;
  void write(Write write) override;
  void flush() override;
  bool full() override { return store_->room() == DiskRoom::kFull; }
  void take_snapshot(SnapshotMark mark, Index keep_from, SnapshotProducer produce,
                     UniqueFunction<void(Status)> done) override;
  Result<std::unique_ptr<SnapshotSource>> open_snapshot(Index index, Term term) override;
  Result<std::unique_ptr<SnapshotSink>> receive_snapshot(const SnapshotMark& mark) override;
  void stop() override;

  // Runs `f` with the store on the writer's thread, between two writes: for its keys.
  void with_store(UniqueFunction<void(LogStore&)> f);

 private:
  void write_queue();
  void write_waiting();
  std::vector<const Write*> next_steps() const;
  void tell_room();
  void look_after();
  Status produce_snapshot(const SnapshotMark& mark, SnapshotProducer& produce);
  void fail_with(const Status& status);

  std::unique_ptr<LogStore> store_;
  DiskEvents* events_ = nullptr;
  std::mutex mutex_;
  std::deque<Write> queue_;            // guarded by mutex_
  std::atomic<bool> unheard_ = false;  // something is queued that the writer was not told of
  // The writer's.
  std::deque<Write> waiting_;  // taken from the queue; stays here while the disk is full
  bool full_ = false;
  bool failed_ = false;
  // Last: their threads use everything above.
  std::optional<ThreadExecutor> writer_;
  std::optional<ThreadExecutor> snapshotter_;
};

}  // namespace muster::raft
