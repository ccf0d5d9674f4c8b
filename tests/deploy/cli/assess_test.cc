#include <gtest/gtest.h>

#include "deploy/cli/progress.h"

namespace muster::deploy::cli {
namespace {

class Assess : public testing::Test {
 protected:
  Assess() {
    view_.service.set_id("s");
    view_.service.set_revision(2);
    view_.service.mutable_spec()->mutable_replicated()->set_replicas(2);
    view_.since_version = 10;
  }

  v1::Task& add(uint64_t slot, v1::TaskState state, v1::TaskState desired = v1::TASK_RUNNING) {
    const std::string id = "t" + std::to_string(view_.tasks.size());
    v1::Task& task = view_.tasks[id];
    task.set_id(id);
    task.set_name("web." + std::to_string(slot));
    task.set_slot(slot);
    task.set_node_id("n1");
    task.set_revision(2);
    task.mutable_meta()->set_version(20 + view_.tasks.size());
    task.mutable_meta()->set_created_at_ns(static_cast<int64_t>(view_.tasks.size()));
    task.mutable_status()->set_state(state);
    task.set_desired_state(desired);
    return task;
  }
  Assessment now() { return assess(view_, {{"n1", "host1"}, {"n2", "host2"}}); }

  ServiceView view_;
};

TEST_F(Assess, ConvergedWhenEverySlotRuns) {
  add(1, v1::TASK_RUNNING);
  EXPECT_FALSE(now().converged);
  add(2, v1::TASK_PREPARING).mutable_status()->set_message("pulling image");
  EXPECT_EQ(now().slots[1].text, "preparing: pulling image");
  EXPECT_EQ(now().slots[1].label, "2/2");
  view_.tasks["t1"].mutable_status()->set_state(v1::TASK_RUNNING);
  EXPECT_TRUE(now().converged);
  EXPECT_EQ(now().done, 2U);
}

TEST_F(Assess, OldRevisionsAndSurplusSlotsHaveToGo) {
  add(1, v1::TASK_RUNNING);
  add(2, v1::TASK_RUNNING);
  v1::Task& old = add(1, v1::TASK_RUNNING);
  old.set_revision(1);
  EXPECT_FALSE(now().converged);
  old.set_desired_state(v1::TASK_SHUTDOWN);
  EXPECT_TRUE(now().converged);
  v1::Task& surplus = add(3, v1::TASK_RUNNING);
  EXPECT_FALSE(now().converged);
  surplus.set_desired_state(v1::TASK_REMOVE);
  EXPECT_TRUE(now().converged);
}

TEST_F(Assess, BlockedTellsTheSchedulersReason) {
  add(1, v1::TASK_PENDING).mutable_status()->set_error("no suitable node (2 nodes paused)");
  EXPECT_EQ(now().blocked, "no suitable node (2 nodes paused)");
  EXPECT_EQ(now().failure, "");
}

TEST_F(Assess, ThreeFailuresOfASlotAreCertain) {
  for (int i = 0; i < 2; ++i)
    add(1, v1::TASK_REJECTED, v1::TASK_SHUTDOWN).mutable_status()->set_error("no such image: x");
  add(1, v1::TASK_READY);
  EXPECT_EQ(now().failure, "");
  add(1, v1::TASK_REJECTED, v1::TASK_SHUTDOWN).mutable_status()->set_error("no such image: x");
  EXPECT_EQ(now().failure, "task web.1 failed 3 times: no such image: x");
}

TEST_F(Assess, ACommandThatDoesNotStayIsCertainToo) {
  for (int i = 0; i < 2; ++i) add(1, v1::TASK_COMPLETE, v1::TASK_SHUTDOWN);
  add(1, v1::TASK_READY);
  EXPECT_EQ(now().failure, "");
  add(1, v1::TASK_COMPLETE, v1::TASK_SHUTDOWN);
  EXPECT_EQ(
      now().failure,
      "task web.1 ended 3 times with exit code 0, and is started again each time: its command "
      "does not stay (what is meant to end is a job, --mode replicated-job)");
  view_.since_version = 1000;
  EXPECT_EQ(now().failure, "");
}

TEST_F(Assess, FailuresOfAnEarlierTimeDoNotCount) {
  for (int i = 0; i < 5; ++i) add(1, v1::TASK_FAILED, v1::TASK_SHUTDOWN);
  view_.since_version = 1000;
  add(1, v1::TASK_RUNNING);
  add(2, v1::TASK_RUNNING);
  EXPECT_EQ(now().failure, "");
  EXPECT_TRUE(now().converged);
}

TEST_F(Assess, GivenUpByTheRestartPolicy) {
  view_.service.mutable_spec()->mutable_task()->mutable_restart()->set_condition(
      v1::RestartPolicy::NONE);
  add(1, v1::TASK_FAILED, v1::TASK_SHUTDOWN).mutable_status()->set_error("exit code 3");
  EXPECT_EQ(now().failure,
            "task web.1 ended and its restart policy does not replace it: exit code 3");
}

TEST_F(Assess, GlobalServicesCountNodes) {
  view_.service.mutable_spec()->mutable_global();
  EXPECT_FALSE(now().converged);
  add(0, v1::TASK_RUNNING);
  EXPECT_TRUE(now().converged);
  EXPECT_EQ(now().slots[0].label, "host1");
  v1::Task& other = add(0, v1::TASK_STARTING);
  other.set_node_id("n2");
  EXPECT_FALSE(now().converged);
  // A node that is down does not count.
  other.set_node_id("gone");
  EXPECT_TRUE(now().converged);
}

class AssessJob : public Assess {
 protected:
  AssessJob() {
    auto* job = view_.service.mutable_spec()->mutable_replicated_job();
    job->set_total_completions(3);
    job->set_max_concurrent(2);
    view_.service.mutable_job_status()->set_iteration(4);
  }
  v1::JobStatus& status() { return *view_.service.mutable_job_status(); }
  v1::Task& add(uint64_t slot, v1::TaskState state, v1::TaskState desired = v1::TASK_COMPLETE) {
    v1::Task& task = Assess::add(slot, state, desired);
    task.set_name("job." + std::to_string(slot));
    task.set_job_iteration(4);
    return task;
  }
};

TEST_F(AssessJob, CountsCompletions) {
  add(0, v1::TASK_COMPLETE);
  add(1, v1::TASK_RUNNING);
  add(2, v1::TASK_COMPLETE).set_job_iteration(3);
  EXPECT_TRUE(now().job);
  EXPECT_EQ(now().done, 1U);
  EXPECT_EQ(now().wanted, 3U);
  EXPECT_EQ(now().active, 1U);
  EXPECT_EQ(now().active_wanted, 2U);
  EXPECT_EQ(now().slots[0].label + " " + now().slots[0].text, "1/3 complete");
  EXPECT_EQ(now().slots[1].label + " " + now().slots[1].text, "2/3 running");
  EXPECT_FALSE(now().converged);
  status().set_state(v1::JobStatus::COMPLETED);
  EXPECT_TRUE(now().converged);
}

TEST_F(AssessJob, CountsCompletionsWhoseTasksAreGone) {
  auto* range = status().add_collected_completed();
  range->set_first(0);
  range->set_last(1);
  add(2, v1::TASK_RUNNING);
  EXPECT_EQ(now().done, 2U);
  EXPECT_EQ(now().active_wanted, 1U);
}

TEST_F(AssessJob, EndsWithTheManagersReason) {
  status().set_failed(1);
  status().set_message("a task of the job cannot complete: task job.0 (x): exit code 1");
  EXPECT_EQ(now().failure,
            "a task of the job cannot complete: task job.0 (x): exit code 1 (its other tasks go "
            "on)");
  status().set_state(v1::JobStatus::FAILED);
  EXPECT_EQ(now().failure, "a task of the job cannot complete: task job.0 (x): exit code 1");
  EXPECT_FALSE(now().converged);
}

TEST_F(AssessJob, EndlessFailuresAreCertainLimitedOnesAreThePolicys) {
  for (int i = 0; i < 3; ++i)
    add(0, v1::TASK_FAILED, v1::TASK_SHUTDOWN).mutable_status()->set_error("exit code 1");
  EXPECT_EQ(now().failure, "task job.0 failed 3 times: exit code 1 (muster goes on trying)");
  view_.service.mutable_spec()->mutable_task()->mutable_restart()->set_max_attempts(5);
  EXPECT_EQ(now().failure, "");
}

TEST_F(AssessJob, QueuesForItsTurnWithoutBeingBlocked) {
  add(0, v1::TASK_PENDING).mutable_status()->set_error("no suitable node (insufficient memory)");
  EXPECT_EQ(now().blocked, "no suitable node (insufficient memory)");
  add(1, v1::TASK_RUNNING);
  EXPECT_EQ(now().blocked, "");
}

TEST_F(AssessJob, GlobalJobsCountNodes) {
  view_.service.mutable_spec()->mutable_global_job();
  add(0, v1::TASK_COMPLETE).set_node_id("n1");
  add(0, v1::TASK_RUNNING).set_node_id("n2");
  EXPECT_EQ(now().done, 1U);
  EXPECT_EQ(now().wanted, 2U);
  EXPECT_EQ(now().slots[1].label, "host2");
  view_.tasks.clear();
  status().set_message("no suitable node: none is ready");
  EXPECT_EQ(now().blocked, "no suitable node: none is ready");
}

TEST_F(Assess, UpdatesDecide) {
  add(1, v1::TASK_RUNNING);
  add(2, v1::TASK_RUNNING);
  auto* update = view_.service.mutable_update_status();
  update->set_state(v1::UpdateStatus::UPDATING);
  EXPECT_TRUE(now().converged);
  EXPECT_TRUE(now().updating);
  update->set_state(v1::UpdateStatus::ROLLBACK_STARTED);
  update->set_message("update rolled back due to failure of task x");
  EXPECT_TRUE(now().updating);
  EXPECT_EQ(now().going_back, "update rolled back due to failure of task x");
  update->set_state(v1::UpdateStatus::PAUSED);
  update->set_message("update paused due to failure of task x");
  EXPECT_EQ(now().failure, "service update paused: update paused due to failure of task x");
  update->set_state(v1::UpdateStatus::ROLLBACK_COMPLETED);
  EXPECT_FALSE(now().rolled_back) << "it was asked for";
  update->set_reason("update rolled back due to failure of task x");
  EXPECT_TRUE(now().rolled_back);
}

TEST_F(Assess, RemovedAndUnallocated) {
  view_.service.set_allocation_error("port 80 is already in use by service a");
  EXPECT_EQ(now().blocked, "port 80 is already in use by service a");
  view_.removed = true;
  EXPECT_EQ(now().failure, "the service was removed");
}

}  // namespace
}  // namespace muster::deploy::cli
