#include <algorithm>

#include "deploy/cli/names.h"
#include "deploy/cli/progress.h"

namespace muster::deploy::cli {
namespace {

// The tasks of one slot, or of one node for global jobs.
struct JobSlot {
  const v1::Task* newest = nullptr;
  const v1::Task* live = nullptr;
  int failures = 0;  // since the waiting began
  bool done = false;
};

bool failed(const v1::Task& task) {
  return task.status().state() == v1::TASK_FAILED || task.status().state() == v1::TASK_REJECTED;
}

void take(JobSlot* slot, const v1::Task& task, uint64_t since_version) {
  if (failed(task) && task.meta().version() > since_version) ++slot->failures;
  slot->done = slot->done || task.status().state() == v1::TASK_COMPLETE;
  const auto age = [](const v1::Task& t) {
    return std::pair(t.meta().created_at_ns(), t.meta().version());
  };
  if (slot->newest == nullptr || age(task) > age(*slot->newest)) slot->newest = &task;
  if (task.desired_state() <= v1::TASK_COMPLETE && task.status().state() <= v1::TASK_RUNNING)
    slot->live = &task;
}

std::string text_of(const JobSlot& slot) {
  if (slot.done) return "complete";
  const v1::Task& task = slot.live != nullptr ? *slot.live : *slot.newest;
  std::string text = state_name(task.status().state());
  if (!task.status().error().empty())
    text += ": " + task.status().error();
  else if (task.status().state() == v1::TASK_PREPARING && !task.status().message().empty())
    text += ": " + task.status().message();
  return text;
}

uint64_t collected(const v1::JobStatus& status) {
  uint64_t count = 0;
  for (const auto& range : status.collected_completed()) count += range.last() - range.first() + 1;
  return count;
}

// What waits for a node is blocked only when nothing else of the job goes on: with few nodes or
// large reservations, tasks queue for their turn.
std::string blocked_by(const std::map<std::pair<uint64_t, std::string>, JobSlot>& slots) {
  std::string reason;
  for (const auto& [key, slot] : slots) {
    if (slot.live == nullptr) continue;
    if (slot.live->status().state() > v1::TASK_PENDING) return {};
    if (reason.empty()) reason = slot.live->status().error();
  }
  return reason;
}

// A job that is tried again without end would be waited for without end.
std::string fails_again_and_again(const std::map<std::pair<uint64_t, std::string>, JobSlot>& slots,
                                  const v1::ServiceSpec& spec) {
  if (spec.task().restart().max_attempts() > 0) return {};
  for (const auto& [key, slot] : slots) {
    if (slot.done || slot.failures < kFailuresCertain || !failed(*slot.newest)) continue;
    const auto& status = slot.newest->status();
    return fmt::format("task {} failed {} times: {} (muster goes on trying)", slot.newest->name(),
                       slot.failures, status.error().empty() ? status.message() : status.error());
  }
  return {};
}

}  // namespace

void assess_job(const ServiceView& view, const std::map<std::string, std::string>& node_names,
                Assessment* result) {
  const v1::Service& service = view.service;
  const v1::JobStatus& status = service.job_status();
  const bool global = service.spec().has_global_job();
  std::map<std::pair<uint64_t, std::string>, JobSlot> slots;
  for (const auto& [id, task] : view.tasks) {
    if (task.job_iteration() != status.iteration()) continue;
    if (task.desired_state() == v1::TASK_REMOVE) continue;
    if (global && !node_names.contains(task.node_id())) continue;
    take(&slots[global ? std::pair<uint64_t, std::string>(0, task.node_id())
                       : std::pair<uint64_t, std::string>(task.slot(), "")],
         task, view.since_version);
  }
  result->job = true;
  result->done = collected(status);
  for (const auto& [key, slot] : slots) {
    if (slot.done) ++result->done;
    if (slot.live != nullptr && !slot.done) ++result->active;
  }
  if (global) {
    result->wanted = result->done + result->active + status.failed();
    result->active_wanted = result->active;
  } else {
    const auto& job = service.spec().replicated_job();
    result->wanted = job.total_completions();
    const uint64_t most = job.max_concurrent() == 0 ? result->wanted : job.max_concurrent();
    result->active_wanted = std::min(result->wanted - std::min(result->wanted, result->done), most);
  }
  for (const auto& [key, slot] : slots) {
    if (slot.done && result->wanted > kSlotLinesMax) continue;  // the lines are for what goes on
    SlotProgress line;
    line.label =
        global ? node_names.at(key.second) : fmt::format("{}/{}", key.first + 1, result->wanted);
    line.state = slot.done ? v1::TASK_COMPLETE : slot.newest->status().state();
    line.text = text_of(slot);
    result->slots.push_back(std::move(line));
  }
  result->converged = status.state() == v1::JobStatus::COMPLETED;
  if (status.failed() > 0) {
    result->failure = status.message();
    if (status.state() == v1::JobStatus::RUNNING) result->failure += " (its other tasks go on)";
  } else if (result->failure.empty() && !result->converged) {
    result->failure = fails_again_and_again(slots, service.spec());
    result->blocked = !service.allocation_error().empty() ? service.allocation_error()
                      : !status.message().empty()         ? status.message()
                                                          : blocked_by(slots);
  }
}

}  // namespace muster::deploy::cli
