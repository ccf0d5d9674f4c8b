#pragma once

#include <vector>

#include "manager/orchestrator/context.h"
#include "manager/orchestrator/plan.h"

namespace muster::manager::orchestrator {

// How a slot stands, as far as the service as a whole is concerned. A slot is a number of a
// replicated service or a node of a global one.
struct SlotState {
  bool filled = false;    // has a task that is meant to run, or will not be tried again
  bool outdated = false;  // what is meant to run is not of the service's revision
  bool running = false;   // an up-to-date task runs
  bool done = false;      // the last attempt is complete, and the policy wants no other
  int64_t running_since_ns = 0;
  std::string node_id;  // of the task that fills it
  TaskPtr occupant;     // the task that fills it; null when the slot is vacant or given up
  // A task is on its way that takes the place of one the manager told to leave. What counts as
  // disturbed by an update, a move or a drain.
  bool moving = false;
  WallTime moving_until;  // when that no longer counts, whatever becomes of it
  // A task that is meant to run may not stay where it is, and waits for its turn to leave.
  bool unsettled = false;
  // All of them, so that its turn may come.
  bool leaving = false;
};
SlotState look_at_slot(const ServiceContext& context, const std::vector<TaskPtr>& tasks);

// A task on its way that takes the place of one that was told to leave, or is going to be; null if
// there is none. It no longer is when it finds no node, when it fails, or after the update's
// progress deadline (`until`).
struct Handover {
  TaskPtr fresh;
  WallTime until;
};
Handover look_at_handover(const ServiceContext& context, const std::vector<TaskPtr>& tasks);

// Keeps one slot as the policies want it. Pure; the same slot gives the same plan. In order:
//  - a task that has ended, or whose node is lost or drained, is told to shut down, and gets a
//    successor if the restart policy wants one (`replace` false: never, the slot of a global
//    service whose node takes no task). A drained one of a start-first service stays meanwhile;
//  - of several tasks meant to run one stays: the one that is up to date and may stay on its node,
//    once it runs, or at once when the order is stop-first. What has to leave its node waits for
//    its successor only as long as that is on its way (look_at_handover);
//  - a READY task is let run when its delay has passed and its predecessors have stopped, or when
//    they have had stop_wait() to do so;
//  - tasks to be removed are deleted once stopped, and ended ones beyond the history limit.
void plan_slot(const ServiceContext& context, const std::vector<TaskPtr>& tasks, bool replace,
               Plan& plan);

// Replaces what is meant to run in the slot by a task of the service's revision.
void plan_slot_update(const ServiceContext& context, const std::vector<TaskPtr>& tasks, Plan& plan);

// Newest first; of equal age the greater id, so that every leader sees the same order.
bool newer(const TaskPtr& a, const TaskPtr& b);
// Whether a task's container is certainly gone, so that the object may be forgotten.
bool forgettable(const v1::Task& task, const store::Snapshot& state);
// Begins to move what may not stay on its node (SlotState::leaving), start-first where the service
// says so. Replaced as by a restart without delay: not at all where the policy wants no restart, or
// `replace` is false.
void plan_slot_move(const ServiceContext& context, const std::vector<TaskPtr>& tasks, bool replace,
                    Plan& plan);

// Empties a slot: every task is to be removed, and is deleted once stopped.
void plan_removal(const ServiceContext& context, const std::vector<TaskPtr>& tasks, Plan& plan);
// The same of a service that is gone. Nobody else answers for it, so its flows end at once, those
// of tasks on their way out, too.
void plan_end(const std::vector<TaskPtr>& tasks, const store::Snapshot& state, WallTime now,
              Plan& plan);

}  // namespace muster::manager::orchestrator
