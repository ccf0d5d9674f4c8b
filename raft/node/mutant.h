#pragma once

#include <cstdint>

namespace muster::raft {

// One-line faults of the driver, each of which the whole-cluster simulator must find (tests/sim).
// They exist only in its own build of the driver (MUSTER_MUTANTS); everywhere else the branches are
// constants that the compiler drops. Those of the protocol are in raft/core/mutant.h.
enum class DriverMutant : uint8_t {
  kNone,
  kAnswersAtOnce,          // a proposal counts as committed when the log has it
  kUnknownIsCommitted,     // as do those that are open when leadership ends
  kReadsUnconfirmed,       // a leader answers reads without asking a quorum
  kLeadsBeforeApplied,     // leading begins before everything of before is applied
  kEndOfLeadershipUntold,  // the user goes on believing
  kOwnEntriesAppliedToo,   // what was answered is applied once more
  kSnapshotMarkTooFar,     // a snapshot claims everything that is committed, applied or not
  kSnapshotNotLoaded,      // one that arrives moves the index and leaves the state
  kRemovalUntold,          // nor that its member was removed
  kEnd,
};

#ifdef MUSTER_MUTANTS
extern DriverMutant active_driver_mutant;
inline bool fault(DriverMutant mutant) {
  return mutant == active_driver_mutant;
}
#else
constexpr bool fault(DriverMutant) {
  return false;
}
#endif

}  // namespace muster::raft
