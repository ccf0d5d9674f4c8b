#include "manager/orchestrator/restart_policy.h"

#include <algorithm>

namespace muster::manager::orchestrator {

RestartRules RestartRules::of(const v1::RestartPolicy& policy) {
  RestartRules rules;
  rules.condition = policy.condition();
  if (policy.has_delay_ns()) rules.delay = Duration(policy.delay_ns());
  rules.max_attempts = policy.max_attempts();
  rules.window = Duration(policy.window_ns());
  return rules;
}

bool ended_by_itself(v1::TaskState state) {
  return state == v1::TASK_COMPLETE || state == v1::TASK_FAILED || state == v1::TASK_REJECTED;
}

int64_t reached_at_ns(const v1::Task& task) {
  const v1::TaskStatus& status = task.status();
  return status.applied_at_ns() != 0 ? status.applied_at_ns() : status.timestamp_ns();
}

bool made_ahead(const v1::Task& task, WallTime now) {
  return WallTime{task.meta().created_at_ns()} > now + 1min;
}

bool waits_for_start(const RestartRules& rules, const v1::Task& task, WallTime now) {
  // An attempt that fails while it is prepared ends up to a delay before its own start, and its
  // successor waits for a delay from there.
  constexpr Duration kDelayMax = 24h * 3650;
  const WallTime furthest = now + 2 * std::min(rules.delay, kDelayMax) + 1min;
  const WallTime start{task.start_after_ns()};
  return start > now && start <= furthest && !made_ahead(task, now);
}

uint64_t restarts_so_far(const RestartRules& rules, const v1::Task& task,
                         const std::vector<const v1::Task*>& slot) {
  const int64_t end = reached_at_ns(task);
  uint64_t count = 0;
  for (const v1::Task* other : slot) {
    if (other->id() == task.id() || other->revision() != task.revision()) continue;
    if (!ended_by_itself(other->status().state())) continue;
    const int64_t other_end = reached_at_ns(*other);
    if (other_end > end) continue;
    if (rules.window.count() > 0 && other_end < end - rules.window.count()) continue;
    ++count;
  }
  return count;
}

bool wants_restart(const RestartRules& rules, const v1::Task& task,
                   const std::vector<const v1::Task*>& slot) {
  switch (rules.condition) {
    case v1::RestartPolicy::NONE: return false;
    case v1::RestartPolicy::ON_FAILURE:
      if (task.status().state() == v1::TASK_COMPLETE) return false;
      break;
    default: break;  // ANY, and what a newer member may know
  }
  if (rules.max_attempts == 0 || !ended_by_itself(task.status().state())) return true;
  return restarts_so_far(rules, task, slot) < rules.max_attempts;
}

int64_t history_limit(const RestartRules& rules, int64_t cluster_limit) {
  if (cluster_limit < 0 || rules.max_attempts == 0) return cluster_limit;
  // Unsigned in the spec: a huge number of attempts keeps a huge history, not a negative one.
  const uint64_t wanted = std::min<uint64_t>(rules.max_attempts, INT64_MAX - 1) + 1;
  return std::max(cluster_limit, static_cast<int64_t>(wanted));
}

}  // namespace muster::manager::orchestrator
