#pragma once

#include <map>
#include <string>

#include "overlay/dataplane/container/flows.h"
#include "tests/sim/agent/sim_machine.h"

namespace muster::sim {

// Connections to a host's containers. A few have some that go on for a while, longer than a drain
// lasts, even; they begin when somebody looks first.
class SimFlows final : public overlay::ContainerFlows {
 public:
  explicit SimFlows(SimMachine& machine) : machine_(machine) {}

  Result<bool> any(const std::string& container_id) override {
    if (!machine_.step(1ms)) return fail(process_is_dead());
    const auto [at, fresh] = end_.try_emplace(container_id);
    const TimePoint now = machine_.world.now();
    if (fresh) at->second = machine_.one_in(4) ? now + machine_.up_to(8s) : now;
    if (now < at->second) machine_.met("connections waited for");
    return now < at->second;
  }
  void power_off() { end_.clear(); }

 private:
  SimMachine& machine_;
  std::map<std::string, TimePoint> end_;
};

}  // namespace muster::sim
