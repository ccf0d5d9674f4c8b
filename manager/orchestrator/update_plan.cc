#include "manager/orchestrator/update_plan.h"
#include "manager/mutant.h"
#include "manager/store/update_status.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace muster::manager::orchestrator {
namespace {

using Stage = UpdatedSlot::Stage;
using Step = UpdateVerdict::Step;

constexpr uint64_t kPpm = 1'000'000;

WallTime came_up(const v1::Task& task) {
  if (task.status().running_since_ns() != 0) return {task.status().running_since_ns()};
  return {task.status().state() == v1::TASK_RUNNING ? reached_at_ns(task) : 0};
}

// How long an attempt ran; nothing if that was never seen. An attempt whose agent could not report
// for so long that its start and its end arrive at once did not run as far as anybody knows.
Duration ran(const v1::Task& task) {
  const WallTime begin = came_up(task);
  if (begin.unix_ns == 0) return Duration(0);
  return WallTime{reached_at_ns(task)} - begin;
}

bool older(const TaskPtr& a, const TaskPtr& b) {
  if (a->meta().created_at_ns() != b->meta().created_at_ns()) {
    return a->meta().created_at_ns() < b->meta().created_at_ns();
  }
  return a->id() < b->id();
}

std::vector<TaskPtr> attempts_of(const UpdateAttempts& attempts, std::vector<TaskPtr> tasks) {
  tasks.erase(std::remove_if(tasks.begin(), tasks.end(),
                             [&](const TaskPtr& task) {
                               return task->revision() != attempts.revision ||
                                      task->meta().created_at_ns() < attempts.since.unix_ns ||
                                      task->desired_state() >= v1::TASK_REMOVE;
                             }),
              tasks.end());
  std::sort(tasks.begin(), tasks.end(), older);
  return tasks;
}

// What the end of an attempt says of its slot.
std::optional<Stage> judge_end(const UpdateAttempts& attempts, const v1::Task& task) {
  const v1::TaskState state = task.status().state();
  if (state <= v1::TASK_RUNNING) return std::nullopt;
  const bool satisfied = state == v1::TASK_COMPLETE && attempts.restart != v1::RestartPolicy::ANY;
  if (satisfied) return Stage::kDone;
  if (came_up(task).unix_ns != 0 && ran(task) >= attempts.monitor) return Stage::kRuns;
  if (ended_by_itself(state)) return Stage::kFailed;
  return std::nullopt;  // told to stop, or its node was lost
}

std::string name_of(const v1::Task& task) {
  return fmt::format("{} ({})", task.name(), task.id());
}

std::string why(const v1::Task& task) {
  const v1::TaskStatus& status = task.status();
  if (!status.error().empty()) return status.error();
  if (!status.message().empty()) return status.message();
  std::string state = v1::TaskState_Name(status.state()).substr(sizeof("TASK_") - 1);
  std::transform(state.begin(), state.end(), state.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return "it is " + state;
}

void wake_at(UpdateVerdict& verdict, WallTime t) {
  if (!verdict.wake || t < *verdict.wake) verdict.wake = t;
}

// Counts failures against the ratio; the newest one is named.
bool too_many_failed(const UpdateRules& rules, uint64_t slots_to_update,
                     const std::vector<UpdatedSlot>& slots, UpdateVerdict& verdict) {
  const UpdatedSlot* last = nullptr;
  for (const UpdatedSlot& slot : slots) {
    if (slot.stage != Stage::kFailed) continue;
    ++verdict.failures;
    if (last == nullptr || slot.since > last->since) last = &slot;
  }
  if (last == nullptr || rules.action == v1::UpdateConfig::CONTINUE) return false;
  if (verdict.failures * kPpm <= rules.max_failure_ppm * std::max<uint64_t>(slots_to_update, 1)) {
    return false;
  }
  verdict.reason = fmt::format("failure or early termination of task {}: {}", name_of(*last->task),
                               why(*last->task));
  return true;
}

// When a slot's task has to be up. While something else comes up there is progress; an update that
// continues whatever happens goes past each slot for itself.
WallTime due(const UpdateRules& rules, const UpdatedSlot& slot, WallTime progress, WallTime began) {
  const bool continues = rules.action == v1::UpdateConfig::CONTINUE;
  return std::max(slot.since, continues ? began : progress) + rules.deadline;
}

}  // namespace

UpdateRules UpdateRules::of(const v1::UpdateConfig& config) {
  UpdateRules rules;
  rules.parallelism = config.parallelism();
  rules.delay = Duration(config.delay_ns());
  rules.action = config.failure_action();
  if (config.has_monitor_ns()) rules.monitor = Duration(config.monitor_ns());
  // As Swarm has it: a slot is watched at least until the next one is begun.
  if (rules.delay >= rules.monitor && rules.delay.count() > 0) rules.monitor = rules.delay + 1s;
  rules.max_failure_ppm = config.max_failure_ratio_ppm();
  rules.start_first = config.order() == v1::UpdateConfig::START_FIRST;
  if (config.has_progress_deadline_ns()) rules.deadline = Duration(config.progress_deadline_ns());
  return rules;
}

UpdateRules UpdateRules::of(const v1::Service& service) {
  const bool back = store::is_rollback(service.update_status());
  const v1::ServiceSpec& spec = service.spec();
  if (back ? !spec.has_rollback() : !spec.has_update()) return {};
  return of(back ? spec.rollback() : spec.update());
}

UpdateAttempts update_attempts(const v1::Service& service, const UpdateRules& rules,
                               const RestartRules& restart) {
  return {service.revision(), WallTime{service.update_status().started_at_ns()}, rules.monitor,
          restart.condition};
}

UpdatedSlot look_at_updated_slot(const UpdateAttempts& attempts, std::vector<TaskPtr> tasks) {
  UpdatedSlot slot;
  for (const TaskPtr& task : attempts_of(attempts, std::move(tasks))) {
    slot.since = WallTime{task->meta().created_at_ns()};
    slot.task = task;
    const bool stays = task->desired_state() <= v1::TASK_RUNNING;
    if (task->status().state() == v1::TASK_RUNNING && stays) {
      slot.stage = Stage::kRuns;
      slot.since = came_up(*task);
      return slot;
    }
    const std::optional<Stage> end = judge_end(attempts, *task);
    if (!end) continue;
    slot.stage = *end;
    slot.since = *end == Stage::kRuns ? came_up(*task) : WallTime{reached_at_ns(*task)};
    return slot;
  }
  return slot;
}

TaskPtr deciding_task(const UpdateAttempts& attempts, std::vector<TaskPtr> tasks) {
  for (const TaskPtr& task : attempts_of(attempts, std::move(tasks))) {
    if (judge_end(attempts, *task)) return task;
  }
  return nullptr;
}

UpdateVerdict judge_update(const UpdateRules& rules, const v1::UpdateStatus& status,
                           uint64_t outdated, const std::vector<UpdatedSlot>& slots, WallTime now,
                           uint64_t moving) {
  UpdateVerdict verdict;
  const bool continues = rules.action == v1::UpdateConfig::CONTINUE;
  // A rollback that fails has nowhere to go back to.
  const Step failed = rules.action == v1::UpdateConfig::ROLLBACK && !store::is_rollback(status)
                          ? Step::kRollBack
                          : Step::kPause;
  if (too_many_failed(rules, status.slots(), slots, verdict)) {
    verdict.step = failed;
    return verdict;
  }
  const WallTime began{status.started_at_ns()};
  WallTime progress = began;
  for (const UpdatedSlot& slot : slots) {
    if (slot.stage == Stage::kRuns) progress = std::max(progress, slot.since);
  }
  uint64_t busy = moving;
  bool watched = false;  // a slot is under way, or has not run for the monitor period yet
  for (const UpdatedSlot& slot : slots) {
    if (slot.stage == Stage::kDone) continue;
    if (slot.stage == Stage::kUnderWay) {
      const WallTime end = due(rules, slot, progress, began);
      const bool late = rules.deadline.count() > 0 && now >= end;
      if (late && continues) continue;
      if (late) {
        verdict.step = failed;
        verdict.reason =
            fmt::format("no progress within {}: task {} did not come up: {}",
                        format_duration(rules.deadline), name_of(*slot.task), why(*slot.task));
        verdict.wake.reset();
        return verdict;
      }
      if (rules.deadline.count() > 0) wake_at(verdict, end);
      ++busy;
      watched = true;
      continue;
    }
    if (slot.since + rules.delay > now) {
      ++busy;
      if (outdated > 0) wake_at(verdict, slot.since + rules.delay);
    }
    const WallTime stable = slot.since + rules.monitor;
    if (slot.stage == Stage::kRuns && slot.since >= began && stable > now) {
      watched = true;
      if (outdated == 0) wake_at(verdict, stable);
    }
  }
  verdict.room = rules.parallelism == 0      ? outdated
                 : busy >= rules.parallelism ? 0
                                             : rules.parallelism - busy;
  if (fault(ManagerMutant::kParallelismIgnored)) verdict.room = outdated;
  verdict.room = std::min(verdict.room, outdated);
  if (outdated == 0 && !watched) verdict.step = Step::kComplete;
  return verdict;
}

v1::Service with_update_begun(const v1::Service& service, uint64_t outdated, WallTime now) {
  v1::Service changed = service;
  v1::UpdateStatus& status = *changed.mutable_update_status();
  if (!store::is_updating(status)) {
    status.Clear();
    status.set_state(v1::UpdateStatus::UPDATING);
    status.set_started_at_ns(now.unix_ns);
    status.set_message("update in progress");
  }
  status.set_slots(outdated);
  return changed;
}

v1::Service with_step(const v1::Service& service, const UpdateVerdict& verdict, WallTime now) {
  v1::Service changed = service;
  v1::UpdateStatus& status = *changed.mutable_update_status();
  const bool back = store::is_rollback(status);
  switch (verdict.step) {
    case Step::kGoOn: break;
    case Step::kPause:
      status.set_state(back ? v1::UpdateStatus::ROLLBACK_PAUSED : v1::UpdateStatus::PAUSED);
      status.set_message(
          fmt::format("{} paused due to {}", back ? "rollback" : "update", verdict.reason));
      break;
    case Step::kRollBack:
      if (!service.has_previous_spec() || service.previous_revision() == 0) {
        status.set_state(v1::UpdateStatus::PAUSED);
        status.set_message(fmt::format(
            "update paused due to {} (there is no previous spec to roll back to)", verdict.reason));
        break;
      }
      *changed.mutable_spec() = service.previous_spec();
      changed.clear_previous_spec();
      changed.set_last_revision(
          std::max({service.last_revision(), service.revision(), service.previous_revision()}));
      changed.set_revision(service.previous_revision());
      changed.set_previous_revision(0);
      status.Clear();
      status.set_state(v1::UpdateStatus::ROLLBACK_STARTED);
      status.set_started_at_ns(now.unix_ns);
      status.set_reason(fmt::format("update rolled back due to {}", verdict.reason));
      status.set_message(status.reason());
      break;
    case Step::kComplete:
      status.set_state(back ? v1::UpdateStatus::ROLLBACK_COMPLETED : v1::UpdateStatus::COMPLETED);
      status.set_completed_at_ns(now.unix_ns);
      status.set_message(back ? "rollback completed" : "update completed");
      if (back && !status.reason().empty()) {
        status.set_message(fmt::format("rollback completed: {}", status.reason()));
      }
      break;
  }
  return changed;
}

}  // namespace muster::manager::orchestrator
