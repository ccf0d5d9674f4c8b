#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "scheduler/cluster_state.h"

namespace muster::scheduler {

// The tasks that wait for a node, in groups that are placed together: tasks of one (service,
// revision) are equal; those whose node is given already (global services) form groups of their
// own. Tasks without a service are equal, too, and form one group.
//
// A group is `due` when something new may be said about it: it has got a task, or what kept it
// waiting may have changed (the caller says so, see Placer). Same ownership as ClusterState.
class PendingQueue {
 public:
  struct Group {
    ShapeIndex shape = kNoIndex;
    bool preassigned = false;
    bool due = false;
    int64_t oldest_ns = INT64_MAX;  // creation of the oldest task it has had
    size_t live = 0;
    std::vector<TaskPtr> tasks;  // may hold outdated entries until tidied
  };

  // `state` must outlive the queue.
  explicit PendingQueue(ClusterState& state) : state_(state) {}
  ~PendingQueue();
  PendingQueue(const PendingQueue&) = delete;
  PendingQueue& operator=(const PendingQueue&) = delete;

  // Takes the newest form of a task: it is in the queue afterwards if it is PENDING and still
  // wanted. A new form of a task that is already waiting does not make its group due.
  void put(const TaskPtr& task);
  void remove(std::string_view task_id);
  bool contains(std::string_view task_id) const { return members_.find(task_id) != nullptr; }
  size_t size() const { return members_.size(); }

  // No effect when the task does not wait.
  void make_due(std::string_view task_id);
  void make_all_due();
  bool any_due() const;
  // Due groups in the order they are to be served: given nodes first, then the longest waiting.
  std::vector<Group*> due();
  // Groups that wait without being due.
  std::vector<Group*> stuck();
  // Takes its tasks out of the group, in the order of slot and id. Those that got a node leave the
  // queue with remove(), the others come back with give_back().
  std::vector<TaskPtr> take_tasks(Group& group);
  void give_back(Group& group, std::vector<TaskPtr> tasks) { group.tasks = std::move(tasks); }
  // Removes groups that have become empty; pointers to them end here.
  void sweep();

 private:
  struct Member {
    TaskPtr task;
    Group* group = nullptr;
  };
  void tidy(Group& group);

  ClusterState& state_;
  TaskTable<Member> members_;
  std::map<std::pair<ShapeIndex, bool>, std::unique_ptr<Group>> groups_;
};

}  // namespace muster::scheduler
