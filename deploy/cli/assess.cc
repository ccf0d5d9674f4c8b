#include <algorithm>

#include "deploy/cli/names.h"
#include "deploy/cli/progress.h"

namespace muster::deploy::cli {
namespace {

// The tasks of one slot, or of one node for global services.
struct Slot {
  const v1::Task* shown = nullptr;  // the one with the lowest desired state; the newest of those
  const v1::Task* newest = nullptr;
  int failures = 0;     // of the present revision, since the command began
  int endings = 0;      // with exit code 0, since then
  int completions = 0;  // which the restart policy may count as attempts
};

bool is_job(const v1::ServiceSpec& spec) {
  return spec.has_replicated_job() || spec.has_global_job();
}

bool failed(const v1::Task& task) {
  return task.status().state() == v1::TASK_FAILED || task.status().state() == v1::TASK_REJECTED;
}

bool newer(const v1::Task& a, const v1::Task& b) {
  if (a.meta().created_at_ns() != b.meta().created_at_ns())
    return a.meta().created_at_ns() > b.meta().created_at_ns();
  return a.meta().version() > b.meta().version();
}

void take(Slot* slot, const v1::Task& task, uint64_t since_version) {
  if (failed(task) && task.meta().version() > since_version) ++slot->failures;
  if (task.status().state() == v1::TASK_COMPLETE) {
    ++slot->completions;
    if (task.meta().version() > since_version) ++slot->endings;
  }
  if (slot->newest == nullptr || newer(task, *slot->newest)) slot->newest = &task;
  if (slot->shown == nullptr || task.desired_state() < slot->shown->desired_state() ||
      (task.desired_state() == slot->shown->desired_state() && newer(task, *slot->shown)))
    slot->shown = &task;
}

std::string why(const v1::Task& task) {
  if (!task.status().error().empty()) return task.status().error();
  if (!task.status().message().empty()) return task.status().message();
  return state_name(task.status().state());
}

// The restart policy does not replace the slot's last task.
bool given_up(const Slot& slot, const v1::ServiceSpec& spec) {
  const v1::Task& task = *slot.newest;
  if (!is_terminal(task.status().state()) || task.desired_state() < v1::TASK_SHUTDOWN) return false;
  if (task.status().state() == v1::TASK_SHUTDOWN || task.status().state() == v1::TASK_ORPHANED)
    return false;
  const auto& restart = spec.task().restart();
  if (restart.condition() == v1::RestartPolicy::NONE) return true;
  if (restart.condition() == v1::RestartPolicy::ON_FAILURE && !failed(task)) return true;
  return restart.max_attempts() > 0 &&
         static_cast<uint64_t>(slot.failures + slot.completions) > restart.max_attempts();
}

std::string slot_text(const v1::Task& task) {
  std::string text = state_name(task.status().state());
  if (!task.status().error().empty())
    text += ": " + task.status().error();
  else if (task.status().state() < v1::TASK_RUNNING && !task.status().message().empty() &&
           task.status().message() != text && task.status().state() >= v1::TASK_PREPARING)
    text += ": " + task.status().message();
  return text;
}

uint64_t wanted_tasks(const ServiceView& view, size_t slots) {
  const auto& spec = view.service.spec();
  if (spec.has_global()) return slots;
  return spec.replicated().replicas();
}

void judge_update(const v1::UpdateStatus& update, Assessment* result) {
  switch (update.state()) {
    case v1::UpdateStatus::PAUSED:
      result->failure = "service update paused: " + update.message();
      break;
    case v1::UpdateStatus::ROLLBACK_PAUSED:
      result->failure = "service rollback paused: " + update.message();
      break;
    case v1::UpdateStatus::UPDATING: result->updating = true; break;
    case v1::UpdateStatus::ROLLBACK_STARTED:
      result->updating = true;
      result->going_back = update.message();
      break;
    case v1::UpdateStatus::ROLLBACK_COMPLETED:
      result->rolled_back = !update.reason().empty();  // not by hand
      break;
    case v1::UpdateStatus::COMPLETED:
    default: break;
  }
}

void judge_slot(const Slot& slot, const ServiceView& view, Assessment* result) {
  const v1::Task& shown = *slot.shown;
  const auto& spec = view.service.spec();
  const bool done =
      shown.status().state() == v1::TASK_RUNNING && shown.desired_state() <= v1::TASK_RUNNING;
  if (done) {
    ++result->done;
    if (const std::string note = running_note(shown); !note.empty())
      result->notes.insert(fmt::format("task {}: {}", shown.name(), note));
    return;
  }
  if (given_up(slot, spec)) {
    result->failure = fmt::format("task {} ended and its restart policy does not replace it: {}",
                                  slot.newest->name(), why(*slot.newest));
  } else if (slot.failures >= kFailuresCertain) {
    for (const auto& [id, task] : view.tasks) {
      if (task.name() != shown.name() || !failed(task)) continue;
      result->failure =
          fmt::format("task {} failed {} times: {}", task.name(), slot.failures, why(task));
    }
  } else if (slot.endings >= kFailuresCertain) {
    result->failure = fmt::format(
        "task {} ended {} times with exit code 0, and is started again each time: its command does "
        "not stay (what is meant to end is a job, --mode replicated-job)",
        shown.name(), slot.endings);
  } else if (shown.status().state() <= v1::TASK_PENDING && !shown.status().error().empty()) {
    result->blocked = shown.status().error();
  }
}

}  // namespace

Assessment assess(const ServiceView& view, const std::map<std::string, std::string>& node_names) {
  Assessment result;
  const v1::Service& service = view.service;
  if (view.removed) {
    result.failure = "the service was removed";
    return result;
  }
  if (is_job(service.spec())) {
    assess_job(view, node_names, &result);
    return result;
  }
  const bool global = service.spec().has_global();
  std::map<std::pair<uint64_t, std::string>, Slot> slots;
  uint64_t old_running = 0;
  const bool complete = service.update_status().state() == v1::UpdateStatus::COMPLETED ||
                        service.update_status().state() == v1::UpdateStatus::ROLLBACK_COMPLETED;
  for (const auto& [id, task] : view.tasks) {
    if (task.desired_state() == v1::TASK_REMOVE) continue;
    if (global && !node_names.contains(task.node_id())) continue;
    const bool surplus =
        service.spec().has_replicated() && task.slot() > service.spec().replicated().replicas();
    // An update that is complete has left only tasks that need not be replaced.
    const bool outdated = task.revision() != service.revision() && !complete;
    if (outdated || surplus) {
      if (!is_terminal(task.status().state()) && task.desired_state() <= v1::TASK_RUNNING)
        ++old_running;
      continue;
    }
    take(&slots[global ? std::pair<uint64_t, std::string>(0, task.node_id())
                       : std::pair<uint64_t, std::string>(task.slot(), "")],
         task, view.since_version);
  }
  result.wanted = wanted_tasks(view, slots.size());
  for (const auto& [key, slot] : slots) {
    judge_slot(slot, view, &result);
    SlotProgress line;
    line.label = global ? node_names.at(key.second)
                        : fmt::format("{}/{}", slot.shown->slot(), result.wanted);
    line.state = slot.shown->status().state();
    line.text = slot_text(*slot.shown);
    result.slots.push_back(std::move(line));
  }
  result.converged = result.done >= result.wanted && old_running == 0;
  // A global service has no tasks until the orchestrator has seen it.
  if (global && slots.empty() && !node_names.empty()) result.converged = false;
  if (!service.allocation_error().empty() && !result.converged)
    result.blocked = service.allocation_error();
  judge_update(service.update_status(), &result);
  return result;
}

}  // namespace muster::deploy::cli
