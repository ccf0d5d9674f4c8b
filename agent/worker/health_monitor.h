#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/time.h"
#include "muster/v1/specs.pb.h"

namespace muster::agent {

struct HealthResult {
  int exit_code = 0;
  std::string output;  // the last 4 KiB
};

// Runs a health check's command in a container. Blocks up to the time-out; thread-safe.
class HealthProbe {
 public:
  virtual ~HealthProbe() = default;
  // DEADLINE_EXCEEDED when the command ran longer (it is killed then).
  virtual Result<HealthResult> run(const std::string& container_id, const std::string& bundle_dir,
                                   const std::vector<std::string>& command, Duration timeout) = 0;
};

// A service's health check, the image's where the spec has none, with Docker's defaults filled in.
struct HealthPlan {
  std::vector<std::string> command;
  Duration interval = 30s;
  Duration timeout = 30s;
  Duration start_period{0};
  Duration start_interval = 5s;
  int retries = 3;
};
// Nothing when there is no check or it is disabled (["NONE"]).
std::optional<HealthPlan> plan_health(const v1::HealthCheck& spec, const v1::HealthCheck& image);

// Docker's rule, as a pure function of probe results: one success makes healthy; `retries`
// failures in a row make unhealthy, of which those within the start period do not count as long
// as there was no success.
class HealthMonitor {
 public:
  enum class Verdict { kUnchanged, kHealthy, kUnhealthy };

  HealthMonitor(HealthPlan plan, TimePoint started) : plan_(std::move(plan)), started_(started) {}

  // When the next probe is due, counted from the end of the last one or from the start.
  Duration next_delay(TimePoint now) const;
  Verdict probed(bool success, TimePoint now);
  const HealthPlan& plan() const { return plan_; }

 private:
  HealthPlan plan_;
  TimePoint started_;
  bool healthy_ = false;
  int failures_ = 0;
};

}  // namespace muster::agent
