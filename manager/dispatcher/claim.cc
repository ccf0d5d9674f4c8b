#include "manager/dispatcher/claim.h"

#include <tuple>

namespace muster::manager::dispatcher {
namespace {

// Which of two is the original, as far as it can be told. A copy that was refused has had no
// session.
std::tuple<bool, bool> rank(const Claim& claim) {
  return {claim.at_home, !claim.continues.empty()};
}

}  // namespace

TimePoint claim_ends(const StandingClaim& standing, Duration period) {
  return standing.heard_at + period * kClaimHalfPeriods / 2;
}

ClaimVerdict judge_claim(const StandingClaim& standing, const Claim& claim, Duration period,
                         TimePoint now) {
  // The same agent, over another connection.
  const bool successor = !claim.continues.empty() && claim.continues == standing.session_id;
  const bool again = !claim.continues.empty() && claim.continues == standing.claim.continues;
  if (again && !successor && claim.attempt < standing.claim.attempt && claim.attempt > 0) {
    return ClaimVerdict::kOld;
  }
  if (successor || again || rank(claim) > rank(standing.claim)) return ClaimVerdict::kTake;
  return now >= claim_ends(standing, period) ? ClaimVerdict::kTake : ClaimVerdict::kWait;
}

}  // namespace muster::manager::dispatcher
