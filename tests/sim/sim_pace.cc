#include "tests/sim/sim_pace.h"

#include <fmt/format.h>

#include <variant>

#include "manager/orchestrator/restart_policy.h"
#include "manager/orchestrator/update_plan.h"
#include "manager/store/update_status.h"

namespace muster::sim {

namespace store = manager::store;
using manager::orchestrator::UpdateRules;

namespace {

using TaskPtr = store::Ptr<v1::Task>;

bool keeps_tasks(const v1::Node& node) {
  return node.status().state() != v1::NodeStatus::DOWN &&
         node.spec().availability() != v1::NodeSpec::DRAIN;
}

bool meant_to_run(const v1::Task& task) {
  return task.desired_state() <= v1::TASK_RUNNING;
}

bool is_open(const store::Snapshot& state, const v1::Service& service, uint64_t slot,
             int64_t since_ns) {
  if (slot > service.spec().replicated().replicas()) return false;
  bool alive = false;
  bool over = false;
  state.tasks_of_slot(service.id(), slot, [&](const TaskPtr& task) {
    const v1::TaskStatus& status = task->status();
    const bool fresh = task->meta().created_at_ns() >= since_ns;
    if (fresh && manager::orchestrator::ended_by_itself(status.state())) over = true;
    // It came up, and had to leave its node in the same entry.
    const auto node = state.get<v1::Node>(task->node_id());
    if (fresh && status.state() == v1::TASK_RUNNING && node != nullptr && !keeps_tasks(*node)) {
      over = true;
    }
    if (!meant_to_run(*task)) return true;
    alive = true;
    if (status.state() == v1::TASK_RUNNING) over = true;
    if (status.state() <= v1::TASK_PENDING && !status.error().empty()) over = true;
    return true;
  });
  return alive && !over;
}

// The tasks of a slot for whoever looks into a failed seed.
std::string describe(const store::Snapshot& state, const std::string& service_id, uint64_t slot,
                     int64_t since_ns) {
  std::string out = fmt::format("\n slot {} since {}", slot, since_ns / 1'000'000);
  state.tasks_of_slot(service_id, slot, [&](const TaskPtr& task) {
    out += fmt::format(
        "\n  {} rev {} {} at {} wanted {} made {} starts {} node {}: {}", task->id().substr(0, 6),
        task->revision(), v1::TaskState_Name(task->status().state()),
        task->status().applied_at_ns() / 1'000'000, v1::TaskState_Name(task->desired_state()),
        task->meta().created_at_ns() / 1'000'000, task->start_after_ns() / 1'000'000,
        task->node_id(), task->status().error());
    return true;
  });
  return out;
}

}  // namespace

void SimPace::settle(const std::string& service_id, const store::Snapshot& state) {
  const auto known = open_.find(service_id);
  if (known == open_.end()) return;
  const auto service = state.get<v1::Service>(service_id);
  if (service == nullptr) {
    open_.erase(known);
    return;
  }
  std::erase_if(known->second, [&](const auto& slot) {
    return !is_open(state, *service, slot.first, slot.second);
  });
}

void SimPace::taken(const v1::Task& before, const v1::Task& after, const store::Snapshot& state) {
  const auto service = state.get<v1::Service>(after.service_id());
  const auto node = state.get<v1::Node>(before.node_id());
  if (service == nullptr || node == nullptr) return;
  const bool updates =
      store::is_unfinished(service->update_status()) || after.revision() != service->revision();
  bool other = false;
  state.tasks_of_service(service->id(), [&](const TaskPtr& task) {
    const bool same =
        task->slot() == after.slot() && (task->slot() != 0 || task->node_id() == after.node_id());
    other |= same && task->id() != after.id() && meant_to_run(*task) &&
             task->status().state() == v1::TASK_RUNNING;
    return true;
  });
  if (!updates && !other && after.status().error().empty()) {
    broken_(fmt::format("task {} is told to stop and not why", after.name()));
  }
  const bool voluntary = keeps_tasks(*node) && !came_back_.contains(node->id());
  if (!voluntary || other || !service->spec().has_replicated()) return;
  open_[service->id()].emplace(after.slot(), after.meta().updated_at_ns());
  added_[service->id()].insert(after.slot());
}

void SimPace::on_commit(const store::CommitEvent& event) {
  added_.clear();
  came_back_.clear();
  for (const store::AnyChange& any : *event.changes) {
    const auto* node = std::get_if<store::Change<v1::Node>>(&any);
    if (node == nullptr || node->before == nullptr || keeps_tasks(*node->before)) continue;
    came_back_.insert(node->before->id());
  }
  std::set<std::string> touched;
  for (const store::AnyChange& any : *event.changes) {
    if (const auto* service = std::get_if<store::Change<v1::Service>>(&any)) {
      touched.insert(service->after != nullptr ? service->after->id() : service->before->id());
      continue;
    }
    const auto* change = std::get_if<store::Change<v1::Task>>(&any);
    if (change == nullptr) continue;
    touched.insert((change->after != nullptr ? change->after : change->before)->service_id());
    if (change->before == nullptr || change->after == nullptr) continue;
    const bool told =
        meant_to_run(*change->before) && change->after->desired_state() == v1::TASK_SHUTDOWN;
    if (told && change->before->status().state() == v1::TASK_RUNNING &&
        change->after->status().state() == v1::TASK_RUNNING) {
      taken(*change->before, *change->after, event.after);
    }
  }
  for (const std::string& id : touched) settle(id, event.after);
  for (const auto& [id, slots] : added_) {
    const auto service = event.after.get<v1::Service>(id);
    const auto open = open_.find(id);
    if (service == nullptr || open == open_.end()) continue;
    const uint64_t most = UpdateRules::of(*service).parallelism;
    if (clocks_differ_ || most == 0 || open->second.size() <= most) continue;
    std::string text;
    for (const auto& [slot, since] : open->second) text += describe(event.after, id, slot, since);
    broken_(
        fmt::format("{} slots of {} (revision {}, {}) have no running task, {} may{}",
                    open->second.size(), service->spec().annotations().name(), service->revision(),
                    v1::UpdateStatus::State_Name(service->update_status().state()), most, text));
  }
}

}  // namespace muster::sim
