#pragma once

#include <cstdint>

namespace muster::raft {

// One-line faults of the protocol, each of which the simulator must find (tests/sim/raft). They
// exist only in its own build of the core (MUSTER_MUTANTS); everywhere else fault() is a constant
// and the compiler drops the branch.
enum class Mutant : uint8_t {
  kNone,
  kAckBeforeDisk,
  kVoteBeforeDisk,
  kVoteNotStored,
  kLateWriteCounts,
  kOlderTermCommitted,
  kAnyLogElected,
  kVotesTwice,
  kHalfElects,
  kMinorityCommits,
  kLearnersCommit,
  kCutMembersKept,
  kOldAppendCuts,
  kHeartbeatCommitsAll,
  kReadWithoutQuorum,
  kReadRoundReused,
  kReadBeforeOwnTerm,
  kSnapshotMembersIgnored,
  kSnapshotAckBeforeDisk,
  kRejectionAcknowledges,
  kPreviousTermIgnored,
  kEarlierVotesCount,
  kSnapshotAwaitedForEver,
  kChangeBeforeOwnTerm,
  kChangesOverlap,
  kLearnersElect,
  kLearnersConfirmReads,
  kLearnersKeepLeader,
  kRemovedElected,
  kRemovedServed,
  kRemovedLeadsOn,
  kSentAheadUncounted,
  kBytesAheadUnlimited,
  kProbesUnlimited,
  kAppendUnlimited,
  kProposalUnlimited,
  kUncommittedUnlimited,
  kOlderTermUncounted,
  kEnd,
};

#ifdef MUSTER_MUTANTS
extern Mutant active_mutant;
inline bool fault(Mutant mutant) {
  return mutant == active_mutant;
}
#else
constexpr bool fault(Mutant) {
  return false;
}
#endif

}  // namespace muster::raft
