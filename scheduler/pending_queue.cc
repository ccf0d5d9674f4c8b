#include "scheduler/pending_queue.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace muster::scheduler {

PendingQueue::~PendingQueue() {
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

  Member* known = members_.find(task->id());
  if (known != nullptr && known->group == &group) {
    known->task = task;
  } else {
    if (known != nullptr) remove(task->id());
    members_.insert(Member{task, &group});
    ++group.live;
    group.due = true;
    group.oldest_ns = std::min(group.oldest_ns, task->meta().created_at_ns());
  }
  if (group.tasks.size() > 2 * group.live + 64) tidy(group);
  group.tasks.push_back(task);
}

void PendingQueue::remove(std::string_view task_id) {
  const Member* member = members_.find(task_id);
  if (member == nullptr) return;
  Group& group = *member->group;
  members_.erase(task_id);
  if (--group.live == 0) group.tasks.clear();
}

void PendingQueue::make_due(std::string_view task_id) {
  if (const Member* member = members_.find(task_id)) member->group->due = true;
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
    tidy(*group);
    const v1::Task& any = *group->tasks.front();
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

void PendingQueue::tidy(Group& group) {
  if (group.tasks.size() == group.live) return;  // nothing was replaced or removed
  std::erase_if(group.tasks, [&](const TaskPtr& task) {
    const Member* member = members_.find(task->id());
    return member == nullptr || member->task != task;
  });
}

std::vector<TaskPtr> PendingQueue::take_tasks(Group& group) {
  tidy(group);
  auto in_order = [](const TaskPtr& a, const TaskPtr& b) {
    return a->slot() != b->slot() ? a->slot() < b->slot() : a->id() < b->id();
  };
  if (!std::is_sorted(group.tasks.begin(), group.tasks.end(), in_order)) {
    std::sort(group.tasks.begin(), group.tasks.end(), in_order);
  }
  return std::exchange(group.tasks, {});
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
