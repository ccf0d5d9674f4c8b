#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/time.h"
#include "scheduler/cluster_state.h"
#include "scheduler/pending_queue.h"
#include "scheduler/pipeline.h"
#include "scheduler/spread_tree.h"

namespace muster::scheduler {

// A task gets a node.
struct Decision {
  TaskPtr task;  // as it was seen
  NodeIndex node = kNoIndex;
  bool preassigned = false;  // the node was given, and is confirmed
  std::vector<v1::GenericResource> generics;
};

// A task gets none, for now.
struct Unplaced {
  TaskPtr task;
  uint32_t reason = 0;  // into Plan::reasons
};

struct Plan {
  std::vector<Decision> decisions;
  std::vector<Unplaced> unplaced;
  std::vector<std::string> reasons;  // "no suitable node (...)"
};

// Placement: deterministic, without clock, thread or IO. The same state and queue give the same
// plan, whatever order they were filled in.
class Placer {
 public:
  // Both must outlive the placer; nobody else changes them during round().
  Placer(ClusterState& state, PendingQueue& queue) : state_(state), queue_(queue) {}

  // Places the due groups, at most about `max_tasks` tasks (the rest stays due). Decisions are
  // charged to the state and leave the queue; what finds no node stays in the queue, no longer due.
  Plan round(WallTime now, size_t max_tasks);

  // Makes those groups due that a change of the state since the last call may help. Called before
  // round(); cheap when nothing changed.
  void wake();

 private:
  // Tasks that got a node are moved into the plan, which leaves null behind.
  void place_group(PendingQueue::Group& group, std::span<TaskPtr> tasks, WallTime now, Plan& plan);
  size_t place_spread(const TaskShape& shape, ShapeIndex index, std::span<TaskPtr> tasks,
                      WallTime now, Plan& plan);
  void confirm(ShapeIndex index, TaskPtr& task, Plan& plan);
  void give_up(std::span<const TaskPtr> tasks, std::string reason, Plan& plan);
  std::string explain() const;

  // The service's active tasks by node, dense, for the group in hand.
  void load_counts(ShapeIndex shape);
  Candidate candidate(const NodeInfo& node) const { return {node, counts_[node.index]}; }

  ClusterState& state_;
  PendingQueue& queue_;
  Pipeline pipeline_;
  std::vector<uint32_t> counts_;
  std::vector<uint32_t> failures_;
};

}  // namespace muster::scheduler
