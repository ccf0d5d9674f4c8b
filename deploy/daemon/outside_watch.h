#pragma once

#include <optional>

#include "base/time.h"

namespace muster::daemon {

// Whether a manager that is in the list its own log has was taken out of the group while it was
// away. Who leads tells it so, but may be somebody it does not know: then it knocks at doors behind
// which nobody may say. Its node, as an agent, is with whoever leads all the same, and hears who
// the managers are. Pure.
class OutsideWatch {
 public:
  // Longer than somebody takes himself for the leader who is none any more.
  static constexpr Duration kPatience = 5s;

  enum class Verdict {
    kInside,  // or too early to say
    kLook,    // look() is to be called in kPatience
    kOutside,
  };
  // The managers as who leads says; `listed`: this one is among them. `led`: it hears a leader, or
  // does not take itself for a member.
  Verdict heard(bool listed, bool led, TimePoint now);
  // True when it is time to hear of the managers anew: what was heard may be out of date.
  bool look(bool led);

 private:
  std::optional<TimePoint> since_;  // neither listed nor led
};

}  // namespace muster::daemon
