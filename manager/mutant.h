#pragma once

#include <cstdint>

namespace muster::manager {

// One-line faults of the manager's rooms, each of which the whole-cluster simulator must find
// (tests/sim). They exist only in its own build of those files (MUSTER_MUTANTS); everywhere else
// the branches are constants that the compiler drops.
enum class ManagerMutant : uint8_t {
  kNone,
  kRemovalsUnsaid,       // the dispatcher does not say which tasks a node has no more
  kParallelismIgnored,   // an update replaces everything at once
  kAddressFreedEarly,    // the allocator gives away the address of a task that is still to stop
  kWatchDropsSecond,     // watchers miss the second change of an entry
  kRemovedJoins,         // a node that was removed may join again by its key
  kRemovedStands,        // a node that was removed may call
  kFormerManagerStands,  // so may one as a manager that is none any more
  kAnyToken,             // any token of the root is good, rotated or not
  kRotationEndsEarly,    // a rotation of the root waits for nobody
  kReleasesUnasked,      // the drainer does not wait for those that route to a task
  kKeysUsedEarly,        // a new key of encrypted networks is sent with before everybody has it
  kEnd,
};

#ifdef MUSTER_MUTANTS
extern ManagerMutant active_manager_mutant;
inline bool fault(ManagerMutant mutant) {
  return mutant == active_manager_mutant;
}
#else
constexpr bool fault(ManagerMutant) {
  return false;
}
#endif

}  // namespace muster::manager
