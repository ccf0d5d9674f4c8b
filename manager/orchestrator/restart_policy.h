#pragma once

#include <cstdint>
#include <vector>

#include "base/time.h"
#include "muster/v1/objects.pb.h"

namespace muster::manager::orchestrator {

// A service's restart policy with Swarm's defaults filled in.
struct RestartRules {
  v1::RestartPolicy::Condition condition = v1::RestartPolicy::ANY;
  Duration delay = 5s;
  uint64_t max_attempts = 0;  // 0: unlimited
  Duration window{0};         // 0: unbounded

  static RestartRules of(const v1::RestartPolicy& policy);
};

// Whether a task ended by itself, rather than because it was told to or its node went away.
bool ended_by_itself(v1::TaskState state);

// When a task reached its observed state, by the managers' clock where it says so: agents' clocks
// differ, and attempts of one slot run on several nodes. Unix time in ns.
int64_t reached_at_ns(const v1::Task& task);

// Whether it was made by a manager whose clock was far ahead of ours (a minute and more): what
// waits for a time that was reckoned from then would wait for hours, and goes on instead.
bool made_ahead(const v1::Task& task, WallTime now);

// Whether a task that is not to start before its `start_after` waits for it now. Not when that time
// lies further ahead than the policy's delay can have put it: then it was reckoned from what a
// manager wrote whose clock was ahead, in this task or in the attempt before it.
bool waits_for_start(const RestartRules& rules, const v1::Task& task, WallTime now);

// Restarts that count against max_attempts when `task` has just ended: attempts of the same slot
// and revision that ended by themselves before it and, when there is a window, within the window
// before its end. `slot` is every task the store still has in the slot, `task` included.
//
// The history is what the store keeps of the slot, so a new leader decides the same.
uint64_t restarts_so_far(const RestartRules& rules, const v1::Task& task,
                         const std::vector<const v1::Task*>& slot);

// Whether the policy wants another attempt after `task`, which has ended, or whose node is gone or
// drained: a task that did not end by itself is replaced unless the condition is NONE, and does
// not count as an attempt.
bool wants_restart(const RestartRules& rules, const v1::Task& task,
                   const std::vector<const v1::Task*>& slot);

// How many ended tasks of a slot are kept: the cluster's history limit, or as many as counting
// attempts needs. Negative: all of them.
int64_t history_limit(const RestartRules& rules, int64_t cluster_limit);

}  // namespace muster::manager::orchestrator
