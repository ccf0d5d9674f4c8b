#include "manager/orchestrator/update_plan.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace muster::manager::orchestrator {
namespace {

using Stage = UpdatedSlot::Stage;
using Step = UpdateVerdict::Step;

// Seconds after the update began at 1000 s.
WallTime at(double seconds) {
  return {static_cast<int64_t>((1000 + seconds) * 1e9)};
}

v1::UpdateStatus status(uint64_t slots, bool rollback = false) {
  v1::UpdateStatus out;
  out.set_state(rollback ? v1::UpdateStatus::ROLLBACK_STARTED : v1::UpdateStatus::UPDATING);
  out.set_started_at_ns(at(0).unix_ns);
  out.set_slots(slots);
  return out;
}

TaskPtr named(const std::string& name, const std::string& error) {
  auto task = std::make_shared<v1::Task>();
  task->set_id("id-" + name);
  task->set_name(name);
  task->mutable_status()->set_error(error);
  return task;
}

UpdatedSlot slot(Stage stage, double since, const std::string& name = "web.1",
                 const std::string& error = "exit code 1") {
  return {stage, at(since), named(name, error)};
}

TEST(UpdatePlan, TheRatioHasToBeExceeded) {
  const struct {
    uint32_t ppm;
    uint64_t slots;
    uint64_t failed;
    bool trips;
  } kCases[] = {
      {0, 10, 0, false},      {0, 10, 1, true},         {100'000, 10, 1, false},
      {100'000, 10, 2, true}, {99'999, 10, 1, true},    {500'000, 3, 1, false},
      {500'000, 3, 2, true},  {1'000'000, 3, 3, false}, {333'334, 3, 1, false},
      {333'333, 3, 1, true},  {0, 0, 1, true},
  };
  for (const auto& c : kCases) {
    UpdateRules rules;
    rules.max_failure_ppm = c.ppm;
    std::vector<UpdatedSlot> slots(c.failed, slot(Stage::kFailed, 1));
    const UpdateVerdict verdict = judge_update(rules, status(c.slots), 5, slots, at(2));
    EXPECT_EQ(verdict.step == Step::kPause, c.trips) << c.ppm << " " << c.slots << " " << c.failed;
    EXPECT_EQ(verdict.failures, c.failed);
  }
}

TEST(UpdatePlan, TheActionDecidesWhatAFailureDoes) {
  UpdateRules rules;
  const std::vector<UpdatedSlot> slots = {slot(Stage::kFailed, 1, "web.1", "exit code 1"),
                                          slot(Stage::kFailed, 3, "web.2", "exit code 2")};
  UpdateVerdict verdict = judge_update(rules, status(3), 1, slots, at(4));
  EXPECT_EQ(verdict.step, Step::kPause);
  EXPECT_EQ(verdict.reason, "failure or early termination of task web.2 (id-web.2): exit code 2");
  rules.action = v1::UpdateConfig::ROLLBACK;
  EXPECT_EQ(judge_update(rules, status(3), 1, slots, at(4)).step, Step::kRollBack);
  EXPECT_EQ(judge_update(rules, status(3, true), 1, slots, at(4)).step, Step::kPause);
  rules.action = v1::UpdateConfig::CONTINUE;
  verdict = judge_update(rules, status(3), 1, slots, at(4));
  EXPECT_EQ(verdict.step, Step::kGoOn);
  EXPECT_EQ(verdict.room, 1u);
}

TEST(UpdatePlan, ParallelismCountsWhatIsUnderWayAndWhatIsInItsDelay) {
  const struct {
    uint64_t parallelism;
    double delay;
    std::vector<UpdatedSlot> slots;
    uint64_t outdated;
    uint64_t room;
  } kCases[] = {
      {1, 0, {}, 4, 1},
      {0, 0, {slot(Stage::kUnderWay, 9)}, 4, 4},
      {2, 0, {slot(Stage::kUnderWay, 9)}, 4, 1},
      {1, 0, {slot(Stage::kUnderWay, 9)}, 4, 0},
      {1, 0, {slot(Stage::kRuns, 9)}, 4, 1},
      {1, 2, {slot(Stage::kRuns, 9)}, 4, 0},
      {1, 2, {slot(Stage::kRuns, 8)}, 4, 1},
      {3, 0, {}, 2, 2},
      {1, 0, {slot(Stage::kDone, 9)}, 4, 1},
  };
  for (const auto& c : kCases) {
    UpdateRules rules;
    rules.parallelism = c.parallelism;
    rules.delay = Duration(static_cast<int64_t>(c.delay * 1e9));
    const UpdateVerdict verdict = judge_update(rules, status(9), c.outdated, c.slots, at(10));
    EXPECT_EQ(verdict.room, c.room) << &c - kCases;
    EXPECT_EQ(verdict.step, Step::kGoOn);
  }
}

TEST(UpdatePlan, CompletesOneMonitorPeriodAfterTheLastSlot) {
  UpdateRules rules;
  const std::vector<UpdatedSlot> slots = {slot(Stage::kRuns, 1), slot(Stage::kRuns, 3)};
  UpdateVerdict verdict = judge_update(rules, status(2), 0, slots, at(7.9));
  EXPECT_EQ(verdict.step, Step::kGoOn);
  EXPECT_EQ(verdict.wake, at(8));
  EXPECT_EQ(judge_update(rules, status(2), 0, slots, at(8)).step, Step::kComplete);
  // What ran before the update began is not watched.
  EXPECT_EQ(judge_update(rules, status(2), 0, {slot(Stage::kRuns, -1)}, at(0)).step,
            Step::kComplete);
  EXPECT_EQ(judge_update(rules, status(0), 0, {}, at(0)).step, Step::kComplete);
}

TEST(UpdatePlan, NothingWaitsLongerThanTheDeadline) {
  UpdateRules rules;
  const std::vector<UpdatedSlot> stuck = {
      slot(Stage::kUnderWay, 1, "web.1", "no suitable node (insufficient memory on 1 node)")};
  UpdateVerdict verdict = judge_update(rules, status(2), 1, stuck, at(600.9));
  EXPECT_EQ(verdict.step, Step::kGoOn);
  EXPECT_EQ(verdict.wake, at(601));
  verdict = judge_update(rules, status(2), 1, stuck, at(601));
  EXPECT_EQ(verdict.step, Step::kPause);
  EXPECT_EQ(verdict.reason,
            "no progress within 10m0s: task web.1 (id-web.1) did not come up: no suitable node "
            "(insufficient memory on 1 node)");
  // A task that says nothing at all is told by its state.
  const std::vector<UpdatedSlot> silent = {slot(Stage::kUnderWay, 1, "web.1", "")};
  EXPECT_EQ(judge_update(rules, status(2), 1, silent, at(601)).reason,
            "no progress within 10m0s: task web.1 (id-web.1) did not come up: it is new");
  // Another slot that comes up is progress.
  std::vector<UpdatedSlot> both = stuck;
  both.push_back(slot(Stage::kRuns, 300, "web.2"));
  EXPECT_EQ(judge_update(rules, status(2), 0, both, at(899)).step, Step::kGoOn);
  EXPECT_EQ(judge_update(rules, status(2), 0, both, at(900)).step, Step::kPause);
  rules.action = v1::UpdateConfig::CONTINUE;
  verdict = judge_update(rules, status(2), 1, stuck, at(601));
  EXPECT_EQ(verdict.step, Step::kGoOn);
  EXPECT_EQ(verdict.room, 1u);
  EXPECT_EQ(judge_update(rules, status(1), 0, stuck, at(601)).step, Step::kComplete);
  rules = {};
  rules.deadline = Duration(0);
  verdict = judge_update(rules, status(2), 1, stuck, at(100'000));
  EXPECT_EQ(verdict.step, Step::kGoOn);
  EXPECT_FALSE(verdict.wake);
}

// One attempt: created, came up, ended (seconds; negative: not), state.
struct Attempt {
  double created, up, ended;
  v1::TaskState state;
  v1::TaskState desired = v1::TASK_SHUTDOWN;
  uint64_t revision = 2;
};

TEST(UpdatePlan, AnAttemptFailsWhenItEndsBeforeTheMonitorPeriodIsOver) {
  const struct {
    const char* what;
    std::vector<Attempt> attempts;
    Stage stage;
    double since;
    v1::RestartPolicy::Condition restart = v1::RestartPolicy::ANY;
  } kCases[] = {
      {"starts", {{1, -1, -1, v1::TASK_PREPARING, v1::TASK_RUNNING}}, Stage::kUnderWay, 1},
      {"runs", {{1, 2, -1, v1::TASK_RUNNING, v1::TASK_RUNNING}}, Stage::kRuns, 2},
      {"rejected", {{1, -1, 2, v1::TASK_REJECTED}}, Stage::kFailed, 2},
      {"failed early", {{1, 2, 6.9, v1::TASK_FAILED}}, Stage::kFailed, 6.9},
      {"failed late", {{1, 2, 7, v1::TASK_FAILED}}, Stage::kRuns, 2},
      {"ended with 0 too early", {{1, 2, 3, v1::TASK_COMPLETE}}, Stage::kFailed, 3},
      {"work done", {{1, 2, 3, v1::TASK_COMPLETE}}, Stage::kDone, 3, v1::RestartPolicy::ON_FAILURE},
      {"a restart does not undo a failure",
       {{1, 2, 3, v1::TASK_FAILED}, {3, 8, -1, v1::TASK_RUNNING, v1::TASK_RUNNING}},
       Stage::kFailed,
       3},
      {"a restart that fails after one that was fine",
       {{1, 2, 20, v1::TASK_FAILED}, {20, 21, 22, v1::TASK_FAILED}},
       Stage::kRuns,
       2},
      {"moved to another node",
       {{1, 2, 3, v1::TASK_SHUTDOWN}, {4, -1, -1, v1::TASK_PENDING, v1::TASK_RUNNING}},
       Stage::kUnderWay,
       4},
      {"told to stop, runs still",
       {{1, 2, -1, v1::TASK_RUNNING}, {4, -1, -1, v1::TASK_NEW, v1::TASK_READY}},
       Stage::kUnderWay,
       4},
      {"an attempt before the update",
       {{-9, -8, -7, v1::TASK_FAILED}, {1, 2, -1, v1::TASK_RUNNING, v1::TASK_RUNNING}},
       Stage::kRuns,
       2},
      {"another revision's attempt",
       {{0.5, 0.6, 0.7, v1::TASK_FAILED, v1::TASK_SHUTDOWN, 1},
        {1, 2, -1, v1::TASK_RUNNING, v1::TASK_RUNNING}},
       Stage::kRuns,
       2},
  };
  for (const auto& c : kCases) {
    std::vector<TaskPtr> tasks;
    for (const Attempt& attempt : c.attempts) {
      auto task = std::make_shared<v1::Task>();
      task->set_id(fmt::format("t{}", tasks.size()));
      task->set_revision(attempt.revision);
      task->set_desired_state(attempt.desired);
      task->mutable_meta()->set_created_at_ns(at(attempt.created).unix_ns);
      auto& task_status = *task->mutable_status();
      task_status.set_state(attempt.state);
      if (attempt.up != -1) task_status.set_running_since_ns(at(attempt.up).unix_ns);
      task_status.set_timestamp_ns(at(attempt.ended != -1 ? attempt.ended : attempt.up).unix_ns);
      tasks.push_back(task);
    }
    const UpdateAttempts attempts{2, at(0), 5s, c.restart};
    const UpdatedSlot seen = look_at_updated_slot(attempts, tasks);
    EXPECT_EQ(seen.stage, c.stage) << c.what;
    EXPECT_EQ(seen.since, at(c.since)) << c.what;
    const bool decided = c.stage == Stage::kFailed || c.stage == Stage::kDone;
    if (c.stage == Stage::kRuns) continue;  // by a task that runs, or by one that has
    EXPECT_EQ(deciding_task(attempts, tasks) != nullptr, decided) << c.what;
  }
}

TEST(UpdatePlan, RulesHaveSwarmsDefaults) {
  v1::Service service;
  UpdateRules rules = UpdateRules::of(service);
  EXPECT_EQ(rules.parallelism, 1u);
  EXPECT_EQ(rules.monitor, 5s);
  EXPECT_EQ(rules.deadline, 10min);
  service.mutable_spec()->mutable_update()->set_delay_ns(Duration(10s).count());
  rules = UpdateRules::of(service);
  EXPECT_EQ(rules.parallelism, 0u);
  EXPECT_EQ(rules.monitor, 11s) << "a slot is watched until the next one is begun";
  service.mutable_spec()->mutable_rollback()->set_parallelism(7);
  EXPECT_EQ(UpdateRules::of(service).parallelism, 0u);
  service.mutable_update_status()->set_state(v1::UpdateStatus::ROLLBACK_STARTED);
  EXPECT_EQ(UpdateRules::of(service).parallelism, 7u);
}

TEST(UpdatePlan, ARollbackUsesThePreviousSpecUp) {
  v1::Service service;
  service.mutable_spec()->mutable_task()->set_force_update(2);
  service.set_revision(2);
  *service.mutable_update_status() = status(3);
  UpdateVerdict verdict;
  verdict.step = Step::kRollBack;
  verdict.reason = "x";
  v1::Service changed = with_step(service, verdict, at(5));
  EXPECT_EQ(changed.update_status().state(), v1::UpdateStatus::PAUSED);
  EXPECT_EQ(changed.update_status().message(),
            "update paused due to x (there is no previous spec to roll back to)");
  service.mutable_previous_spec()->mutable_task()->set_force_update(1);
  service.set_previous_revision(1);
  changed = with_step(service, verdict, at(5));
  EXPECT_EQ(changed.update_status().state(), v1::UpdateStatus::ROLLBACK_STARTED);
  EXPECT_EQ(changed.update_status().message(), "update rolled back due to x");
  EXPECT_EQ(changed.update_status().started_at_ns(), at(5).unix_ns);
  EXPECT_FALSE(changed.update_status().has_slots());
  EXPECT_EQ(changed.spec().task().force_update(), 1u);
  EXPECT_EQ(changed.revision(), 1u);
  EXPECT_EQ(changed.last_revision(), 2u) << "its number is not given again";
  EXPECT_FALSE(changed.has_previous_spec());
  verdict.step = Step::kComplete;
  changed = with_step(changed, verdict, at(9));
  EXPECT_EQ(changed.update_status().state(), v1::UpdateStatus::ROLLBACK_COMPLETED);
  EXPECT_EQ(changed.update_status().message(), "rollback completed: update rolled back due to x");
}

}  // namespace
}  // namespace muster::manager::orchestrator
