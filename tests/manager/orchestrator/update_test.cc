#include <map>
#include <variant>

#include "tests/manager/orchestrator/fixture.h"

namespace muster::manager::orchestrator {
namespace {

// Whole updates over time; the agents run what they are given, but for `bad_` revisions.
class UpdateTest : public OrchestratorTest {
 protected:
  v1::UpdateStatus status() const { return service().update_status(); }
  const v1::Service& service() const { return *store_.snapshot().get<v1::Service>("s"); }
  // Agents at work for a while; tasks of bad revisions fail, stuck ones never come up.
  void run(Duration time) {
    const WallTime end = world_.wall_now() + time;
    for (;;) {
      for (bool changed = true; changed;) {
        changed = false;
        for (const TaskPtr& task : tasks()) changed |= step(*task);
      }
      check_parallelism();
      if (world_.wall_now() >= end) return;
      world_.advance(100ms);
    }
  }
  bool step(const v1::Task& task) {
    const v1::TaskState state = task.status().state();
    if (state > v1::TASK_RUNNING) return false;
    if (task.desired_state() >= v1::TASK_SHUTDOWN) {
      set_state(task, v1::TASK_SHUTDOWN);
    } else if (task.desired_state() != v1::TASK_RUNNING || stuck_.contains(task.revision())) {
      return false;
    } else if (state < v1::TASK_RUNNING && !bad_.contains(task.revision())) {
      set_state(task, v1::TASK_RUNNING);
    } else if (bad_.contains(task.revision())) {
      v1::Task failed = task;
      failed.mutable_status()->set_error("task: non-zero exit (1)");
      set_state(failed, v1::TASK_FAILED);
    } else {
      return false;
    }
    return true;
  }
  // Slots whose old task has gone and whose new one has not come up.
  void check_parallelism() {
    if (parallelism_ == 0) return;
    std::set<uint64_t> running;
    for (const TaskPtr& task : active()) {
      if (task->status().state() == v1::TASK_RUNNING) running.insert(task->slot());
    }
    EXPECT_GE(running.size() + parallelism_, service().spec().replicated().replicas());
  }
  std::map<uint64_t, size_t> revisions() const {
    std::map<uint64_t, size_t> out;
    for (const TaskPtr& task : active()) ++out[task->revision()];
    return out;
  }
  // A new leader, which has nothing but the store.
  void restart() {
    orchestrator_.stop();
    orchestrator_.start(store_.snapshot());
    world_.settle();
  }

  std::set<uint64_t> bad_, stuck_;
  size_t parallelism_ = 0;
};

using Revisions = std::map<uint64_t, size_t>;

TEST_F(UpdateTest, PausesAtTheFirstFailureAndNamesIt) {
  update_.set_parallelism(1);
  put_service(3, 1);
  run(1s);
  bad_ = {2};
  put_service(3, 2);
  run(2s);
  EXPECT_EQ(status().state(), v1::UpdateStatus::PAUSED);
  EXPECT_EQ(status().slots(), 3u);
  EXPECT_NE(status().message().find("update paused due to failure or early termination of task "
                                    "web."),
            std::string::npos);
  EXPECT_NE(status().message().find("task: non-zero exit (1)"), std::string::npos);
  run(60s);
  EXPECT_EQ(revisions(), (Revisions{{1, 2}, {2, 1}})) << "the others stay as they are";
}

TEST_F(UpdateTest, NoMoreSlotsAreDownThanMayBe) {
  update_.set_parallelism(2);
  put_service(5, 1);
  run(1s);
  parallelism_ = 2;
  put_service(5, 2);
  run(10s);
  EXPECT_EQ(status().state(), v1::UpdateStatus::COMPLETED);
  EXPECT_EQ(revisions(), (Revisions{{2, 5}}));
}

TEST_F(UpdateTest, APausedUpdateGoesOnWithANewRevision) {
  update_.set_parallelism(1);
  put_service(3, 1);
  run(1s);
  bad_ = {2};
  put_service(3, 2);
  run(2s);
  ASSERT_EQ(status().state(), v1::UpdateStatus::PAUSED);
  put_service(3, 3);
  run(10s);
  EXPECT_EQ(status().state(), v1::UpdateStatus::COMPLETED);
  EXPECT_EQ(revisions(), (Revisions{{3, 3}}));
}

TEST_F(UpdateTest, RollsBackByItself) {
  update_.set_parallelism(1);
  update_.set_failure_action(v1::UpdateConfig::ROLLBACK);
  put_service(4, 1);
  run(1s);
  std::set<std::string> before;
  for (const TaskPtr& task : active()) before.insert(task->id());
  bad_ = {2};
  put_service(4, 2);
  run(2s);
  EXPECT_EQ(status().state(), v1::UpdateStatus::ROLLBACK_STARTED);
  EXPECT_FALSE(service().has_previous_spec());
  run(10s);
  EXPECT_EQ(status().state(), v1::UpdateStatus::ROLLBACK_COMPLETED);
  EXPECT_NE(status().message().find("rollback completed: update rolled back due to failure"),
            std::string::npos);
  EXPECT_EQ(revisions(), (Revisions{{1, 4}}));
  size_t kept = 0;
  for (const TaskPtr& task : active()) kept += before.count(task->id());
  EXPECT_EQ(kept, 3u) << "what the update had not reached was left alone";
  run(60s);
  EXPECT_EQ(status().state(), v1::UpdateStatus::ROLLBACK_COMPLETED);
}

TEST_F(UpdateTest, ARollbackThatFailsIsPaused) {
  update_.set_parallelism(1);
  update_.set_failure_action(v1::UpdateConfig::ROLLBACK);
  put_service(3, 1);
  run(1s);
  bad_ = {2};
  put_service(3, 2);
  stuck_ = {1};  // what comes back does not come up at once
  run(2s);
  ASSERT_EQ(status().state(), v1::UpdateStatus::ROLLBACK_STARTED);
  stuck_ = {};
  bad_ = {1};
  run(2s);
  EXPECT_EQ(status().state(), v1::UpdateStatus::ROLLBACK_PAUSED);
  EXPECT_NE(status().message().find("rollback paused due to failure"), std::string::npos);
}

TEST_F(UpdateTest, FailuresWithinTheRatioDoNotStopIt) {
  update_.set_parallelism(1);
  update_.set_max_failure_ratio_ppm(500'000);
  put_service(4, 1);
  run(1s);
  bad_ = {2};
  put_service(4, 2);
  run(1s);
  // The second failure is half of four: not more than allowed. The third is.
  for (int i = 0; i < 50 && status().state() == v1::UpdateStatus::UPDATING; ++i) run(100ms);
  EXPECT_EQ(status().state(), v1::UpdateStatus::PAUSED);
  EXPECT_EQ(revisions()[2], 3u);
  EXPECT_EQ(revisions()[1], 1u);
}

TEST_F(UpdateTest, ATaskThatFailsAfterTheMonitorPeriodIsNoFailure) {
  update_.set_parallelism(1);
  put_service(1, 1);
  run(1s);
  put_service(1, 2);
  run(4800ms);
  ASSERT_EQ(status().state(), v1::UpdateStatus::UPDATING);
  set_state(*active()[0], v1::TASK_FAILED);
  run(100ms);
  EXPECT_EQ(status().state(), v1::UpdateStatus::PAUSED) << "within it, it is";
  put_service(1, 3);
  run(5200ms);
  EXPECT_EQ(status().state(), v1::UpdateStatus::COMPLETED);
  set_state(*active()[0], v1::TASK_FAILED);
  run(100ms);
  EXPECT_EQ(status().state(), v1::UpdateStatus::COMPLETED);
}

TEST_F(UpdateTest, ANewLeaderDecidesTheSame) {
  // With no history to speak of, and a leader that changes all the time.
  v1::Cluster cluster;
  cluster.set_id("c");
  cluster.mutable_spec()->mutable_annotations()->set_name("default");
  cluster.mutable_spec()->set_task_history_limit(0);
  put(cluster);
  restart_.set_delay_ns(Duration(100ms).count());
  update_.set_parallelism(1);
  update_.set_delay_ns(Duration(1s).count());
  update_.set_max_failure_ratio_ppm(500'000);
  put_service(4, 1);
  run(1s);
  bad_ = {2};
  put_service(4, 2);
  for (int i = 0; i < 200 && status().state() != v1::UpdateStatus::PAUSED; ++i) {
    run(100ms);
    restart();
  }
  EXPECT_EQ(status().state(), v1::UpdateStatus::PAUSED);
  EXPECT_EQ(revisions()[1], 1u) << "three of four have failed, restarted or not";
  run(5s);
  EXPECT_LE(tasks().size(), 5u) << "what was kept for counting goes";
}

TEST_F(UpdateTest, TheMonitorPeriodOutlivesALeader) {
  update_.set_parallelism(0);
  put_service(3, 1);
  run(1s);
  put_service(3, 2);
  run(3s);
  restart();
  run(1s);
  EXPECT_EQ(status().state(), v1::UpdateStatus::UPDATING);
  run(1200ms);
  EXPECT_EQ(status().state(), v1::UpdateStatus::COMPLETED);
}

TEST_F(UpdateTest, ContinueGoesPastWhatFails) {
  update_.set_parallelism(1);
  update_.set_failure_action(v1::UpdateConfig::CONTINUE);
  put_service(3, 1);
  run(1s);
  bad_ = {2};
  put_service(3, 2);
  run(10s);
  EXPECT_EQ(revisions(), (Revisions{{2, 3}}));
  bad_ = {};
  run(10s);
  EXPECT_EQ(status().state(), v1::UpdateStatus::COMPLETED);
}

TEST_F(UpdateTest, ADeadlineEndsTheWait) {
  for (const auto action : {v1::UpdateConfig::PAUSE, v1::UpdateConfig::ROLLBACK}) {
    const uint64_t number = action == v1::UpdateConfig::PAUSE ? 1 : 11;
    update_.set_parallelism(1);
    update_.set_failure_action(action);
    update_.set_progress_deadline_ns(Duration(60s).count());
    put_service(2, number);
    run(10s);
    stuck_ = {number + 1};
    put_service(2, number + 1);
    run(1s);
    for (const TaskPtr& task : active()) {
      if (task->revision() != number + 1) continue;
      v1::Task waiting = *task;
      waiting.mutable_status()->set_error("no suitable node (insufficient memory on 1 node)");
      put(waiting);
    }
    run(58s);
    restart();
    EXPECT_EQ(status().state(), v1::UpdateStatus::UPDATING);
    run(2s);
    EXPECT_NE(status().message().find("no progress within 1m0s: task web."), std::string::npos);
    EXPECT_NE(status().message().find("did not come up: no suitable node (insufficient memory on "
                                      "1 node)"),
              std::string::npos);
    if (action == v1::UpdateConfig::PAUSE) {
      EXPECT_EQ(status().state(), v1::UpdateStatus::PAUSED);
      continue;
    }
    run(10s);
    EXPECT_EQ(status().state(), v1::UpdateStatus::ROLLBACK_COMPLETED);
    EXPECT_EQ(revisions(), (Revisions{{number, 2}}));
  }
}

TEST_F(UpdateTest, ContinueGoesPastWhatDoesNotComeUp) {
  update_.set_parallelism(1);
  update_.set_failure_action(v1::UpdateConfig::CONTINUE);
  update_.set_progress_deadline_ns(Duration(10s).count());
  put_service(2, 1);
  run(1s);
  stuck_ = {2};
  put_service(2, 2);
  run(5s);
  EXPECT_EQ(revisions(), (Revisions{{1, 1}, {2, 1}}));
  run(6s);
  EXPECT_EQ(revisions(), (Revisions{{2, 2}}));
  EXPECT_EQ(status().state(), v1::UpdateStatus::UPDATING);
  run(11s);
  EXPECT_EQ(status().state(), v1::UpdateStatus::COMPLETED);
}

TEST_F(UpdateTest, ARollbackHasItsOwnPace) {
  update_.set_parallelism(0);
  update_.set_failure_action(v1::UpdateConfig::ROLLBACK);
  rollback_.set_parallelism(1);
  rollback_.set_delay_ns(Duration(10s).count());
  put_service(3, 1);
  run(1s);
  put_service(3, 2);
  run(1s);
  ASSERT_EQ(revisions()[2], 3u);
  set_state(*active()[0], v1::TASK_FAILED);
  run(2s);
  ASSERT_EQ(status().state(), v1::UpdateStatus::ROLLBACK_STARTED);
  EXPECT_EQ(revisions()[1], 1u);
  run(10s);
  EXPECT_EQ(revisions()[1], 2u);
  run(10s);
  EXPECT_EQ(revisions()[1], 3u);
  run(8s);
  EXPECT_EQ(status().state(), v1::UpdateStatus::ROLLBACK_STARTED);
  run(5s);
  EXPECT_EQ(status().state(), v1::UpdateStatus::ROLLBACK_COMPLETED);
}

TEST_F(UpdateTest, StartFirstLeavesTheOldTaskWhenTheNewOneDoesNotComeUp) {
  update_.set_parallelism(1);
  update_.set_order(v1::UpdateConfig::START_FIRST);
  update_.set_failure_action(v1::UpdateConfig::ROLLBACK);
  update_.set_progress_deadline_ns(Duration(5s).count());
  put_service(2, 1);
  run(1s);
  std::set<std::string> before;
  for (const TaskPtr& task : active()) before.insert(task->id());
  stuck_ = {2};
  put_service(2, 2);
  run(20s);
  EXPECT_EQ(status().state(), v1::UpdateStatus::ROLLBACK_COMPLETED);
  std::set<std::string> after;
  for (const TaskPtr& task : active()) after.insert(task->id());
  EXPECT_EQ(before, after);
}

TEST_F(UpdateTest, StartFirstTriesAgainAtThePaceOfTheRestartPolicy) {
  for (const auto action : {v1::UpdateConfig::CONTINUE, v1::UpdateConfig::PAUSE}) {
    const uint64_t number = action == v1::UpdateConfig::CONTINUE ? 1 : 11;
    update_.set_parallelism(1);
    update_.set_order(v1::UpdateConfig::START_FIRST);
    update_.set_failure_action(action);
    put_service(1, number);
    run(10s);
    size_t created = 0;
    const auto watch = store_.watch([&](const store::CommitEvent& event) {
      for (const store::AnyChange& any : *event.changes) {
        const auto* task = std::get_if<store::Change<v1::Task>>(&any);
        created += task != nullptr && task->before == nullptr ? 1 : 0;
      }
    });
    bad_ = {number + 1};
    put_service(1, number + 1);
    run(21s);
    EXPECT_EQ(created, 6u) << "five attempts, and the sixth waits for its time";
    EXPECT_EQ(revisions()[number], 1u) << "the old task runs all the time";
    bad_ = {};
    run(6s);
    EXPECT_EQ(revisions(), (Revisions{{number + 1, 1}}));
  }
}

TEST_F(UpdateTest, StartFirstThatIsGivenUpStaysSo) {
  restart_.set_max_attempts(1);
  restart_.set_delay_ns(0);
  update_.set_parallelism(1);
  update_.set_order(v1::UpdateConfig::START_FIRST);
  update_.set_failure_action(v1::UpdateConfig::CONTINUE);
  put_service(2, 1);
  run(1s);
  bad_ = {2};
  put_service(2, 2);
  run(30s);
  EXPECT_EQ(revisions(), (Revisions{{1, 2}}));
  EXPECT_EQ(status().state(), v1::UpdateStatus::COMPLETED);
  EXPECT_EQ(tasks().size(), 6u) << "two attempts in each slot";
  bad_ = {};
  put_service(2, 3);
  run(20s);
  EXPECT_EQ(revisions(), (Revisions{{3, 2}}));
}

TEST_F(UpdateTest, AGlobalServiceRollsBackToo) {
  update_.set_parallelism(1);
  update_.set_failure_action(v1::UpdateConfig::ROLLBACK);
  put_service(0, 1, true);
  run(1s);
  bad_ = {2};
  put_service(0, 2, true);
  run(10s);
  EXPECT_EQ(status().state(), v1::UpdateStatus::ROLLBACK_COMPLETED);
  EXPECT_EQ(revisions(), (Revisions{{1, 3}}));
}

}  // namespace
}  // namespace muster::manager::orchestrator
