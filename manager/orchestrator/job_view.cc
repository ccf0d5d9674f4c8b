// From the store to a job's plan and back.
#include <google/protobuf/util/message_differencer.h>

#include <map>

#include "manager/orchestrator/job_plan.h"
#include "manager/orchestrator/slot_plan.h"

namespace muster::manager::orchestrator {
namespace {

JobAttempt attempt_of(const ServiceContext& context, const TaskPtr& task) {
  JobAttempt attempt;
  attempt.task = task;
  const ServiceContext::Place place = context.place(*task);
  attempt.moved = place != ServiceContext::Place::kNone && place != ServiceContext::Place::kFine;
  if (attempt.moved) attempt.why = context.why_leaves(*task);
  attempt.stopped = context.stopped(*task);
  attempt.forgettable = forgettable(*task, context.state);
  return attempt;
}

void collect_slots(const ServiceContext& context, JobView& view) {
  std::map<std::pair<uint64_t, std::string>, JobSlot> slots;
  if (view.global) {
    context.state.each<v1::Node>([&](const store::Ptr<v1::Node>& node) {
      JobSlot& slot = slots[{0, node->id()}];
      slot.node_id = node->id();
      slot.takes = context.node_takes(*node);
      return true;
    });
  }
  context.state.tasks_of_service(context.service->id(), [&](const TaskPtr& task) {
    JobAttempt attempt = attempt_of(context, task);
    const std::pair<uint64_t, std::string> key(task->slot(),
                                               view.global ? task->node_id() : std::string());
    const bool present = task->job_iteration() == view.status.iteration() &&
                         task->desired_state() < v1::TASK_REMOVE &&
                         (view.global ? slots.contains(key) : task->slot() < view.total);
    if (!present) {
      view.earlier.push_back(std::move(attempt));
      return true;
    }
    JobSlot& slot = slots[key];
    slot.number = task->slot();
    slot.attempts.push_back(std::move(attempt));
    return true;
  });
  view.slots.reserve(slots.size());
  for (auto& [key, slot] : slots) view.slots.push_back(std::move(slot));
}

JobView view_of(const ServiceContext& context) {
  const v1::ServiceSpec& spec = context.service->spec();
  JobView view;
  view.global = spec.has_global_job();
  view.total = spec.replicated_job().total_completions();
  view.concurrent = spec.replicated_job().max_concurrent();
  view.restart = context.restart;
  if (view.restart.condition == v1::RestartPolicy::ANY) {
    view.restart.condition = v1::RestartPolicy::ON_FAILURE;
  }
  view.history = context.history;
  view.history_slots = context.cluster_history;
  view.stop_wait = context.stop_wait();
  view.status = context.service->job_status();
  collect_slots(context, view);
  return view;
}

}  // namespace

bool plan_job(const ServiceContext& context, size_t changes_max, Plan& plan) {
  JobVerdict verdict = judge_job(view_of(context), context.now, changes_max);
  for (const JobVerdict::Start& start : verdict.starts) {
    v1::Task task = context.new_task(start.slot, start.node_id,
                                     start.at_once() ? v1::TASK_COMPLETE : v1::TASK_READY);
    task.set_job_iteration(verdict.status.iteration());
    task.set_start_after_ns(start.after.unix_ns);
    plan.create.push_back(std::move(task));
  }
  for (v1::Task& task : verdict.update) plan.update.push_back(std::move(task));
  for (const TaskPtr& task : verdict.remove) plan.remove.push_back(task->id());
  using google::protobuf::util::MessageDifferencer;
  if (!MessageDifferencer::Equals(verdict.status, context.service->job_status())) {
    plan.service = *context.service;
    *plan.service->mutable_job_status() = std::move(verdict.status);
  }
  if (verdict.wake) plan.wake_at(*verdict.wake);
  return verdict.complete;
}

}  // namespace muster::manager::orchestrator
