#include "scheduler/placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace muster::scheduler {

void Placer::load_counts(ShapeIndex shape) {
  counts_.assign(state_.nodes().size(), 0);
  if (const auto* counts = state_.service_tasks(shape)) {
    for (const auto& [node, tasks] : *counts) counts_[node] = tasks;
  }
}

std::string Placer::explain() const {
  Pipeline::Explanation explanation(pipeline_);
  for (const NodeInfo& node : state_.nodes()) {
    if (node.present) explanation.add(candidate(node));
  }
  return explanation.text();
}

void Placer::give_up(std::span<const TaskPtr> tasks, std::string reason, Plan& plan) {
  if (tasks.empty()) return;
  if (plan.reasons.empty() || plan.reasons.back() != reason) {
    plan.reasons.push_back(std::move(reason));
  }
  const auto index = static_cast<uint32_t>(plan.reasons.size() - 1);
  for (const TaskPtr& task : tasks) plan.unplaced.push_back({task, index});
}

void Placer::confirm(ShapeIndex index, TaskPtr& task, Plan& plan) {
  const NodeIndex at = state_.find_node(task->node_id());
  if (at == kNoIndex || !state_.nodes()[at].present) {
    give_up({&task, 1},
            fmt::format("no suitable node (1 node not available for new tasks): "
                        "node {} is not in the swarm",
                        task->node_id()),
            plan);
    return;
  }
  const NodeInfo& node = state_.nodes()[at];
  if (!pipeline_.check(candidate(node))) {
    Pipeline::Explanation explanation(pipeline_);
    explanation.add(candidate(node));
    give_up({&task, 1}, explanation.text(), plan);
    return;
  }
  auto generics = node.pick_generics(*state_.shape(index));
  state_.assume(task, index, at, generics);
  ++counts_[at];
  plan.decisions.push_back({std::move(task), at, true, std::move(generics)});
}

// Returns how many of the tasks found a node.
size_t Placer::place_spread(const TaskShape& shape, ShapeIndex index, std::span<TaskPtr> tasks,
                            WallTime now, Plan& plan) {
  const auto& nodes = state_.nodes();
  failures_.assign(nodes.size(), 0);
  for (const auto& [node, failures] : state_.recent_failures(index, now)) {
    if (failures >= ClusterState::kFailuresToAvoid) failures_[node] = failures;
  }
  std::vector<RankedNode> feasible;
  feasible.reserve(nodes.size());
  for (const NodeInfo& node : nodes) {
    if (!node.present || !pipeline_.check(candidate(node))) continue;
    feasible.push_back({failures_[node.index], counts_[node.index], node.active_tasks,
                        node.load_permille(), node.rank, node.index});
  }
  const auto layout = state_.columns().layout(shape.spread, nodes);
  SpreadTree tree(*layout, std::move(feasible), state_.service_tasks(index));
  size_t placed = 0;
  for (; placed < tasks.size() && !tree.empty(); ++placed) {
    RankedNode& best = tree.top();
    const NodeInfo& node = nodes[best.node];
    std::vector<v1::GenericResource> generics;
    if (!shape.generics.empty()) generics = node.pick_generics(shape);
    state_.assume(tasks[placed], index, best.node, generics);
    plan.decisions.push_back({std::move(tasks[placed]), best.node, false, std::move(generics)});
    // Tasks without a service are no replicas of one another.
    if (!shape.service_id.empty()) best.service_tasks = ++counts_[best.node];
    best.active_tasks = node.active_tasks;
    best.load_permille = node.load_permille();
    tree.placed(pipeline_.check(candidate(node)));
  }
  return placed;
}

void Placer::place_group(PendingQueue::Group& group, std::span<TaskPtr> tasks, WallTime now,
                         Plan& plan) {
  const TaskShape* known = state_.shape(group.shape);
  if (known == nullptr) {
    const v1::Task& any = *tasks.front();
    give_up(tasks,
            fmt::format("no suitable node: revision {} of service {} is missing", any.revision(),
                        any.service_id()),
            plan);
    return;
  }
  // The group keeps the shape, but the state's table of shapes must not move while it is in use.
  const TaskShape shape = *known;
  pipeline_.set_group(shape, state_);
  load_counts(group.shape);
  if (group.preassigned) {
    for (TaskPtr& task : tasks) confirm(group.shape, task, plan);
    return;
  }
  const size_t placed = place_spread(shape, group.shape, tasks, now, plan);
  if (placed < tasks.size()) give_up(tasks.subspan(placed), explain(), plan);
}

Plan Placer::round(WallTime now, size_t max_tasks) {
  Plan plan;
  state_.refresh_ranks();
  size_t budget = max_tasks;
  for (PendingQueue::Group* group : queue_.due()) {
    if (budget == 0) break;
    std::vector<TaskPtr> tasks = queue_.take_tasks(*group);
    // Given nodes are only checked, which is cheap; cutting there would check the first for ever.
    const size_t share = group->preassigned ? tasks.size() : std::min(budget, tasks.size());
    const std::span<TaskPtr> now_tasks(tasks.data(), share);
    const size_t first_decision = plan.decisions.size();
    const size_t first_unplaced = plan.unplaced.size();
    place_group(*group, now_tasks, now, plan);
    budget -= std::min(budget, share);
    for (size_t i = first_decision; i < plan.decisions.size(); ++i) {
      queue_.remove(plan.decisions[i].task->id());
    }
    // What is left of an interrupted group waits for the next round; unless there is no room, and
    // then the rest shares the fate.
    const bool stuck = plan.unplaced.size() > first_unplaced && !group->preassigned;
    const bool interrupted = now_tasks.size() < tasks.size();
    if (interrupted && stuck) {
      for (size_t i = now_tasks.size(); i < tasks.size(); ++i) {
        plan.unplaced.push_back({tasks[i], static_cast<uint32_t>(plan.reasons.size() - 1)});
      }
    }
    group->due = interrupted && !stuck;
    std::erase(tasks, nullptr);
    queue_.give_back(*group, std::move(tasks));
  }
  queue_.sweep();
  return plan;
}

void Placer::wake() {
  ClusterState::Changes changes = state_.take_changes();
  if (changes.nodes || changes.revisions) {
    queue_.make_all_due();
    return;
  }
  if (changes.freed.empty()) return;
  std::sort(changes.freed.begin(), changes.freed.end());
  changes.freed.erase(std::unique(changes.freed.begin(), changes.freed.end()), changes.freed.end());
  for (PendingQueue::Group* group : queue_.stuck()) {
    const TaskShape* shape = state_.shape(group->shape);
    if (shape == nullptr) continue;
    pipeline_.set_group(*shape, state_);
    load_counts(group->shape);
    group->due = std::any_of(changes.freed.begin(), changes.freed.end(), [&](NodeIndex index) {
      const NodeInfo& node = state_.nodes()[index];
      return node.present && pipeline_.check(candidate(node));
    });
  }
}

}  // namespace muster::scheduler
