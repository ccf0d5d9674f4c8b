#pragma once

#include <memory>

#include "base/status.h"
#include "base/unique_function.h"
#include "raft/core/core.h"
#include "raft/node/state_machine.h"
#include "raft/storage/log_store.h"

namespace muster::raft {

// What a disk tells its driver. Called on any thread, but never from inside a call of the driver's;
// must not block.
class DiskEvents {
 public:
  virtual ~DiskEvents() = default;
  // This step and all before it are durable.
  virtual void written(uint64_t token) = 0;
  // RESOURCE_EXHAUSTED, reason "disk-full": see full(). OK: there is room again.
  virtual void room(const Status& status) = 0;
  // Nothing on it can be relied upon any more; no other event follows.
  virtual void failed(const Status& status) = 0;
};

// One member's log and snapshots on a disk. Real: LogDisk; simulated: the tests'. Calls are
// serialized by the driver and do not block, except those that say so.
class Disk {
 public:
  virtual ~Disk() = default;

  // Before the first write. `events` must live until stop() has returned.
  virtual void start(DiskEvents& events) = 0;

  // Steps are written in the order of their coming; whatever waits while one is under way becomes
  // one write with one sync.
  virtual void write(Write write) = 0;
  // Nothing need happen before this to what write() took.
  virtual void flush() = 0;

  // Whether the disk is so full that no entry of a proposal should be accepted any more. Those that
  // were are written while there is any room at all; should others have taken that too, they wait
  // for it, and the steps after them; those before do not. Any thread; cheap.
  virtual bool full() = 0;

  // Writes what `produce` hands over as the snapshot of `mark`, makes it the log's beginning and
  // drops the entries before `keep_from`. The log is durable up to mark.index when it is called.
  // One at a time. `done` arrives like an event. FAILED_PRECONDITION: the log begins later already.
  virtual void take_snapshot(SnapshotMark mark, Index keep_from, SnapshotProducer produce,
                             UniqueFunction<void(Status)> done) = 0;

  // Any thread; may block. NOT_FOUND when another took its place.
  virtual Result<std::unique_ptr<SnapshotSource>> open_snapshot(Index index, Term term) = 0;
  // Where a snapshot that arrives from elsewhere goes; once it is finished a Write's `install` may
  // name it. Any thread; may block.
  virtual Result<std::unique_ptr<SnapshotSink>> receive_snapshot(const SnapshotMark& mark) = 0;

  // Finishes what was asked for and ends its threads. Blocks. No event comes after it returned.
  virtual void stop() = 0;
};

}  // namespace muster::raft
