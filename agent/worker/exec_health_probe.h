#pragma once

#include "agent/runtime/conmon_runtime.h"
#include "agent/worker/health_monitor.h"

namespace muster::agent {

// HealthProbe by executing the command in the container. The runtime outlives it.
class ExecHealthProbe final : public HealthProbe {
 public:
  explicit ExecHealthProbe(const ConmonRuntime& runtime) : runtime_(runtime) {}
  Result<HealthResult> run(const std::string& container_id, const std::string& bundle_dir,
                           const std::vector<std::string>& command, Duration timeout) override;

 private:
  const ConmonRuntime& runtime_;
};

}  // namespace muster::agent
