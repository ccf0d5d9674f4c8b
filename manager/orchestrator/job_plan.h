#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "manager/orchestrator/context.h"
#include "manager/orchestrator/plan.h"
#include "manager/orchestrator/restart_policy.h"

namespace muster::manager::orchestrator {

// One attempt at a slot of a job, with what the state says of its node.
struct JobAttempt {
  TaskPtr task;
  bool moved = false;        // its node is lost, drained or unsuitable: it may not go on there
  bool stopped = false;      // its container can be taken for stopped
  bool forgettable = false;  // its container is certainly gone
  std::string why = {};      // it may not go on there, in words
};

// What has to be done once: a number of a replicated job, a node of a global one.
struct JobSlot {
  uint64_t number = 0;
  std::string node_id;  // of a global job
  bool takes = true;    // may get a new attempt
  std::vector<JobAttempt> attempts;
};

// A job as its plan sees it.
struct JobView {
  bool global = false;
  uint64_t total = 0;         // slots of a replicated job are 0 to total-1
  uint64_t concurrent = 0;    // 0: all at once
  RestartRules restart;       // condition ANY means ON_FAILURE: what has completed is done
  int64_t history = 5;        // ended attempts kept of a slot that can still come to a decision
  int64_t history_slots = 5;  // the cluster's limit; negative: everything is kept
  Duration stop_wait = 60s;   // what does not stop for so long does not hold anybody up
  v1::JobStatus status;       // as stored; status.iteration is the present one
  // Of the present iteration, in order: those with tasks, and every node of a global job.
  std::vector<JobSlot> slots;
  // Tasks of earlier iterations, and of nodes that are gone.
  std::vector<JobAttempt> earlier;
};

// What is to be done now.
struct JobVerdict {
  struct Start {
    uint64_t slot = 0;
    std::string node_id;
    WallTime after{0};   // not before then
    bool waits = false;  // for an earlier attempt to stop
    bool at_once() const { return after.unix_ns == 0 && !waits; }
  };
  std::vector<Start> starts;
  std::vector<v1::Task> update;  // desired states raised, reasons added
  std::vector<TaskPtr> remove;   // tasks to delete
  v1::JobStatus status;          // to be stored where it differs
  uint64_t active = 0;           // slots with an attempt, before the starts
  uint64_t completed = 0;
  uint64_t failed = 0;
  bool complete = true;  // false: there was more than fits `changes_max`
  std::optional<WallTime> wake;

  size_t size() const { return starts.size() + update.size() + remove.size(); }
};

// Pure, and level-triggered: the same tasks and status give the same verdict on every leader.
//
// Every slot completes once. Attempts that fail are repeated as the restart policy has it, and when
// it wants no more the slot has failed, with the reason in its last task and in the status; other
// slots go on. What was interrupted (node lost or drained, constraint no longer satisfied) is
// repeated at once and is no failure. At most `concurrent` slots are worked on at a time, counting
// what has been told to stop and has not yet, whichever iteration it is of. A completion counts
// whenever it is reported, even by a node that was taken for lost; a second attempt under way is
// stopped then.
//
// History: of each slot the newest ended attempts are kept, as of a service's. Of finished slots
// of a replicated job those beyond 20 times the limit go wholly, lowest numbers first, and the
// status remembers that they have completed or failed.
JobVerdict judge_job(JobView view, WallTime now, size_t changes_max);

// The above for a service in the store. True when everything was planned.
bool plan_job(const ServiceContext& context, size_t changes_max, Plan& plan);

}  // namespace muster::manager::orchestrator
