#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "manager/orchestrator/plan.h"
#include "manager/orchestrator/restart_policy.h"
#include "muster/v1/objects.pb.h"

namespace muster::manager::orchestrator {

// An update's or rollback's configuration with Swarm's defaults filled in.
struct UpdateRules {
  uint64_t parallelism = 1;  // 0: all slots at once
  Duration delay{0};
  v1::UpdateConfig::FailureAction action = v1::UpdateConfig::PAUSE;
  Duration monitor = 5s;
  uint32_t max_failure_ppm = 0;
  bool start_first = false;
  Duration deadline = 10min;  // 0: none

  // Of spec.rollback while the service goes back to an earlier spec, else of spec.update.
  static UpdateRules of(const v1::Service& service);
  static UpdateRules of(const v1::UpdateConfig& config);
};

// A slot that has a task of the service's revision, as an update sees it.
struct UpdatedSlot {
  enum class Stage {
    kUnderWay,  // its task has not come up yet; since: when that was created
    kRuns,      // since: when its task came up
    kFailed,    // its task ended by itself before it had run for the monitor period; since: its end
    kDone,      // ended as the restart policy has it; nothing more is expected
  };
  Stage stage = Stage::kUnderWay;
  WallTime since;
  TaskPtr task;  // of kUnderWay and kFailed: the task to name
};

// How an update took in one slot; `tasks` are all the slot has. The attempts of the service's
// revision since the update began are gone through, oldest first, until one has failed or has run
// for the monitor period: what happens to the slot afterwards is no failure of the update. A task
// that completes fails, too, but where the restart policy takes that for the end of its work.
struct UpdateAttempts {
  uint64_t revision = 0;
  WallTime since;
  Duration monitor{0};
  v1::RestartPolicy::Condition restart = v1::RestartPolicy::ANY;
};
// The attempts that the update of a service is judged by.
UpdateAttempts update_attempts(const v1::Service& service, const UpdateRules& rules,
                               const RestartRules& restart);
UpdatedSlot look_at_updated_slot(const UpdateAttempts& attempts, std::vector<TaskPtr> tasks);
// The task by which the above was decided, if it has ended. It is kept as long as the update lasts:
// failures are counted from the tasks there are, so that every leader counts the same.
TaskPtr deciding_task(const UpdateAttempts& attempts, std::vector<TaskPtr> tasks);

// What is to be done about an update that is under way. Pure.
struct UpdateVerdict {
  enum class Step { kGoOn, kPause, kRollBack, kComplete };
  Step step = Step::kGoOn;
  uint64_t room = 0;  // slots that may be begun now
  uint64_t failures = 0;
  std::string reason;  // of kPause and kRollBack: what happened, and to which task
  std::optional<WallTime> wake;
};
// `outdated`: slots still to be begun. `moving`: slots that are under way for another reason than
// this update, such as a drain; together they do not pass the parallelism.
UpdateVerdict judge_update(const UpdateRules& rules, const v1::UpdateStatus& status,
                           uint64_t outdated, const std::vector<UpdatedSlot>& slots, WallTime now,
                           uint64_t moving = 0);

// The service with the step taken. The spec only changes by kRollBack, which needs a previous spec
// and ends in kPause without one; the previous spec is used up by it.
v1::Service with_step(const v1::Service& service, const UpdateVerdict& verdict, WallTime now);
// The beginning of an update.
v1::Service with_update_begun(const v1::Service& service, uint64_t outdated, WallTime now);

}  // namespace muster::manager::orchestrator
