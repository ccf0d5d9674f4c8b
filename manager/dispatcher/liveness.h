#pragma once

#include <optional>
#include <string_view>

#include "base/time.h"

namespace muster::manager::dispatcher {

// The settings of liveness; from the cluster object and DESIGN section 6.
struct LivenessPolicy {
  Duration period = 1s;           // agents send a heartbeat this often
  int misses = 5;                 // silent for this many periods: down
  Duration restart_grace = 60s;   // after an announced restart
  Duration vanished_grace = 30s;  // the host lives, only the agent is gone
};

// What a probe of the silent node's host found.
enum class ProbeResult {
  kRefused,      // the host answers, nobody listens: the agent's process is gone
  kAccepted,     // somebody listens, yet the session is silent
  kUnreachable,  // no answer
};

// When one node counts as down. Pure: the caller holds the timer and probes the host. The probe
// begins two periods before the end, which is the time it may take: so its answer costs none.
class Liveness {
 public:
  enum class Verdict {
    kAlive,  // look again at deadline()
    kProbe,  // silent for long: probe the host and tell on_probe()
    kDown,
  };

  // A new leader gives every node it has not heard of twice the usual time.
  static Liveness unheard(const LivenessPolicy& policy, TimePoint now);

  // A hello or a heartbeat.
  void heard(const LivenessPolicy& policy, TimePoint now);
  // The agent said that it restarts.
  void restarting(const LivenessPolicy& policy, TimePoint now);
  // The stream ended without a goodbye.
  void disconnected(TimePoint now);

  // When to call judge() next.
  TimePoint deadline() const { return deadline_; }
  Verdict judge(TimePoint now) const;
  Verdict on_probe(const LivenessPolicy& policy, ProbeResult result, TimePoint now);
  // Why judge() said kDown.
  std::string_view why_down() const;

 private:
  void set_end(const LivenessPolicy& policy, TimePoint end);

  TimePoint deadline_;
  TimePoint end_;  // without a probe's word for more
  TimePoint silent_since_;
  bool probed_ = false;               // no second probe: what runs now is all it gets
  std::optional<ProbeResult> found_;  // by a probe that left it until end_
};

// Why a node is down, for its status.
std::string_view down_message(ProbeResult result);

}  // namespace muster::manager::dispatcher
