#include "scheduler/pending_queue.h"

#include <algorithm>
#include <tuple>

namespace muster::scheduler {

PendingQueue::~PendingQueue() {
  members_.clear();
  for (auto& [key, group] : groups_) state_.release_shape(group->shape);
}

void PendingQueue::put(const TaskPtr& task) {
  const bool waits =
      task->status().state() == v1::TASK_PENDING && task->desired_state() <= v1::TASK_COMPLETE;
  if (!waits) {
    remove(task->id());
    return;
  }
  const ShapeIndex shape = state_.retain_shape(task->service_id(), task->revision());
  auto [slot, fresh] = groups_.try_emplace({shape, !task->node_id().empty()});
  if (fresh) {
    slot->second = std::make_unique<Group>();
    slot->second->shape = shape;
    slot->second->preassigned = !task->node_id().empty();
  } else {
    state_.release_shape(shape);  // the group holds on to it already
  }
  Group& group = *slot->second;

  auto known = members_.find(task->id());
  if (known != members_.end() && known->second.group == &group) {
    auto moved = members_.extract(known);
    moved.key() = task->id();
    moved.mapped().task = task;
    members_.insert(std::move(moved));
  } else {
    if (known != members_.end()) remove(task->id());
    members_.emplace(task->id(), Member{task, &group});
    ++group.live;
    group.due = true;
    group.oldest_ns = std::min(group.oldest_ns, task->meta().created_at_ns());
  }
  if (group.tasks.size() > 2 * group.live + 64) live_tasks(group);
  group.tasks.push_back(task);
}

void PendingQueue::remove(std::string_view task_id) {
  auto at = members_.find(task_id);
  if (at == members_.end()) return;
  Group& group = *at->second.group;
  members_.erase(at);
  if (--group.live == 0) group.tasks.clear();
}

void PendingQueue::make_due(std::string_view task_id) {
  auto at = members_.find(task_id);
  if (at != members_.end()) at->second.group->due = true;
}

void PendingQueue::make_all_due() {
  for (auto& [key, group] : groups_) group->due = group->live > 0;
}

bool PendingQueue::any_due() const {
  return std::any_of(groups_.begin(), groups_.end(),
                     [](const auto& entry) { return entry.second->due && entry.second->live > 0; });
}

std::vector<PendingQueue::Group*> PendingQueue::due() {
  struct Order {
    Group* group;
    std::string_view service;
    uint64_t revision;
    auto key() const {
      return std::tuple(!group->preassigned, group->oldest_ns, service, revision);
    }
  };
  std::vector<Order> order;
  for (auto& [key, group] : groups_) {
    if (!group->due || group->live == 0) continue;
    const v1::Task& any = *live_tasks(*group).front();
    order.push_back({group.get(), any.service_id(), any.revision()});
  }
  std::sort(order.begin(), order.end(),
            [](const Order& a, const Order& b) { return a.key() < b.key(); });
  std::vector<Group*> groups;
  groups.reserve(order.size());
  for (const Order& o : order) groups.push_back(o.group);
  return groups;
}

std::vector<PendingQueue::Group*> PendingQueue::stuck() {
  std::vector<Group*> groups;
  for (auto& [key, group] : groups_) {
    if (!group->due && group->live > 0) groups.push_back(group.get());
  }
  return groups;
}

const std::vector<TaskPtr>& PendingQueue::live_tasks(Group& group) {
  auto& tasks = group.tasks;
  if (tasks.size() != group.live) {
    std::erase_if(tasks, [&](const TaskPtr& task) {
      auto at = members_.find(task->id());
      return at == members_.end() || at->second.task != task;
    });
  }
  auto in_order = [](const TaskPtr& a, const TaskPtr& b) {
    return a->slot() != b->slot() ? a->slot() < b->slot() : a->id() < b->id();
  };
  if (!std::is_sorted(tasks.begin(), tasks.end(), in_order)) {
    std::sort(tasks.begin(), tasks.end(), in_order);
  }
  return tasks;
}

void PendingQueue::sweep() {
  for (auto at = groups_.begin(); at != groups_.end();) {
    if (at->second->live > 0) {
      ++at;
      continue;
    }
    state_.release_shape(at->second->shape);
    at = groups_.erase(at);
  }
}

}  // namespace muster::scheduler
