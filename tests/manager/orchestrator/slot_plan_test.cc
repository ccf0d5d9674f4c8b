#include "manager/orchestrator/slot_plan.h"

#include <gmock/gmock.h>

#include "tests/manager/orchestrator/fixture.h"

namespace muster::manager::orchestrator {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int64_t kSecond = 1'000'000'000;

// One slot of a service that went back from revision 2 to revision 1, planned by itself.
class SlotPlanTest : public OrchestratorTest {
 protected:
  SlotPlanTest() {
    orchestrator_.stop();
    put_service(2, 2);
    put_service(2, 1);
  }

  // `at`: seconds at which it was made and came to its state.
  static TaskPtr task(const std::string& id, uint64_t revision, v1::TaskState desired,
                      v1::TaskState state, int64_t made_at, int64_t at) {
    v1::Task task;
    task.set_id(id);
    task.set_service_id("s");
    task.set_slot(1);
    task.set_revision(revision);
    task.set_node_id("n1");
    task.set_desired_state(desired);
    task.mutable_meta()->set_created_at_ns(made_at * kSecond);
    task.mutable_status()->set_state(state);
    task.mutable_status()->set_applied_at_ns(at * kSecond);
    return std::make_shared<const v1::Task>(std::move(task));
  }
  ServiceContext context(int64_t history) const {
    ServiceContext out = ServiceContext::load(store_.snapshot(), "s", WallTime{40 * kSecond});
    out.history = history;
    return out;
  }
};

// The attempt at revision 2 was made after the task that has to leave, and failed before the one
// that takes its place was made. What is kept decides whether the slot counts as disturbed.
TEST_F(SlotPlanTest, WhatMadeWayIsKeptBeforeAnAttemptThatFailedInBetween) {
  const TaskPtr left = task("left", 1, v1::TASK_SHUTDOWN, v1::TASK_SHUTDOWN, 10, 35);
  const TaskPtr failed = task("failed", 2, v1::TASK_SHUTDOWN, v1::TASK_FAILED, 20, 21);
  const TaskPtr fresh = task("fresh", 1, v1::TASK_RUNNING, v1::TASK_STARTING, 30, 31);
  for (const int64_t history : {0, 1}) {
    Plan plan;
    plan_slot(context(history), {left, failed, fresh}, true, plan);
    EXPECT_THAT(plan.remove, ElementsAre("failed")) << history;
    EXPECT_THAT(plan.create, IsEmpty());
    EXPECT_TRUE(look_at_slot(context(history), {left, fresh}).moving);
  }
  Plan plan;
  plan_slot(context(2), {left, failed, fresh}, true, plan);
  EXPECT_TRUE(plan.empty());
}

// Nothing made way for an attempt that follows one that failed: the newest is what is remembered.
TEST_F(SlotPlanTest, OfAttemptsThatFailedTheNewestIsKept) {
  const TaskPtr first = task("first", 1, v1::TASK_SHUTDOWN, v1::TASK_FAILED, 10, 15);
  const TaskPtr second = task("second", 1, v1::TASK_SHUTDOWN, v1::TASK_FAILED, 20, 25);
  const TaskPtr fresh = task("fresh", 1, v1::TASK_RUNNING, v1::TASK_STARTING, 30, 31);
  Plan plan;
  plan_slot(context(1), {first, second, fresh}, true, plan);
  EXPECT_THAT(plan.remove, ElementsAre("first"));
  EXPECT_FALSE(look_at_slot(context(1), {second, fresh}).moving);
}

}  // namespace
}  // namespace muster::manager::orchestrator
