#pragma once

#include <map>
#include <string>
#include <vector>

#include "manager/orchestrator/plan.h"
#include "manager/orchestrator/restart_policy.h"
#include "manager/orchestrator/update_plan.h"
#include "manager/store/snapshot.h"
#include "scheduler/constraint.h"

namespace muster::manager::orchestrator {

// How an old task and its successor share a slot, and what else the policies ask of the state.
// Everything an evaluation of one service needs, read once from a snapshot.
struct ServiceContext {
  // Fails (nullptr service) when the service or its revision is not in the snapshot.
  static ServiceContext load(const store::Snapshot& state, std::string_view service_id,
                             WallTime now);

  // Whether a task at `revision` need not be replaced: it is the service's, its content is the
  // same, or only the placement differs and the task's node still satisfies it.
  bool up_to_date(const v1::Task& task) const;

  // The node of a task as far as keeping the task there is concerned.
  enum class Place {
    kNone,  // not placed yet
    kFine,
    kLost,  // down, or removed from the cluster
    kDrained,
    kUnsuitable  // no longer satisfies the constraints
  };
  Place place(const v1::Task& task) const;
  // Whether the container can be taken for stopped, so that a successor may start.
  bool stopped(const v1::Task& task) const;

  // A new attempt in a slot (or, for a global service, on a node), without an id.
  v1::Task new_task(uint64_t slot, const std::string& node_id, v1::TaskState desired) const;

  // After this long a successor starts even though its predecessor has not ended.
  Duration stop_wait() const;
  // Whether a node may get (not: keep) a task of this global service.
  bool node_takes(const v1::Node& node) const;
  bool satisfies_constraints(const v1::Node& node) const;

  store::Snapshot state;
  WallTime now;
  store::Ptr<v1::Service> service;
  store::Ptr<v1::Revision> revision;
  RestartRules restart;
  UpdateRules update;
  int64_t history = 5;          // ended tasks kept of a slot
  int64_t cluster_history = 5;  // the limit the cluster has
  std::vector<scheduler::Constraint> constraints;

 private:
  bool same_content(uint64_t revision_number, bool* placement_differs) const;

  struct Difference {
    bool same = false;
    bool placement = false;
  };
  mutable std::map<uint64_t, Difference> differences_;
};

// `task` with a higher desired state; a task that was never placed ends at once, since nobody has
// to stop it.
v1::Task with_desired(const v1::Task& task, v1::TaskState desired, WallTime now);

}  // namespace muster::manager::orchestrator
