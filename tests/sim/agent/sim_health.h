#pragma once

#include <string>
#include <vector>

#include "agent/worker/health_monitor.h"
#include "tests/sim/agent/sim_machine.h"
#include "tests/sim/agent/sim_runtime.h"

namespace muster::sim {

// Health checks in a host's containers; some of an ill one hang.
class SimHealth final : public agent::HealthProbe {
 public:
  SimHealth(SimMachine& machine, SimRuntime& runtime) : machine_(machine), runtime_(runtime) {}

  agent::HealthResult run(const std::string& container_id, const std::string&,
                          const std::vector<std::string>&, Duration timeout) override {
    agent::HealthResult result;
    const auto ill = runtime_.probe(container_id);
    if (!ill) {
      result.gone = true;
    } else if (*ill && machine_.one_in(3)) {
      SimPool::wait(timeout);
      result.exit_code = -1;
      result.trouble = "the check did not end in time";
    } else {
      SimPool::wait(machine_.up_to(30ms));
      result.exit_code = *ill ? 1 : 0;
    }
    return result;
  }

 private:
  SimMachine& machine_;
  SimRuntime& runtime_;
};

}  // namespace muster::sim
