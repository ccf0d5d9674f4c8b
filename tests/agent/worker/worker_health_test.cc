// Health checks as the worker runs them, in virtual time.

#include "agent/worker/local_view.h"
#include "tests/agent/worker/worker_fixture.h"

namespace muster::agent {
namespace {

class WorkerHealthTest : public WorkerTest {
 protected:
  void SetUp() override {
    WorkerTest::SetUp();
    check().add_test("CMD-SHELL");
    check().add_test("check");
    check().set_interval_ns(Duration(1s).count());
  }
  v1::HealthCheck& check() {
    return *revision_.mutable_spec()->mutable_container()->mutable_healthcheck();
  }
  const v1::Health& health() { return last_["t1"].status().health(); }
  std::string shown() { return describe_container(worker_->tasks().at(0), {}).health(); }
};

TEST_F(WorkerHealthTest, GuardsRunningAndTheEndpoint) {
  worker_->apply(feed({task("t1")}));
  world_.advance(500ms);
  EXPECT_EQ(state("t1"), v1::TASK_STARTING);
  EXPECT_EQ(last_["t1"].endpoint_state(), v1::ENDPOINT_ABSENT);
  EXPECT_EQ(shown(), "starting");
  world_.advance(1s);
  EXPECT_EQ(state("t1"), v1::TASK_RUNNING);
  EXPECT_EQ(last_["t1"].endpoint_state(), v1::ENDPOINT_READY);
  EXPECT_EQ(health_.last_command, (std::vector<std::string>{"/bin/sh", "-c", "check"}));
  EXPECT_EQ(shown(), "healthy");
  health_.exit_code = 1;
  world_.advance(5s);
  EXPECT_EQ(state("t1"), v1::TASK_FAILED);
  EXPECT_EQ(last_["t1"].endpoint_state(), v1::ENDPOINT_ABSENT);
  EXPECT_EQ(error("t1"), "unhealthy container: health check failed with exit code 1: said so");
  EXPECT_EQ(health().state(), v1::Health::UNHEALTHY);
  EXPECT_EQ(health().failing_streak(), 3u);
  EXPECT_EQ(health().probes(health().probes_size() - 1).output(), "said so");
  EXPECT_EQ(shown(), "unhealthy");
}

TEST_F(WorkerHealthTest, TheImagesShellRunsTheCommand) {
  images_.shell = {"/bin/ash", "-eo", "pipefail", "-c"};
  worker_->apply(feed({task("t1")}));
  world_.advance(2s);
  EXPECT_EQ(health_.last_command,
            (std::vector<std::string>{"/bin/ash", "-eo", "pipefail", "-c", "check"}));
}

TEST_F(WorkerHealthTest, APassingProbeIsNotReported) {
  worker_->apply(feed({task("t1")}));
  world_.advance(2s);
  ASSERT_EQ(state("t1"), v1::TASK_RUNNING);
  const size_t reports = messages_.size();
  const int probes = health_.probes;
  world_.advance(1h);
  EXPECT_EQ(messages_.size(), reports);
  EXPECT_GT(health_.probes, probes + 3500);
  // What this node shows is fresh all the same.
  EXPECT_EQ(worker_->tasks().at(0).status().health().probes_size(), 5);
}

TEST_F(WorkerHealthTest, FailuresOfTheStartPeriodAreToldOnce) {
  check().set_start_period_ns(Duration(1h).count());
  check().set_start_interval_ns(Duration(1s).count());
  health_.exit_code = 1;
  worker_->apply(feed({task("t1")}));
  world_.advance(2s);
  const size_t reports = messages_.size();
  EXPECT_EQ(messages_.back(),
            "waiting to become healthy; health check failed with exit code 1: said so");
  world_.advance(50min);
  EXPECT_EQ(messages_.size(), reports);
  EXPECT_EQ(state("t1"), v1::TASK_STARTING);
  world_.advance(15min);
  EXPECT_EQ(state("t1"), v1::TASK_FAILED);
}

TEST_F(WorkerHealthTest, AProbeOfAContainerThatEndsSaysNothing) {
  check().set_retries(1);
  worker_->apply(feed({task("t1")}));
  world_.advance(2s);
  ASSERT_EQ(state("t1"), v1::TASK_RUNNING);
  // The container's end takes the probe with it; that it has ended is told a moment later.
  health_.exit_code = 137;
  health_.gone = true;
  world_.advance(1500ms);
  EXPECT_EQ(state("t1"), v1::TASK_RUNNING);
  runtime_.end(container("t1"), {5, false, {}});
  world_.advance(1s);
  EXPECT_EQ(error("t1"), "task: non-zero exit (5)");
  EXPECT_EQ(health().state(), v1::Health::HEALTHY);
}

TEST_F(WorkerHealthTest, NobodyProbesWhatIsBeingStopped) {
  runtime_.ignores_term = true;
  worker_->apply(feed({task("t1")}));
  world_.advance(2s);
  worker_->apply(feed({task("t1", v1::TASK_SHUTDOWN)}));
  world_.advance(100ms);
  const int probes = health_.probes;
  health_.exit_code = 1;
  world_.advance(8s);
  EXPECT_EQ(health_.probes, probes);
  world_.advance(5s);
  EXPECT_EQ(state("t1"), v1::TASK_SHUTDOWN);
}

TEST_F(WorkerHealthTest, ARestartOfMusterdForgetsNothing) {
  check().set_interval_ns(Duration(10s).count());
  worker_->apply(feed({task("t1")}));
  world_.advance(11s);
  ASSERT_EQ(state("t1"), v1::TASK_RUNNING);
  health_.exit_code = 1;
  world_.advance(21s);
  ASSERT_EQ(health().failing_streak(), 2u);
  last_.clear();
  restart();
  EXPECT_EQ(state("t1"), v1::TASK_RUNNING);
  EXPECT_EQ(last_["t1"].endpoint_state(), v1::ENDPOINT_READY);
  EXPECT_EQ(health().state(), v1::Health::HEALTHY);
  EXPECT_EQ(health().failing_streak(), 2u);
  // The third failure in a row, 10 s after the second: the restart has not put it off.
  world_.advance(10s);
  EXPECT_EQ(state("t1"), v1::TASK_FAILED);
}

TEST_F(WorkerHealthTest, TheStartPeriodGoesOnAfterARestartOfMusterd) {
  check().set_start_period_ns(Duration(60s).count());
  check().set_retries(1);
  health_.exit_code = 1;
  worker_->apply(feed({task("t1")}));
  world_.advance(50s);
  ASSERT_EQ(state("t1"), v1::TASK_STARTING);
  restart();
  world_.advance(5s);
  EXPECT_EQ(state("t1"), v1::TASK_STARTING);
  world_.advance(10s);
  EXPECT_EQ(state("t1"), v1::TASK_FAILED);
}

TEST_F(WorkerHealthTest, WhatIsOverdueAfterARestartIsProbedAtOnce) {
  check().set_interval_ns(Duration(10min).count());
  worker_->apply(feed({task("t1")}));
  world_.advance(11min);
  const int probes = health_.probes;
  worker_.reset();
  world_.advance(1h);
  restart();
  EXPECT_EQ(health_.probes, probes + 1);
}

}  // namespace
}  // namespace muster::agent
