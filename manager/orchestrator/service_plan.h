#pragma once

#include <cstddef>
#include <string>

#include "manager/orchestrator/context.h"
#include "manager/orchestrator/plan.h"

namespace muster::manager::orchestrator {

// Brings a service nearer to its spec. Pure: the snapshot, the time and the names decide.
//
// Replicated: tasks in the lowest free slots until there are enough; too many: slots that run, on
// nodes with few of them, with low numbers stay. Global: one task on each node that takes one.
// Updates: slots whose tasks are outdated are replaced, those that do not run first, at most
// `parallelism` under way, each counted until its new task has run for the update's delay; failures
// and slots that do not come up are judged by update_plan.h.
// Jobs: job_plan.h.
// Moves: tasks whose nodes no longer satisfy the constraints, or no longer have the resources or
// the platform, leave them, together with an update at most `parallelism` at a time. A slot is
// counted until its new task runs, fails, finds no node or is late; where nothing fits, everything
// ends up waiting with the reason, one after the other.
// A service that is gone has its tasks removed and, once nothing uses them, its revisions.
//
// At most about `changes_max` changes are planned, so that a plan fits one transaction; `complete`
// tells whether that was all.
struct ServicePlanResult {
  bool complete = true;
};
ServicePlanResult plan_service(const store::Snapshot& state, std::string_view service_id,
                               WallTime now, size_t changes_max, Plan& plan,
                               const Crowded* crowded = nullptr);

// The part of the above that concerns one slot (or one node of a global service) and nothing else:
// restarts, starts, history. Cheap, whatever the size of the service.
void plan_one_slot(const ServiceContext& context, uint64_t slot, const std::string& node_id,
                   Plan& plan);

}  // namespace muster::manager::orchestrator
