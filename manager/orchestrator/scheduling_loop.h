#pragma once

#include <cstddef>
#include <memory>

#include "base/executor.h"
#include "base/log.h"
#include "manager/store/store.h"

namespace muster::manager::orchestrator {

// The scheduler's shell on the leader: watches the store, gives PENDING tasks a node, writes down
// why when there is none.
//
// Placement itself (scheduler/) runs on a strand of its own, so that a big round holds nobody up;
// decisions come back as transactions, each of which checks that task and node are still as seen
// and leaves the rest to the next round. There is no timer on the way: a round starts as soon as
// there is something to place and the transactions of the round before have ended; what arrives
// meanwhile goes into the next one. Tasks that found no node are looked at again only when a node
// changed or a task somewhere let go of something they may have been waiting for.
//
// Per task: PENDING to ASSIGNED with node_id, assigned_generic and a message; or status.error "no
// suitable node (...)", written when the text changes; or, for a task that needs no node any more
// (told to shut down, or outdated and unplaceable), PENDING to SHUTDOWN.
//
// Level-triggered: may be stopped at any moment; start() builds everything from the snapshot.
// Public methods are called on the store's strand. Both executors and the store outlive the loop.
class SchedulingLoop {
 public:
  struct Options {
    size_t round_tasks_max = 200'000;  // tasks looked at before what was decided is written
    // Tasks written in one transaction. Halved whenever the store refuses one for its size (1.5
    // MB), which takes tasks with very many networks or ports.
    size_t transaction_tasks = 2'000;
    Duration retry_delay = 100ms;  // after a write that failed as a whole
  };

  // `strand` is the store's; `worker` may be the same one.
  SchedulingLoop(Executor& strand, Executor& worker, store::Store& store, Log log, Options options);
  SchedulingLoop(Executor& strand, Executor& worker, store::Store& store, Log log)
      : SchedulingLoop(strand, worker, store, std::move(log), Options()) {}
  ~SchedulingLoop();

  // Call once the store leads. `snapshot` is where to begin; the loop follows the store from there.
  void start(const store::Snapshot& snapshot);
  // Idempotent. Writes that are under way may still happen.
  void stop();

 private:
  class Core;     // on the worker strand
  struct Writer;  // on the store's strand

  Executor& strand_;
  Executor& worker_;
  store::Store& store_;
  Log log_;
  Options options_;
  std::shared_ptr<Core> core_;
  std::shared_ptr<Writer> writer_;
  store::Store::Subscription subscription_;
};

}  // namespace muster::manager::orchestrator
