#pragma once

#include <cstdint>
#include <string>

#include "base/time.h"

namespace muster::manager::dispatcher {

// Two hosts with one identity, of which one is a copy of the other's state, both claim to be the
// node. Which of them the swarm goes on with. Pure.

// Who claims to be a node, by what its session began with.
struct Claim {
  std::string continues;  // the session it had before; empty: none since its process began
  bool at_home = false;   // it calls from where the group of managers reaches this node's member
  uint64_t attempt = 0;   // of the agent's process; 0: it does not count
};

// The claim that stands.
struct StandingClaim {
  Claim claim;
  std::string session_id;
  TimePoint heard_at;  // its hello, or its last heartbeat
};

enum class ClaimVerdict {
  kTake,  // the session is the newcomer's
  kWait,  // for the next heartbeat of the one that stands: when it comes, the newcomer is another
          // host, and refused; when it does not come in time, it was this host's own, before
  kOld,   // the same agent has another connection by now, whose hello was faster
};

// A session that stands may be what is left of the same host's process of before, whose end was not
// heard of; then no heartbeat comes any more.
inline constexpr int kClaimHalfPeriods = 5;

// Why a session ends whose agent has another.
inline constexpr char kNewerSession[] = "a newer session of this node has started";

// From when on the claim that stands is not waited for any more.
TimePoint claim_ends(const StandingClaim& standing, Duration period);
ClaimVerdict judge_claim(const StandingClaim& standing, const Claim& claim, Duration period,
                         TimePoint now);

}  // namespace muster::manager::dispatcher
