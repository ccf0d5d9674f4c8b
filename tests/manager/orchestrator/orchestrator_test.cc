#include "tests/manager/orchestrator/fixture.h"

namespace muster::manager::orchestrator {
namespace {

using Names = std::set<std::string>;

TEST_F(OrchestratorTest, FillsSlotsFromOneAndReusesTheLowestFree) {
  put_service(3, 1);
  EXPECT_EQ(names(active()), (Names{"web.1", "web.2", "web.3"}));
  run_agents();
  put_service(1, 1);
  run_agents();
  EXPECT_EQ(names(tasks()), (Names{"web.1"}));  // removed tasks leave no history
  put_service(2, 1);
  EXPECT_EQ(names(active()), (Names{"web.1", "web.2"}));
}

TEST_F(OrchestratorTest, RestartsAfterTheDelayAndNotBefore) {
  put_service(1, 1);
  run_agents();
  set_state(*active()[0], v1::TASK_FAILED);
  ASSERT_EQ(active().size(), 1u);
  EXPECT_EQ(active()[0]->desired_state(), v1::TASK_READY);
  world_.advance(4900ms);
  EXPECT_EQ(active()[0]->desired_state(), v1::TASK_READY);
  world_.advance(200ms);
  EXPECT_EQ(active()[0]->desired_state(), v1::TASK_RUNNING);
}

TEST_F(OrchestratorTest, GivesUpAfterMaxAttemptsUntilTheServiceChanges) {
  restart_.set_max_attempts(2);
  put_service(1, 1);
  for (int i = 0; i < 3; ++i) {
    run_agents();
    ASSERT_EQ(active().size(), 1u) << i;
    set_state(*active()[0], v1::TASK_FAILED);
    world_.advance(6s);
  }
  EXPECT_EQ(active().size(), 0u);
  put_service(1, 2);
  run_agents();
  ASSERT_EQ(active().size(), 1u);
  EXPECT_EQ(active()[0]->revision(), 2u);
}

TEST_F(OrchestratorTest, KeepsFiveEndedTasksOfASlot) {
  put_service(1, 1);
  for (int i = 0; i < 9; ++i) {
    run_agents();
    set_state(*active()[0], v1::TASK_FAILED);
    world_.advance(6s);
  }
  EXPECT_EQ(tasks().size(), 6u);
}

TEST_F(OrchestratorTest, DrainMovesAtOnceOnceTheOldTaskHasStopped) {
  put_service(1, 1);
  run_agents();
  v1::Node node = *store_.snapshot().get<v1::Node>(active()[0]->node_id());
  node.mutable_spec()->set_availability(v1::NodeSpec::DRAIN);
  put(node);
  ASSERT_EQ(active().size(), 1u);
  EXPECT_EQ(active()[0]->desired_state(), v1::TASK_READY);
  for (const TaskPtr& task : tasks()) {
    if (task->desired_state() == v1::TASK_SHUTDOWN) set_state(*task, v1::TASK_SHUTDOWN);
  }
  EXPECT_EQ(active()[0]->desired_state(), v1::TASK_RUNNING);
}

TEST_F(OrchestratorTest, NodeDownIsReplacedWithoutWaiting) {
  put_service(1, 1);
  run_agents();
  v1::Node node = *store_.snapshot().get<v1::Node>(active()[0]->node_id());
  node.mutable_status()->set_state(v1::NodeStatus::DOWN);
  put(node);
  ASSERT_EQ(active().size(), 1u);
  EXPECT_EQ(active()[0]->desired_state(), v1::TASK_RUNNING);
  EXPECT_TRUE(active()[0]->node_id().empty());
}

TEST_F(OrchestratorTest, PausedNodeKeepsItsTasks) {
  put_service(1, 1);
  run_agents();
  const std::string id = active()[0]->id();
  v1::Node node = *store_.snapshot().get<v1::Node>(active()[0]->node_id());
  node.mutable_spec()->set_availability(v1::NodeSpec::PAUSE);
  put(node);
  ASSERT_EQ(active().size(), 1u);
  EXPECT_EQ(active()[0]->id(), id);
}

TEST_F(OrchestratorTest, GlobalServiceFollowsTheNodes) {
  put_service(0, 1, true);
  run_agents();
  EXPECT_EQ(names(active()), (Names{"web.n1", "web.n2", "web.n3"}));
  v1::Node node = *store_.snapshot().get<v1::Node>("n2");
  node.mutable_spec()->set_availability(v1::NodeSpec::DRAIN);
  put(node);
  run_agents();
  EXPECT_EQ(names(active()), (Names{"web.n1", "web.n3"}));
  node = *store_.snapshot().get<v1::Node>("n2");
  node.mutable_spec()->set_availability(v1::NodeSpec::ACTIVE);
  put(node);
  EXPECT_EQ(names(active()), (Names{"web.n1", "web.n2", "web.n3"}));
}

TEST_F(OrchestratorTest, UpdateReplacesOneSlotAtATimeStopFirst) {
  update_.set_parallelism(1);
  put_service(3, 1);
  run_agents();
  put_service(3, 2);
  size_t fresh = 0;
  for (const TaskPtr& task : active()) fresh += task->revision() == 2 ? 1 : 0;
  EXPECT_EQ(fresh, 1u);
  EXPECT_EQ(active().size(), 3u);
  run_agents();
  for (const TaskPtr& task : active()) EXPECT_EQ(task->revision(), 2u);
  EXPECT_EQ(active().size(), 3u);
  EXPECT_EQ(store_.snapshot().get<v1::Service>("s")->update_status().state(),
            v1::UpdateStatus::UPDATING);
  world_.advance(5s);
  EXPECT_EQ(store_.snapshot().get<v1::Service>("s")->update_status().state(),
            v1::UpdateStatus::COMPLETED);
}

TEST_F(OrchestratorTest, StartFirstKeepsTheOldTaskUntilTheNewOneRuns) {
  update_.set_order(v1::UpdateConfig::START_FIRST);
  update_.set_parallelism(1);
  put_service(1, 1);
  run_agents();
  put_service(1, 2);
  EXPECT_EQ(active().size(), 2u);
  run_agents();
  ASSERT_EQ(active().size(), 1u);
  EXPECT_EQ(active()[0]->revision(), 2u);
}

TEST_F(OrchestratorTest, NothingStartsInASlotBeforeWhatLeavesItHasStopped) {
  put_service(2, 1);
  run_agents();
  put_service(1, 1);  // web.2 is told to go, and is slow
  put_service(2, 1);
  ASSERT_EQ(names(active()), (Names{"web.1", "web.2"}));
  const auto fresh = [&] {
    for (const TaskPtr& task : active()) {
      if (task->slot() == 2) return task;
    }
    return TaskPtr();
  };
  EXPECT_EQ(fresh()->desired_state(), v1::TASK_READY);
  for (const TaskPtr& task : tasks()) {
    if (task->desired_state() == v1::TASK_REMOVE) set_state(*task, v1::TASK_SHUTDOWN);
  }
  EXPECT_EQ(fresh()->desired_state(), v1::TASK_RUNNING);
}

TEST_F(OrchestratorTest, AGlobalTaskWaitsForTheOneTheNodeCameBackWith) {
  put_service(0, 1, true);
  run_agents();
  v1::Node node = *store_.snapshot().get<v1::Node>("n2");
  node.mutable_status()->set_state(v1::NodeStatus::DOWN);
  put(node);
  EXPECT_EQ(active().size(), 2u);
  node.mutable_status()->set_state(v1::NodeStatus::READY);
  put(node);
  const auto on_n2 = [&] {
    for (const TaskPtr& task : active()) {
      if (task->node_id() == "n2") return task;
    }
    return TaskPtr();
  };
  ASSERT_NE(on_n2(), nullptr);
  EXPECT_EQ(on_n2()->desired_state(), v1::TASK_READY);
  world_.advance(61s);  // the old one never says that it has stopped
  EXPECT_EQ(on_n2()->desired_state(), v1::TASK_RUNNING);
}

TEST_F(OrchestratorTest, WhatWasGivenUpIsNotTriedAgainForWantOfHistory) {
  v1::Cluster cluster;
  cluster.set_id("c");
  cluster.mutable_spec()->mutable_annotations()->set_name("default");
  cluster.mutable_spec()->set_task_history_limit(0);
  put(cluster);
  restart_.set_condition(v1::RestartPolicy::NONE);
  put_service(1, 1);
  run_agents();
  set_state(*active()[0], v1::TASK_COMPLETE);
  world_.advance(10s);
  ASSERT_EQ(tasks().size(), 1u);
  EXPECT_EQ(tasks()[0]->status().state(), v1::TASK_COMPLETE);
  restart_.set_condition(v1::RestartPolicy::ANY);
  put_service(1, 2);
  run_agents();
  ASSERT_EQ(tasks().size(), 1u);  // and goes once something runs
  EXPECT_EQ(tasks()[0]->status().state(), v1::TASK_RUNNING);
}

TEST_F(OrchestratorTest, SlotsWhoseWorkIsDoneDoNotHoldAnUpdate) {
  update_.set_parallelism(1);
  put_service(3, 1);
  run_agents();
  restart_.set_condition(v1::RestartPolicy::ON_FAILURE);
  put_service(3, 2);
  for (int i = 0; i < 3; ++i) {
    run_agents();
    for (const TaskPtr& task : active()) {
      if (task->revision() == 2) set_state(*task, v1::TASK_COMPLETE);
    }
  }
  EXPECT_EQ(active().size(), 0u);
  EXPECT_EQ(store_.snapshot().get<v1::Service>("s")->update_status().state(),
            v1::UpdateStatus::COMPLETED);
}

TEST_F(OrchestratorTest, AnUpdateOfAnUpdateGoesOnWithTheNewest) {
  update_.set_parallelism(1);
  put_service(3, 1);
  run_agents();
  put_service(3, 2);  // its first task hangs
  put_service(3, 3);
  run_agents();
  EXPECT_EQ(names(active()), (Names{"web.1", "web.2", "web.3"}));
  for (const TaskPtr& task : active()) EXPECT_EQ(task->revision(), 3u);
  EXPECT_EQ(store_.snapshot().get<v1::Revision>(store::revision_id("s", 2)) == nullptr,
            tasks().size() == 3u);
}

TEST_F(OrchestratorTest, ATaskThatStayedThroughAChangeOfPlacementIsHeldToItLater) {
  constraint_ = "node.labels.old != x";
  put_service(1, 1);
  run_agents();
  const std::string id = active()[0]->id();
  v1::Node node = *store_.snapshot().get<v1::Node>(active()[0]->node_id());
  constraint_ = "node.labels.bad != x";
  put_service(1, 2);
  run_agents();
  ASSERT_EQ(active().size(), 1u);
  EXPECT_EQ(active()[0]->id(), id) << "it satisfies the new constraint where it is";
  node.mutable_spec()->mutable_annotations()->add_labels()->set_key("bad");
  node.mutable_spec()->mutable_annotations()->mutable_labels(0)->set_value("x");
  put(node);
  ASSERT_EQ(active().size(), 1u);
  EXPECT_NE(active()[0]->id(), id);
  EXPECT_EQ(active()[0]->revision(), 2u);
}

TEST_F(OrchestratorTest, AnOvertakenUpdateStillWaitsForWhatRan) {
  put_service(1, 1);
  run_agents();
  const v1::Task old = *active()[0];
  put_service(1, 2);  // waits for the old task, without a node yet
  put_service(1, 3);  // and is replaced before
  ASSERT_EQ(active().size(), 1u);
  EXPECT_EQ(active()[0]->revision(), 3u);
  EXPECT_EQ(active()[0]->desired_state(), v1::TASK_READY);
  set_state(*store_.snapshot().get<v1::Task>(old.id()), v1::TASK_SHUTDOWN);
  EXPECT_EQ(active()[0]->desired_state(), v1::TASK_RUNNING);
}

TEST_F(OrchestratorTest, AStartFirstUpdateThatIsOvertakenLeavesTwoTasksNotThree) {
  update_.set_order(v1::UpdateConfig::START_FIRST);
  update_.set_parallelism(1);
  put_service(1, 1);
  run_agents();
  put_service(1, 2);  // never comes up
  put_service(1, 3);
  std::set<uint64_t> revisions;
  for (const TaskPtr& task : active()) revisions.insert(task->revision());
  EXPECT_EQ(revisions, (std::set<uint64_t>{1, 3}));
  run_agents();
  ASSERT_EQ(active().size(), 1u);
  EXPECT_EQ(active()[0]->revision(), 3u);
}

TEST_F(OrchestratorTest, AWriteThatWasRefusedIsTriedAgain) {
  put_service(1, 1);
  run_agents();
  v1::Task failed = *active()[0];
  failed.mutable_status()->set_state(v1::TASK_FAILED);
  store_.update([failed](store::Transaction& tx) { return tx.update(failed); },
                [&](const store::Commit&) { proposer_.rejections = 5; });
  world_.settle();
  ASSERT_EQ(active().size(), 1u);
  EXPECT_EQ(active()[0]->status().state(), v1::TASK_FAILED);
  world_.advance(10s);
  ASSERT_EQ(active().size(), 1u);
  EXPECT_EQ(active()[0]->status().state(), v1::TASK_NEW);
}

// The scheduler ends what is outdated and finds no node. That is no attempt, so a policy that wants
// none after it has no say: the slot is the new revision's.
TEST_F(OrchestratorTest, AnOutdatedTaskThatEndsWithoutANodeLeavesItsSlotToTheNewRevision) {
  restart_.set_condition(v1::RestartPolicy::NONE);
  update_.set_parallelism(1);
  update_.set_delay_ns(3'600'000'000'000);
  put_service(2, 1);
  put_service(2, 2);  // one slot at a time, and the next in an hour
  for (const TaskPtr& task : active()) {
    if (task->revision() == 2) set_state(*task, v1::TASK_RUNNING);
  }
  TaskPtr waiting;
  for (const TaskPtr& task : active()) {
    if (task->revision() == 1) waiting = task;
  }
  ASSERT_NE(waiting, nullptr);
  v1::Task ended = *waiting;
  ended.mutable_status()->set_state(v1::TASK_SHUTDOWN);
  put(ended);
  std::set<uint64_t> slots;
  for (const TaskPtr& task : active()) {
    EXPECT_EQ(task->revision(), 2u);
    EXPECT_EQ(task->desired_state(), v1::TASK_RUNNING) << "and at once";
    slots.insert(task->slot());
  }
  EXPECT_EQ(slots, (std::set<uint64_t>{1, 2}));
}

TEST_F(OrchestratorTest, RemovedServiceLeavesNothing) {
  put_service(3, 1);
  run_agents();
  write([](store::Transaction& tx) { return tx.remove<v1::Service>("s"); });
  for (const TaskPtr& task : tasks()) EXPECT_EQ(task->desired_state(), v1::TASK_REMOVE);
  run_agents();
  EXPECT_EQ(tasks().size(), 0u);
  EXPECT_EQ(store_.snapshot().count<v1::Revision>(), 0u);
}

}  // namespace
}  // namespace muster::manager::orchestrator
