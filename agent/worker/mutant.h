#pragma once

#include <cstdint>

namespace muster::agent {

// One-line faults of the worker, each of which the whole-cluster simulator must find (tests/sim).
// They exist only in its own build of the worker (MUSTER_MUTANTS); everywhere else the branches are
// constants that the compiler drops.
enum class WorkerMutant : uint8_t {
  kNone,
  kForgetsToAdopt,     // a restarted worker takes what runs for gone
  kEndUntold,          // how a task ended is not reported
  kStartUnrecorded,    // a container is started before the record says so
  kStartsTwice,        // each container is started once more
  kRemovesBeforeStop,  // a container is removed instead of being told to end
  kKillsAtOnce,        // no grace
  kSignalsTooEarly,    // names and ports still lead to what is told to end
  kLeavesNetwork,      // what has ended keeps its network
  kOldRecordsTrusted,  // after a restart of the host, records of before are believed
  kRoutesLost,         // what changes in a network is not told to the kernel
  kRoutesKept,         // a network without tasks is not forgotten
  kStopsUnreleased,    // what others may still lead to is told to end
  kPassedByAtOnce,     // a task that is let go is passed by before another is led to
  kPortsClosedAtOnce,  // the same of published ports
  kEnd,
};

#ifdef MUSTER_MUTANTS
extern WorkerMutant active_worker_mutant;
inline bool fault(WorkerMutant mutant) {
  return mutant == active_worker_mutant;
}
#else
constexpr bool fault(WorkerMutant) {
  return false;
}
#endif

}  // namespace muster::agent
