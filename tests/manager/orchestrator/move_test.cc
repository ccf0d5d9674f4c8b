#include <algorithm>
#include <map>

#include "manager/store/update_status.h"
#include "tests/manager/orchestrator/fixture.h"

namespace muster::manager::orchestrator {
namespace {

constexpr int64_t kMiB = 1 << 20;

// Nodes that change under their tasks. The test plays the scheduler, which places tasks on nodes
// with the label "ok", and the agents, one step each 100 ms.
class MoveTest : public OrchestratorTest {
 protected:
  MoveTest() { update_.set_parallelism(1); }

  v1::Node node(const std::string& id) const { return *store_.snapshot().get<v1::Node>(id); }
  void label(const std::string& id, bool ok) {
    v1::Node changed = node(id);
    changed.mutable_spec()->mutable_annotations()->clear_labels();
    if (ok) {
      changed.mutable_spec()->mutable_annotations()->add_labels()->set_key("ok");
      changed.mutable_spec()->mutable_annotations()->mutable_labels(0)->set_value("yes");
    }
    put(changed);
  }
  void available(const std::string& id, v1::NodeSpec::Availability availability) {
    v1::Node changed = node(id);
    changed.mutable_spec()->set_availability(availability);
    put(changed);
  }
  bool takes(const v1::Node& n) const {
    return n.status().state() == v1::NodeStatus::READY &&
           n.spec().availability() == v1::NodeSpec::ACTIVE &&
           (constraint_.empty() || n.spec().annotations().labels_size() > 0);
  }
  std::string find_node(const v1::Task& task) const {
    if (!task.node_id().empty()) return task.node_id();
    for (const char* id : {"n1", "n2", "n3"}) {
      if (takes(node(id))) return id;
    }
    return {};
  }
  void step(const v1::Task& task) {
    const v1::TaskState state = task.status().state();
    if (state > v1::TASK_RUNNING) return;
    v1::Task next = task;
    if (task.desired_state() >= v1::TASK_SHUTDOWN) {
      // As the dispatcher writes it: the error stays.
      return set_state(next, v1::TASK_SHUTDOWN);
    }
    if (state < v1::TASK_ASSIGNED) {
      next.set_node_id(find_node(task));
      if (next.node_id().empty()) {
        next.mutable_status()->set_error("no suitable node");
        next.mutable_status()->set_state(v1::TASK_PENDING);
        if (task.status().error().empty()) put(next);
        return;
      }
      next.mutable_status()->clear_error();
      return set_state(next, v1::TASK_ASSIGNED);
    }
    if (task.desired_state() != v1::TASK_RUNNING || state == v1::TASK_RUNNING) return;
    if (stuck_.contains(task.node_id())) return;
    if (bad_.contains(task.node_id())) {
      next.mutable_status()->set_error("exit code 1");
      return set_state(next, v1::TASK_FAILED);
    }
    set_state(next, v1::TASK_RUNNING);
  }
  // The fewest running tasks seen at any moment.
  size_t run(Duration time) {
    size_t least = SIZE_MAX;
    for (const WallTime end = world_.wall_now() + time; world_.wall_now() < end;) {
      for (const TaskPtr& task : tasks()) {
        // An earlier step of this round may have changed it.
        if (const auto present = store_.snapshot().get<v1::Task>(task->id())) step(*present);
        least = std::min(least, running());
        check_slots();
      }
      if (new_leaders_) {
        orchestrator_.stop();
        orchestrator_.start(store_.snapshot());
      }
      world_.advance(100ms);
    }
    return least;
  }
  size_t running() const {
    size_t count = 0;
    for (const TaskPtr& task : active()) {
      count += task->status().state() == v1::TASK_RUNNING ? 1 : 0;
    }
    return count;
  }
  void check_slots() const {
    std::map<uint64_t, int> meant;
    const bool pairs = update_.order() == v1::UpdateConfig::START_FIRST;
    for (const TaskPtr& task : active()) {
      if (task->slot() == 0) continue;
      EXPECT_LE(++meant[task->slot()], pairs ? 2 : 1);
    }
  }
  std::map<std::string, size_t> homes() const {
    std::map<std::string, size_t> out;
    for (const TaskPtr& task : active()) ++out[task->node_id()];
    return out;
  }
  std::set<std::string> errors_of_stopped() const {
    std::set<std::string> out;
    for (const TaskPtr& task : tasks()) {
      if (task->desired_state() == v1::TASK_SHUTDOWN) out.insert(task->status().error());
    }
    return out;
  }
  void reserve(int64_t bytes, const std::string& kind = {}) {
    v1::Revision revision;
    revision.set_id(store::revision_id("s", 1));
    revision.set_service_id("s");
    revision.set_number(1);
    auto& reserved = *revision.mutable_spec()->mutable_resources()->mutable_reservations();
    reserved.set_memory_bytes(bytes);
    if (!kind.empty()) {
      reserved.add_generic()->set_kind(kind);
      reserved.mutable_generic(0)->set_count(1);
    }
    put(revision);
  }
  void offer(const std::string& id, int64_t bytes) {
    v1::Node changed = node(id);
    changed.mutable_description()->mutable_resources()->set_memory_bytes(bytes);
    put(changed);
  }

  std::set<std::string> bad_, stuck_;  // nodes where tasks fail, or do not come up
  bool new_leaders_ = false;
};

using Homes = std::map<std::string, size_t>;
constexpr const char* kOk = "node.labels.ok == yes";
constexpr const char* kWhy =
    "node no longer satisfies constraint node.labels.ok == yes: the label is absent";

TEST_F(MoveTest, ALabelChangeMovesNoMoreAtATimeThanAnUpdate) {
  for (const uint64_t parallelism : {1, 2, 0}) {
    constraint_ = kOk;
    update_.set_parallelism(parallelism);
    label("n1", true);
    label("n2", false);
    put_service(4, 1);
    run(3s);
    ASSERT_EQ(homes(), (Homes{{"n1", 4}}));
    label("n2", true);
    label("n1", false);
    EXPECT_EQ(run(6s), parallelism == 0 ? 0 : 4 - parallelism);
    EXPECT_EQ(homes(), (Homes{{"n2", 4}}));
    EXPECT_EQ(running(), 4u);
    EXPECT_EQ(errors_of_stopped(), (std::set<std::string>{kWhy}));
    EXPECT_FALSE(store::is_unfinished(store_.snapshot().get<v1::Service>("s")->update_status()));
    write([](store::Transaction& tx) { return tx.remove<v1::Service>("s"); });
    run(1s);
    ASSERT_EQ(tasks().size(), 0u);
  }
}

TEST_F(MoveTest, SlotsMoveInTheirOrderAndAtOnce) {
  constraint_ = kOk;
  label("n1", true);
  put_service(3, 1);
  run(2s);
  label("n2", true);
  label("n1", false);
  for (const TaskPtr& task : active()) {
    EXPECT_EQ(task->desired_state() == v1::TASK_READY, task->slot() == 1) << task->name();
    EXPECT_EQ(task->start_after_ns(), 0) << "no restart delay";
  }
}

TEST_F(MoveTest, WhereNothingFitsEverythingEndsUpWaitingWithTheReason) {
  constraint_ = kOk;
  label("n1", true);
  put_service(3, 1);
  run(2s);
  label("n1", false);
  run(5s);
  EXPECT_EQ(running(), 0u);
  ASSERT_EQ(active().size(), 3u);
  for (const TaskPtr& task : active()) {
    EXPECT_EQ(task->status().state(), v1::TASK_PENDING);
    EXPECT_EQ(task->status().error(), "no suitable node");
  }
  label("n3", true);
  run(3s);
  EXPECT_EQ(homes(), (Homes{{"n3", 3}}));
}

TEST_F(MoveTest, ANewLeaderGoesOnWithTheMove) {
  v1::Cluster cluster;
  cluster.set_id("c");
  cluster.mutable_spec()->mutable_annotations()->set_name("default");
  cluster.mutable_spec()->set_task_history_limit(0);
  put(cluster);
  new_leaders_ = true;
  constraint_ = kOk;
  label("n1", true);
  put_service(4, 1);
  run(3s);
  label("n2", true);
  label("n1", false);
  EXPECT_EQ(run(8s), 3u);
  EXPECT_EQ(homes(), (Homes{{"n2", 4}}));
  EXPECT_EQ(tasks().size(), 4u) << "what was kept to know of the move goes";
}

TEST_F(MoveTest, ATaskThatDoesNotComeUpHoldsTheOthersUntilTheDeadlineOnly) {
  constraint_ = kOk;
  update_.set_progress_deadline_ns(Duration(10s).count());
  label("n1", true);
  put_service(2, 1);
  run(2s);
  label("n2", true);
  label("n1", false);
  stuck_ = {"n2"};
  EXPECT_EQ(run(9s), 1u);
  EXPECT_EQ(run(3s), 0u);
  stuck_ = {};
  run(2s);
  EXPECT_EQ(homes(), (Homes{{"n2", 2}}));
}

TEST_F(MoveTest, StartFirstKeepsTheOldTaskUntilTheNewOneRuns) {
  constraint_ = kOk;
  update_.set_order(v1::UpdateConfig::START_FIRST);
  label("n1", true);
  put_service(3, 1);
  run(2s);
  label("n2", true);
  label("n1", false);
  EXPECT_EQ(run(6s), 3u);
  EXPECT_EQ(homes(), (Homes{{"n2", 3}}));
  EXPECT_EQ(errors_of_stopped(), (std::set<std::string>{kWhy}));
}

TEST_F(MoveTest, StartFirstMovesNoMoreSlotsAtOnceThanAnUpdate) {
  constraint_ = kOk;
  update_.set_order(v1::UpdateConfig::START_FIRST);
  label("n1", true);
  put_service(3, 1);
  run(2s);
  label("n2", true);
  stuck_ = {"n2"};
  new_leaders_ = true;  // each looks at the whole service anew
  label("n1", false);
  run(2s);
  EXPECT_EQ(running(), 3u);
  EXPECT_EQ(active().size(), 4u) << "one new task beside the three that stay meanwhile";
}

TEST_F(MoveTest, StartFirstDoesNotKeepWhatHasNowhereToGo) {
  constraint_ = kOk;
  update_.set_order(v1::UpdateConfig::START_FIRST);
  label("n1", true);
  put_service(2, 1);
  run(2s);
  label("n1", false);
  run(5s);
  EXPECT_EQ(running(), 0u);
  EXPECT_EQ(active().size(), 2u);
}

TEST_F(MoveTest, StartFirstEndsWithTheFirstFailureOfTheNewTask) {
  constraint_ = kOk;
  update_.set_order(v1::UpdateConfig::START_FIRST);
  label("n1", true);
  put_service(1, 1);
  run(2s);
  label("n2", true);
  bad_ = {"n2"};
  label("n1", false);
  run(1s);
  ASSERT_EQ(active().size(), 1u);
  EXPECT_EQ(active()[0]->desired_state(), v1::TASK_READY) << "waits for the restart delay";
  EXPECT_EQ(running(), 0u);
  bad_ = {};
  run(6s);
  EXPECT_EQ(homes(), (Homes{{"n2", 1}}));
  EXPECT_EQ(running(), 1u);
}

TEST_F(MoveTest, StartFirstThatFailsTakesOneSlotAtATime) {
  constraint_ = kOk;
  update_.set_order(v1::UpdateConfig::START_FIRST);
  label("n1", true);
  put_service(3, 1);
  run(2s);
  label("n2", true);
  bad_ = {"n2"};
  label("n1", false);
  EXPECT_EQ(run(3s), 2u) << "the others stay while one waits for its next attempt";
}

TEST_F(MoveTest, StartFirstGivesUpAsTheRestartPolicySays) {
  constraint_ = kOk;
  restart_.set_max_attempts(1);
  restart_.set_delay_ns(0);
  update_.set_order(v1::UpdateConfig::START_FIRST);
  label("n1", true);
  put_service(1, 1);
  run(2s);
  label("n2", true);
  bad_ = {"n2"};
  label("n1", false);
  run(10s);
  EXPECT_EQ(active().size(), 0u);
  EXPECT_LE(tasks().size(), 3u);
}

TEST_F(MoveTest, ALabelThatComesBackLeavesTheTaskWhereItIs) {
  constraint_ = kOk;
  update_.set_order(v1::UpdateConfig::START_FIRST);
  label("n1", true);
  put_service(1, 1);
  run(2s);
  const std::string id = active()[0]->id();
  label("n2", true);
  stuck_ = {"n2"};
  label("n1", false);
  run(1s);
  ASSERT_EQ(active().size(), 2u);
  label("n1", true);
  run(1s);
  ASSERT_EQ(active().size(), 1u);
  EXPECT_EQ(active()[0]->id(), id);
}

TEST_F(MoveTest, TheNewNodeOfAMoveIsLostBeforeItRan) {
  constraint_ = kOk;
  update_.set_order(v1::UpdateConfig::START_FIRST);
  label("n1", true);
  put_service(1, 1);
  run(2s);
  label("n2", true);
  stuck_ = {"n2"};
  label("n1", false);
  run(1s);
  label("n3", true);
  v1::Node lost = node("n2");
  lost.mutable_status()->set_state(v1::NodeStatus::DOWN);
  put(lost);
  EXPECT_EQ(run(3s), 1u);
  EXPECT_EQ(homes(), (Homes{{"n3", 1}}));
}

TEST_F(MoveTest, WhatIsNotToBeRestartedIsNotReplaced) {
  constraint_ = kOk;
  restart_.set_condition(v1::RestartPolicy::NONE);
  label("n1", true);
  put_service(2, 1);
  run(2s);
  label("n2", true);
  label("n1", false);
  run(5s);
  EXPECT_EQ(active().size(), 0u);
  EXPECT_EQ(errors_of_stopped(), (std::set<std::string>{kWhy}));
}

TEST_F(MoveTest, UpdateAndMoveTogetherStayWithinTheParallelism) {
  constraint_ = kOk;
  update_.set_parallelism(2);
  label("n1", true);
  put_service(6, 1);
  run(3s);
  label("n2", true);
  // The same revision with another image, so that the tasks are outdated.
  constraint_.clear();
  put_service(6, 2);
  world_.advance(50ms);
  label("n1", false);
  const size_t least = run(15s);
  EXPECT_GE(least, 4u);
  EXPECT_EQ(running(), 6u);
  for (const TaskPtr& task : active()) EXPECT_EQ(task->revision(), 2u);
}

TEST_F(MoveTest, ATaskThatWasUpdatedAndHasToMoveCountsWithTheUpdate) {
  constraint_ = kOk;
  label("n1", true);
  put_service(4, 1);
  run(3s);
  v1::Revision next = *store_.snapshot().get<v1::Revision>(store::revision_id("s", 1));
  next.set_id(store::revision_id("s", 2));
  next.set_number(2);
  next.mutable_spec()->mutable_container()->set_image("other");
  next.mutable_meta()->Clear();
  put(next);
  put_service(4, 2);
  run(300ms);
  label("n2", true);
  label("n1", false);
  EXPECT_EQ(run(10s), 3u);
  EXPECT_EQ(homes(), (Homes{{"n2", 4}}));
  for (const TaskPtr& task : active()) EXPECT_EQ(task->revision(), 2u);
}

TEST_F(MoveTest, AnUpdateThatWaitsForANodeDoesNotHoldWhatHasToLeave) {
  constraint_ = kOk;
  label("n1", true);
  put_service(3, 1);
  run(3s);
  v1::Revision next = *store_.snapshot().get<v1::Revision>(store::revision_id("s", 1));
  next.set_id(store::revision_id("s", 2));
  next.set_number(2);
  next.mutable_spec()->mutable_container()->set_image("other");
  next.mutable_meta()->Clear();
  put(next);
  put_service(3, 2);
  run(400ms);
  label("n1", false);
  run(10s);
  EXPECT_EQ(store_.snapshot().get<v1::Service>("s")->update_status().state(),
            v1::UpdateStatus::UPDATING);
  for (const TaskPtr& task : active()) {
    const bool outdated = task->revision() == 1;
    EXPECT_EQ(task->status().state(), outdated ? v1::TASK_RUNNING : v1::TASK_PENDING)
        << "what the update has reached leaves; what it has not is its business";
  }
}

TEST_F(MoveTest, ConstraintsThatExcludeAllNodesInTheMiddleOfAnUpdateEndItWithTheReason) {
  constraint_ = kOk;
  update_.set_progress_deadline_ns(Duration(5s).count());
  label("n1", true);
  put_service(3, 1);
  run(3s);
  v1::Revision next = *store_.snapshot().get<v1::Revision>(store::revision_id("s", 1));
  next.set_id(store::revision_id("s", 2));
  next.set_number(2);
  next.mutable_spec()->mutable_container()->set_image("other");
  next.mutable_meta()->Clear();
  put(next);
  put_service(3, 2);
  label("n1", false);
  run(10s);
  const auto service = store_.snapshot().get<v1::Service>("s");
  EXPECT_EQ(service->update_status().state(), v1::UpdateStatus::PAUSED);
  EXPECT_NE(service->update_status().message().find("did not come up: no suitable node"),
            std::string::npos)
      << service->update_status().message();
  run(5s);
  EXPECT_EQ(running(), 0u) << "what the update had not come to does not stay, either";
  EXPECT_EQ(active().size(), 3u);
  label("n2", true);
  run(5s);
  EXPECT_EQ(homes(), (Homes{{"n2", 3}}));
}

TEST_F(MoveTest, DrainMovesEverythingAtOnceAndStartFirstWhereTheServiceSaysSo) {
  for (const bool start_first : {false, true}) {
    update_.set_order(start_first ? v1::UpdateConfig::START_FIRST : v1::UpdateConfig::STOP_FIRST);
    put_service(3, start_first ? 11 : 1);
    run(10s);
    ASSERT_EQ(homes(), (Homes{{"n1", 3}}));
    available("n1", v1::NodeSpec::DRAIN);
    EXPECT_EQ(run(3s), start_first ? 3u : 0u);
    EXPECT_EQ(homes(), (Homes{{"n2", 3}}));
    EXPECT_EQ(errors_of_stopped().count("node was drained"), 1u);
    available("n1", v1::NodeSpec::ACTIVE);
    available("n2", v1::NodeSpec::DRAIN);
    run(3s);
    available("n2", v1::NodeSpec::ACTIVE);
  }
}

TEST_F(MoveTest, ADrainEndsAlsoWhereNothingElseFits) {
  update_.set_order(v1::UpdateConfig::START_FIRST);
  constraint_ = kOk;
  label("n1", true);
  put_service(2, 1);
  run(2s);
  available("n1", v1::NodeSpec::DRAIN);
  run(2s);
  EXPECT_EQ(running(), 0u);
  EXPECT_EQ(active().size(), 2u);
  available("n1", v1::NodeSpec::ACTIVE);
  run(2s);
  EXPECT_EQ(homes(), (Homes{{"n1", 2}}));
}

TEST_F(MoveTest, TasksThatWereMovedDoNotTakeThePlaceOfAttemptsThatCount) {
  v1::Cluster cluster;
  cluster.set_id("c");
  cluster.mutable_spec()->mutable_annotations()->set_name("default");
  cluster.mutable_spec()->set_task_history_limit(1);
  put(cluster);
  restart_.set_max_attempts(2);
  restart_.set_delay_ns(0);
  put_service(1, 1);
  run(1s);
  const auto fail_running = [&] {
    for (const TaskPtr& task : active()) set_state(*task, v1::TASK_FAILED);
    run(1s);
  };
  fail_running();
  fail_running();
  for (int i = 0; i < 4; ++i) {
    const std::string home = active()[0]->node_id();
    available(home, v1::NodeSpec::DRAIN);
    run(1s);
    available(home, v1::NodeSpec::ACTIVE);
  }
  fail_running();
  EXPECT_EQ(active().size(), 0u) << "the third failure is one too many";
  new_leaders_ = true;
  run(5s);
  EXPECT_EQ(active().size(), 0u) << "whoever looks at it";
  EXPECT_LE(tasks().size(), 4u);
}

TEST_F(MoveTest, AGlobalServiceLeavesTheNodeAndComesBack) {
  constraint_ = kOk;
  for (const char* id : {"n1", "n2", "n3"}) label(id, true);
  put_service(0, 1, true);
  run(2s);
  ASSERT_EQ(running(), 3u);
  label("n2", false);
  run(1s);
  EXPECT_EQ(homes(), (Homes{{"n1", 1}, {"n3", 1}}));
  EXPECT_EQ(errors_of_stopped(), (std::set<std::string>{kWhy}));
  label("n2", true);
  run(1s);
  EXPECT_EQ(running(), 3u);
}

TEST_F(MoveTest, AGlobalServiceNeitherAddsNorUpdatesOnAPausedNode) {
  put_service(0, 1, true);
  run(2s);
  available("n2", v1::NodeSpec::PAUSE);
  put_service(0, 2, true);
  run(30s);
  std::map<std::string, uint64_t> revisions;
  for (const TaskPtr& task : active()) revisions[task->node_id()] = task->revision();
  EXPECT_EQ(revisions, (std::map<std::string, uint64_t>{{"n1", 2}, {"n2", 1}, {"n3", 2}}));
  EXPECT_EQ(store_.snapshot().get<v1::Service>("s")->update_status().state(),
            v1::UpdateStatus::COMPLETED);
  available("n2", v1::NodeSpec::ACTIVE);
  run(10s);
  for (const TaskPtr& task : active()) EXPECT_EQ(task->revision(), 2u);
}

TEST_F(MoveTest, ANodeThatShrinksKeepsItsOldestTasks) {
  reserve(100 * kMiB);
  offer("n1", 1000 * kMiB);
  put_service(4, 1);
  run(2s);
  ASSERT_EQ(homes(), (Homes{{"n1", 4}}));
  available("n1", v1::NodeSpec::PAUSE);  // so that what leaves goes elsewhere
  offer("n1", 250 * kMiB);
  EXPECT_EQ(run(3s), 3u);
  EXPECT_EQ(homes(), (Homes{{"n1", 2}, {"n2", 2}}));
  EXPECT_EQ(
      errors_of_stopped(),
      (std::set<std::string>{"node no longer has enough memory: 100MiB reserved, 50MiB left"}));
}

TEST_F(MoveTest, ANewLeaderSeesThatANodeIsTooSmall) {
  reserve(100 * kMiB);
  offer("n1", 1000 * kMiB);
  put_service(2, 1);
  run(2s);
  orchestrator_.stop();
  available("n1", v1::NodeSpec::PAUSE);
  offer("n1", 150 * kMiB);
  orchestrator_.start(store_.snapshot());
  run(2s);
  EXPECT_EQ(homes(), (Homes{{"n1", 1}, {"n2", 1}}));
}

}  // namespace
}  // namespace muster::manager::orchestrator
