#pragma once

#include <map>
#include <string>
#include <vector>

#include "manager/orchestrator/node_fit.h"
#include "manager/orchestrator/plan.h"
#include "manager/orchestrator/restart_policy.h"
#include "manager/orchestrator/update_plan.h"
#include "manager/store/snapshot.h"
#include "scheduler/constraint.h"

namespace muster::manager::orchestrator {

// How an old task and its successor share a slot, and what else the policies ask of the state.
// Everything an evaluation of one service needs, read once from a snapshot.
struct ServiceContext {
  // Fails (nullptr service) when the service or its revision is not in the snapshot. `crowded` may
  // be null: no node is; it outlives the context.
  static ServiceContext load(const store::Snapshot& state, std::string_view service_id,
                             WallTime now, const Crowded* crowded = nullptr);

  // Whether a task need not be replaced by an update: it is of the service's revision, its content
  // is the same, or only the placement differs. That an update makes stricter is the update's
  // business while it lasts; afterwards it is the node that has changed, and moves its tasks.
  bool up_to_date(const v1::Task& task) const;

  // The node of a task as far as keeping the task there is concerned.
  enum class Place {
    kNone,  // not placed yet
    kFine,
    kLost,  // down, or removed from the cluster
    kDrained,
    kUnsuitable,  // no longer satisfies the constraints
    kUnable       // no longer has the resources, or not the platform
  };
  Place place(const v1::Task& task) const;
  // Why a task has to leave its node, in words; empty when it may stay.
  std::string why_leaves(const v1::Task& task) const;
  bool leaves(const v1::Task& task) const { return place(task) >= Place::kLost; }
  // Lost and drained nodes are left at once, and so is a node that a global service no longer
  // wants; what has to leave otherwise waits for its turn.
  bool left_at_once(Place place) const {
    return place == Place::kLost || place == Place::kDrained ||
           (place == Place::kUnsuitable && service->spec().has_global());
  }
  // Whether the container can be taken for stopped, so that a successor may start.
  bool stopped(const v1::Task& task) const;

  // `task` with the higher desired state, and out of its networks in the same step: it takes no new
  // flows, and those it has may go on for the service's drain timeout. Where its node is lost there
  // is nothing to wait for.
  v1::Task told_to_stop(const v1::Task& task, v1::TaskState desired,
                        const std::string& why = {}) const;
  // How long the flows of a task that is to stop may go on.
  Duration drain_timeout() const;

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
  using Constraints = std::vector<scheduler::Constraint>;
  const Constraints* held_to(const v1::Task& task) const;
  const std::string* crowded(const v1::Task& task) const;
  bool routed_by_others(const v1::Task& task) const;
  std::string wrong_platform_for(const v1::Task& task, const v1::Node& node) const;
  bool same_content(uint64_t revision_number, bool* placement_differs) const;

  struct Difference {
    bool same = false;
    bool placement = false;
  };
  mutable std::map<uint64_t, Difference> differences_;
  mutable std::map<uint64_t, Constraints> older_constraints_;
  mutable std::map<std::string, bool, std::less<>> satisfied_;  // by node
  const Crowded* crowded_ = nullptr;
};

// `task` with a higher desired state; a task that was never placed ends at once, since nobody has
// to stop it. One that is to stop takes no new flows, and those it has are not waited for
// (ServiceContext::told_to_stop() does). `why` becomes its error, and stays it unless the agent has
// one of its own.
v1::Task with_desired(const v1::Task& task, v1::TaskState desired, WallTime now,
                      const std::string& why = {});

}  // namespace muster::manager::orchestrator
