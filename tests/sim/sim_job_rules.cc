// What must hold of jobs in a simulated cluster.
#include <fmt/format.h>

#include <map>
#include <set>

#include "manager/store/job_status.h"
#include "tests/sim/sim_rules.h"

namespace muster::sim {

namespace store = manager::store;
using TaskPtr = store::Ptr<v1::Task>;

namespace {

constexpr int64_t kEndedMax = 4;  // the history of 3, and the completion

bool is_live(const v1::Task& task) {
  return task.desired_state() <= v1::TASK_COMPLETE && task.status().state() <= v1::TASK_RUNNING;
}

// 0: no limit.
uint64_t concurrency(const v1::Service& service) {
  return service.spec().replicated_job().max_concurrent();
}

bool has_ended(const v1::JobStatus& status) {
  return status.state() != v1::JobStatus::RUNNING;
}

}  // namespace

// After each commit that changes a task of a job: one attempt a slot, never more slots at a time
// than may be, and nothing is begun that has completed.
void SimRules::check_job(const store::Snapshot& state, const v1::Task& task, bool fresh) {
  const auto service = state.get<v1::Service>(task.service_id());
  if (service == nullptr) return;
  const v1::JobStatus& status = service->job_status();
  if (task.job_iteration() != status.iteration()) return;
  const bool replicated = service->spec().has_replicated_job();
  std::map<std::string, int> live;
  std::set<std::string> done;
  state.tasks_of_service(service->id(), [&](const TaskPtr& other) {
    if (other->job_iteration() != status.iteration()) return true;
    if (is_live(*other)) ++live[other->name()];
    // Before this entry: what begins and what reports may share one.
    const auto was = before_.get<v1::Task>(other->id());
    if (was != nullptr && was->status().state() == v1::TASK_COMPLETE) done.insert(other->name());
    return true;
  });
  for (const auto& [name, count] : live) {
    if (count > 1) broken_(fmt::format("{} attempts of {} at a time", count, name));
  }
  const uint64_t most = concurrency(*service);
  if (replicated && most != 0 && live.size() > most) {
    broken_(fmt::format("{} tasks of job {} at a time, {} may be", live.size(),
                        service->spec().annotations().name(), most));
  }
  if (!fresh) return;
  if (done.contains(task.name()) ||
      (replicated && store::range_of(status.collected_completed(), task.slot()) != nullptr)) {
    broken_(fmt::format("{} has completed and is begun again", task.name()));
  }
  if (replicated && task.slot() >= service->spec().replicated_job().total_completions()) {
    broken_(fmt::format("{} is beyond the job's completions", task.name()));
  }
}

// When a container of a replicated job starts: with what still runs of earlier iterations there are
// no more than may be.
void SimRules::check_job_start(const SimHost& host, const SimHost::Container& container,
                               const store::Snapshot& state) const {
  const auto service = state.get<v1::Service>(container.task.service_id());
  if (service == nullptr || concurrency(*service) == 0) return;
  if (container.task.job_iteration() != service->job_status().iteration()) return;
  if (was_lost(host, container.task, state)) return;
  uint64_t alive = 1;
  for (const auto& other_host : hosts_) {
    for (const auto& [id, other] : other_host->tasks()) {
      const bool counts = other.alive && id != container.task.id() &&
                          other.task.service_id() == container.task.service_id() &&
                          !may_overlap(*other_host, other, state);
      if (counts) ++alive;
    }
  }
  if (alive > concurrency(*service)) {
    broken_(fmt::format("{} containers of job {} run, {} may", alive,
                        service->spec().annotations().name(), concurrency(*service)));
  }
}

// Every job has ended, or something of it says why it does not go on.
Status SimRules::check_job_settled(const store::Snapshot& state, const v1::Service& service) const {
  const std::string& name = service.spec().annotations().name();
  const v1::JobStatus& status = service.job_status();
  std::map<std::string, int64_t> ended;
  std::set<std::string> done;
  std::set<std::string> given_up;
  bool says_why = !status.message().empty();
  Status trouble;
  state.tasks_of_service(service.id(), [&](const TaskPtr& task) {
    if (task->job_iteration() != status.iteration()) {
      trouble = internal_error("{} is of an earlier iteration", task->name());
    } else if (task->status().state() == v1::TASK_COMPLETE) {
      done.insert(task->name());
      ++ended[task->name()];
    } else if (task->status().state() > v1::TASK_RUNNING) {
      given_up.insert(task->name());
      ++ended[task->name()];
    } else if (task->desired_state() > v1::TASK_COMPLETE) {
      trouble = internal_error("task {} is not stopped", task->name());
    } else if (task->status().state() > v1::TASK_PENDING || task->status().error().empty()) {
      trouble = internal_error("task {} of a job is {} and does not say why", task->name(),
                               v1::TaskState_Name(task->status().state()));
    } else {
      says_why = true;
    }
    return trouble.ok();
  });
  MUSTER_TRY(trouble);
  for (const auto& [task, count] : ended) {
    if (count > kEndedMax) return internal_error("{} keeps {} ended tasks", task, count);
  }
  if (!has_ended(status) && !says_why) return internal_error("job {} does not end", name);
  if (status.state() == v1::JobStatus::FAILED &&
      (status.failed() == 0 || status.message().empty())) {
    return internal_error("job {} has failed and does not say why", name);
  }
  if (!service.spec().has_replicated_job() || !has_ended(status)) return ok_status();
  const uint64_t total = service.spec().replicated_job().total_completions();
  const uint64_t completed = done.size() + store::slots_in(status.collected_completed());
  if (completed + status.failed() != total) {
    return internal_error("job {} has ended with {} of {} completions and {} failures", name,
                          completed, total, status.failed());
  }
  return ok_status();
}

}  // namespace muster::sim
