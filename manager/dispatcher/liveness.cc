#include "manager/dispatcher/liveness.h"

#include <algorithm>

namespace muster::manager::dispatcher {
namespace {

constexpr int kProbePeriods = 2;

}  // namespace

void Liveness::set_end(const LivenessPolicy& policy, TimePoint end) {
  end_ = end;
  deadline_ = end - std::min(kProbePeriods, policy.misses - 1) * policy.period;
  probed_ = false;
  found_.reset();
}

Liveness Liveness::unheard(const LivenessPolicy& policy, TimePoint now) {
  Liveness liveness;
  liveness.silent_since_ = now;
  liveness.set_end(policy, now + 2 * policy.misses * policy.period);
  return liveness;
}

void Liveness::heard(const LivenessPolicy& policy, TimePoint now) {
  silent_since_ = now;
  set_end(policy, now + policy.misses * policy.period);
}

void Liveness::restarting(const LivenessPolicy& policy, TimePoint now) {
  silent_since_ = now;
  // Never less than what a silent node gets, however long the period is.
  deadline_ = now + std::max<Duration>(policy.restart_grace, policy.misses * policy.period);
  probed_ = true;  // the announced time is all it gets
  found_.reset();
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
  const bool vanished = result == ProbeResult::kRefused && end_of_grace > now;
  if (!vanished && now >= end_) return Verdict::kDown;
  deadline_ = vanished ? end_of_grace : end_;
  probed_ = true;
  if (!vanished) found_ = result;
  return Verdict::kAlive;
}

std::string_view Liveness::why_down() const {
  return found_ ? down_message(*found_) : "the agent did not come back in time";
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
