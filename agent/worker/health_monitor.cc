#include "agent/worker/health_monitor.h"

namespace muster::agent {
namespace {

Duration or_default(int64_t ns, int64_t image_ns, Duration otherwise) {
  if (ns > 0) return Duration(ns);
  if (image_ns > 0) return Duration(image_ns);
  return otherwise;
}

}  // namespace

std::optional<HealthPlan> plan_health(const v1::HealthCheck& spec, const v1::HealthCheck& image) {
  const auto& test = spec.test_size() > 0 ? spec.test() : image.test();
  if (test.empty() || test.Get(0) == "NONE" || test.Get(0).empty()) return std::nullopt;
  HealthPlan plan;
  if (test.Get(0) == "CMD-SHELL") {
    if (test.size() < 2) return std::nullopt;
    plan.command = {"/bin/sh", "-c", test.Get(1)};
  } else {
    plan.command.assign(test.begin() + (test.Get(0) == "CMD" ? 1 : 0), test.end());
    if (plan.command.empty()) return std::nullopt;
  }
  plan.interval = or_default(spec.interval_ns(), image.interval_ns(), plan.interval);
  plan.timeout = or_default(spec.timeout_ns(), image.timeout_ns(), plan.timeout);
  plan.start_period =
      or_default(spec.start_period_ns(), image.start_period_ns(), plan.start_period);
  plan.start_interval =
      or_default(spec.start_interval_ns(), image.start_interval_ns(), plan.start_interval);
  if (image.retries() > 0) plan.retries = image.retries();
  if (spec.retries() > 0) plan.retries = spec.retries();
  return plan;
}

Duration HealthMonitor::next_delay(TimePoint now) const {
  const bool starting = !healthy_ && now - started_ < plan_.start_period;
  return starting ? plan_.start_interval : plan_.interval;
}

HealthMonitor::Verdict HealthMonitor::probed(bool success, TimePoint now) {
  if (success) {
    failures_ = 0;
    if (healthy_) return Verdict::kUnchanged;
    healthy_ = true;
    return Verdict::kHealthy;
  }
  if (!healthy_ && now - started_ < plan_.start_period) return Verdict::kUnchanged;
  if (++failures_ < plan_.retries) return Verdict::kUnchanged;
  return Verdict::kUnhealthy;
}

}  // namespace muster::agent
