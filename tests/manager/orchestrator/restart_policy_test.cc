#include "manager/orchestrator/restart_policy.h"

#include <gtest/gtest.h>

namespace muster::manager::orchestrator {
namespace {

v1::Task ended(std::string id, v1::TaskState state, int64_t at, uint64_t revision = 1) {
  v1::Task task;
  task.set_id(std::move(id));
  task.set_revision(revision);
  task.mutable_status()->set_state(state);
  task.mutable_status()->set_timestamp_ns(at);
  return task;
}

TEST(RestartPolicy, ConditionDecidesByHowTheTaskEnded) {
  using P = v1::RestartPolicy;
  struct Case {
    P::Condition condition;
    v1::TaskState state;
    bool restart;
  };
  const Case cases[] = {
      {P::ANY, v1::TASK_COMPLETE, true},         {P::ANY, v1::TASK_FAILED, true},
      {P::ON_FAILURE, v1::TASK_COMPLETE, false}, {P::ON_FAILURE, v1::TASK_FAILED, true},
      {P::ON_FAILURE, v1::TASK_REJECTED, true},  {P::ON_FAILURE, v1::TASK_RUNNING, true},
      {P::NONE, v1::TASK_COMPLETE, false},       {P::NONE, v1::TASK_FAILED, false},
      {P::NONE, v1::TASK_RUNNING, false},
  };
  for (const Case& c : cases) {
    RestartRules rules;
    rules.condition = c.condition;
    const v1::Task task = ended("a", c.state, 1);
    EXPECT_EQ(wants_restart(rules, task, {&task}), c.restart) << c.condition << " " << c.state;
  }
}

TEST(RestartPolicy, AttemptsAreThoseOfTheRevisionThatEndedByThemselves) {
  RestartRules rules;
  rules.max_attempts = 2;
  const v1::Task other = ended("a", v1::TASK_FAILED, 1, 7);
  const v1::Task first = ended("b", v1::TASK_FAILED, 2);
  const v1::Task moved = ended("c", v1::TASK_SHUTDOWN, 3);
  const v1::Task second = ended("d", v1::TASK_FAILED, 4);
  const v1::Task third = ended("e", v1::TASK_FAILED, 5);
  EXPECT_TRUE(wants_restart(rules, second, {&other, &first, &moved, &second}));
  EXPECT_FALSE(wants_restart(rules, third, {&other, &first, &moved, &second, &third}));
}

TEST(RestartPolicy, WindowForgetsOldAttempts) {
  RestartRules rules;
  rules.max_attempts = 1;
  rules.window = Duration(10);
  const v1::Task first = ended("a", v1::TASK_FAILED, 100);
  const v1::Task soon = ended("b", v1::TASK_FAILED, 110);
  const v1::Task late = ended("b", v1::TASK_FAILED, 111);
  EXPECT_FALSE(wants_restart(rules, soon, {&first, &soon}));
  EXPECT_TRUE(wants_restart(rules, late, {&first, &late}));
}

TEST(RestartPolicy, AttemptsAreOrderedByTheManagersClock) {
  RestartRules rules;
  rules.max_attempts = 1;
  v1::Task first = ended("a", v1::TASK_FAILED, 500);  // on a node whose clock is ahead
  first.mutable_status()->set_applied_at_ns(100);
  v1::Task second = ended("b", v1::TASK_FAILED, 120);
  second.mutable_status()->set_applied_at_ns(110);
  EXPECT_FALSE(wants_restart(rules, second, {&first, &second}));
}

TEST(RestartPolicy, DefaultsAreSwarms) {
  const RestartRules rules = RestartRules::of({});
  EXPECT_EQ(rules.condition, v1::RestartPolicy::ANY);
  EXPECT_EQ(rules.delay, 5s);
  EXPECT_EQ(rules.max_attempts, 0u);
}

TEST(RestartPolicy, HistoryKeepsWhatCountingNeeds) {
  RestartRules rules;
  EXPECT_EQ(history_limit(rules, 5), 5);
  EXPECT_EQ(history_limit(rules, -1), -1);
  rules.max_attempts = 9;
  EXPECT_EQ(history_limit(rules, 5), 10);
  rules.max_attempts = UINT64_MAX;
  EXPECT_EQ(history_limit(rules, 5), INT64_MAX);
}

TEST(RestartPolicy, WhatWasMadeByAClockFarAheadIsKnown) {
  v1::Task task;
  const WallTime now{Duration(1h).count()};
  task.mutable_meta()->set_created_at_ns(now.unix_ns);
  EXPECT_FALSE(made_ahead(task, now));
  task.mutable_meta()->set_created_at_ns((now + 59s).unix_ns);
  EXPECT_FALSE(made_ahead(task, now));
  task.mutable_meta()->set_created_at_ns((now + 61s).unix_ns);
  EXPECT_TRUE(made_ahead(task, now));
}

TEST(RestartPolicy, ADelayIsWaitedForButNotAClockThatWasAhead) {
  const WallTime now{Duration(100h).count()};
  RestartRules rules;
  rules.delay = 30s;
  struct Case {
    const char* what;
    Duration made;   // since now
    Duration start;  // since now
    bool waits;
  };
  const Case cases[] = {
      {"no delay", Duration(0), Duration(-100h), false},
      {"it is over", -30s, Duration(0), false},
      {"it is not", -29s, 1s, true},
      {"after an attempt that ended before its own start", Duration(0), 60s, true},
      {"clocks that differ a little", 30s, 90s, true},
      {"made by a clock that was ahead", 3h, 3h + 30s, false},
      {"made now, reckoned from an end by a clock that was ahead", Duration(0), 3h, false},
  };
  for (const Case& c : cases) {
    v1::Task task;
    task.mutable_meta()->set_created_at_ns((now + c.made).unix_ns);
    task.set_start_after_ns((now + c.start).unix_ns);
    EXPECT_EQ(waits_for_start(rules, task, now), c.waits) << c.what;
  }
  rules.delay = Duration::max();
  v1::Task task;
  task.set_start_after_ns((now + 1000h).unix_ns);
  EXPECT_TRUE(waits_for_start(rules, task, now));
}

}  // namespace
}  // namespace muster::manager::orchestrator
