#include "manager/orchestrator/node_fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "scheduler/filters/platform.h"
#include "scheduler/words.h"

namespace muster::manager::orchestrator {
namespace {

using TaskPtr = store::Ptr<v1::Task>;

// What a node has left while its tasks are gone through.
class Room {
 public:
  explicit Room(const v1::Resources& totals)
      : knows_cpus_(totals.nano_cpus() > 0),
        knows_memory_(totals.memory_bytes() > 0),
        nano_cpus_(totals.nano_cpus()),
        memory_(totals.memory_bytes()) {
    for (const auto& generic : totals.generic()) {
      if (generic.names_size() == 0) amounts_[generic.kind()] += generic.count();
      for (const std::string& name : generic.names()) names_.emplace(generic.kind(), name);
    }
  }

  // Why the task is not covered; empty when it is.
  std::string lacks(const v1::Resources& reserved, const v1::Task& task) const {
    if (knows_cpus_ && reserved.nano_cpus() > nano_cpus_) {
      return fmt::format("node no longer has enough CPUs: {} reserved, {} left",
                         scheduler::cpus_text(reserved.nano_cpus()),
                         scheduler::cpus_text(nano_cpus_));
    }
    if (knows_memory_ && reserved.memory_bytes() > memory_) {
      return fmt::format("node no longer has enough memory: {} reserved, {} left",
                         scheduler::bytes_text(reserved.memory_bytes()),
                         scheduler::bytes_text(memory_));
    }
    for (const auto& generic : task.assigned_generic()) {
      for (const std::string& name : generic.names()) {
        if (!names_.contains({generic.kind(), name})) {
          return fmt::format("node no longer offers {} {}", generic.kind(), name);
        }
      }
      const int64_t left = amount(generic.kind());
      if (generic.names_size() == 0 && generic.count() > left) {
        return fmt::format("node no longer has enough of {}: {} reserved, {} left", generic.kind(),
                           generic.count(), left);
      }
    }
    return {};
  }

  void take(const v1::Resources& reserved, const v1::Task& task) {
    nano_cpus_ -= reserved.nano_cpus();
    memory_ -= reserved.memory_bytes();
    for (const auto& generic : task.assigned_generic()) {
      if (generic.names_size() == 0) amounts_[generic.kind()] -= generic.count();
    }
  }

 private:
  int64_t amount(const std::string& kind) const {
    const auto at = amounts_.find(kind);
    return at == amounts_.end() ? 0 : at->second;
  }

  bool knows_cpus_;
  bool knows_memory_;
  int64_t nano_cpus_;
  int64_t memory_;
  std::map<std::string, int64_t> amounts_;
  std::set<std::pair<std::string, std::string>> names_;
};

bool older(const TaskPtr& a, const TaskPtr& b) {
  if (a->meta().created_at_ns() != b->meta().created_at_ns()) {
    return a->meta().created_at_ns() < b->meta().created_at_ns();
  }
  return a->id() < b->id();
}

bool reserves(const v1::Resources& resources) {
  return resources.nano_cpus() > 0 || resources.memory_bytes() > 0 || resources.generic_size() > 0;
}

}  // namespace

Crowded crowded_out(const store::Snapshot& state, const v1::Node& node) {
  // Many tasks share a revision; most reserve nothing.
  std::map<std::string, store::Ptr<v1::Revision>> revisions;
  std::vector<std::pair<TaskPtr, const v1::Resources*>> holders;
  state.tasks_of_node(node.id(), [&](const TaskPtr& task) {
    const v1::TaskState observed = task->status().state();
    if (observed < v1::TASK_ASSIGNED || observed > v1::TASK_RUNNING) return true;
    if (task->desired_state() > v1::TASK_COMPLETE) return true;
    const std::string id = store::revision_id(task->service_id(), task->revision());
    auto [known, fresh] = revisions.try_emplace(id);
    if (fresh) known->second = state.get<v1::Revision>(id);
    if (known->second == nullptr) return true;
    const v1::Resources& reserved = known->second->spec().resources().reservations();
    if (reserves(reserved)) holders.emplace_back(task, &reserved);
    return true;
  });
  std::sort(holders.begin(), holders.end(),
            [](const auto& a, const auto& b) { return older(a.first, b.first); });
  Crowded out;
  Room room(node.description().resources());
  for (const auto& [task, reserved] : holders) {
    std::string reason = room.lacks(*reserved, *task);
    if (reason.empty()) {
      room.take(*reserved, *task);
    } else {
      out.emplace(task->id(), std::move(reason));
    }
  }
  return out;
}

std::string broken_constraint(const std::vector<scheduler::Constraint>& constraints,
                              const v1::Node& node) {
  if (constraints.empty()) return {};
  const scheduler::NodeFacts facts = scheduler::facts_of(node);
  for (const scheduler::Constraint& constraint : constraints) {
    if (constraint.matches(facts)) continue;
    return fmt::format("node no longer satisfies constraint {}: {}", constraint.words(),
                       constraint.finding(facts));
  }
  return {};
}

std::string wrong_platform(const v1::Placement& placement, const v1::Node& node) {
  const v1::Platform& has = node.description().platform();
  if (placement.platforms_size() == 0 || (has.os().empty() && has.architecture().empty())) {
    return {};
  }
  for (const v1::Platform& wanted : placement.platforms()) {
    if (scheduler::runs_on(wanted, has.os(), has.architecture())) return {};
  }
  return fmt::format("the image is not built for {}/{}", has.os(), has.architecture());
}

}  // namespace muster::manager::orchestrator
