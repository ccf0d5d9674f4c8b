#pragma once

#include <condition_variable>
#include <mutex>

#include "agent/runtime/conmon_runtime.h"
#include "agent/runtime/exec.h"
#include "agent/worker/health_monitor.h"

namespace muster::agent {

// HealthProbe by executing the command in the container. The runtime outlives it, and it outlives
// the threads that call it.
class ExecHealthProbe final : public HealthProbe {
 public:
  explicit ExecHealthProbe(const ConmonRuntime& runtime) : runtime_(runtime) {}
  HealthResult run(const std::string& container_id, const std::string& bundle_dir,
                   const std::vector<std::string>& command, Duration timeout) override;
  // Every run under way and to come ends at once, without a finding.
  void stop();

 private:
  struct Run;
  std::string await_end(Run& run, const ExecSession& session, Duration timeout);

  const ConmonRuntime& runtime_;
  std::mutex mutex_;  // of the runs, too
  std::condition_variable changed_;
  bool stopped_ = false;
};

}  // namespace muster::agent
