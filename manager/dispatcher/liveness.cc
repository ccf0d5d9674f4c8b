#include "manager/dispatcher/liveness.h"

#include <algorithm>

namespace muster::manager::dispatcher {

Liveness Liveness::unheard(const LivenessPolicy& policy, TimePoint now) {
  Liveness liveness;
  liveness.silent_since_ = now;
  liveness.deadline_ = now + 2 * policy.misses * policy.period;
  return liveness;
}

void Liveness::heard(const LivenessPolicy& policy, TimePoint now) {
  silent_since_ = now;
  deadline_ = now + policy.misses * policy.period;
  probed_ = false;
}

void Liveness::restarting(const LivenessPolicy& policy, TimePoint now) {
  silent_since_ = now;
  // Never less than what a silent node gets, however long the period is.
  deadline_ = now + std::max<Duration>(policy.restart_grace, policy.misses * policy.period);
  probed_ = true;  // the announced time is all it gets
}

void Liveness::disconnected(TimePoint now) {
  if (!probed_) silent_since_ = now;
}

Liveness::Verdict Liveness::judge(TimePoint now) const {
  if (now < deadline_) return Verdict::kAlive;
  return probed_ ? Verdict::kDown : Verdict::kProbe;
}

Liveness::Verdict Liveness::on_probe(const LivenessPolicy& policy, ProbeResult result,
                                     TimePoint now) {
  if (now < deadline_) return Verdict::kAlive;  // it spoke up while the probe was under way
  const TimePoint end_of_grace = silent_since_ + policy.vanished_grace;
  if (result != ProbeResult::kRefused || end_of_grace <= now) return Verdict::kDown;
  deadline_ = end_of_grace;
  probed_ = true;
  return Verdict::kAlive;
}

std::string_view down_message(ProbeResult result) {
  switch (result) {
    case ProbeResult::kRefused: return "the agent is gone, its host answers";
    case ProbeResult::kAccepted: return "heartbeat failure: the agent is silent";
    case ProbeResult::kUnreachable: return "heartbeat failure: the host does not answer";
  }
  return "heartbeat failure";
}

}  // namespace muster::manager::dispatcher
