#include <signal.h>
#include <spdlog/sinks/ringbuffer_sink.h>

#include <algorithm>
#include <string>

#include "agent/routes/led_task.h"
#include "tests/agent/worker/worker_fixture.h"

namespace muster::agent {
namespace {

class FakeFlows final : public overlay::ContainerFlows {
 public:
  Result<bool> any(const std::string&) override {
    ++looks;
    if (!error.ok()) return fail(error);
    return flows;
  }
  bool flows = false;
  Status error;
  int looks = 0;
};

// Tasks whose connections may go on for a while.
class WorkerFlowsTest : public WorkerTest {
 protected:
  WorkerFlowsTest() { log_ = std::make_shared<spdlog::logger>("worker", lines_); }
  overlay::ContainerFlows* flows() override { return &flows_; }
  void leave(const std::string& id, v1::EndpointState endpoint) {
    v1::Task out = task(id, v1::TASK_SHUTDOWN);
    out.set_endpoint_state(endpoint);
    out.mutable_drain()->set_timeout_ns(Duration(5s).count());
    worker_->apply(feed({out}, false));
  }
  bool stopped() const { return !runtime_.sent.empty(); }
  // How many of the last lines of the log have the text.
  auto told(const std::string& text) const {
    const auto lines = lines_->last_formatted();
    return std::count_if(lines.begin(), lines.end(),
                         [&](const std::string& line) { return line.find(text) != line.npos; });
  }

  FakeFlows flows_;
  std::shared_ptr<spdlog::sinks::ringbuffer_sink_mt> lines_ =
      std::make_shared<spdlog::sinks::ringbuffer_sink_mt>(100);
};

TEST_F(WorkerFlowsTest, TheSignalWaitsForReleaseAndThenForConnections) {
  worker_->apply(feed({task("t1")}));
  world_.advance(100ms);
  flows_.flows = true;
  leave("t1", v1::ENDPOINT_DRAINING);
  world_.advance(10s);
  EXPECT_EQ(flows_.looks, 0);
  EXPECT_EQ(last_["t1"].endpoint_state(), v1::ENDPOINT_DRAINING);
  leave("t1", v1::ENDPOINT_RELEASED);
  world_.advance(2s);
  EXPECT_GE(flows_.looks, 4);
  EXPECT_LE(flows_.looks, 8) << "less and less often";
  EXPECT_FALSE(stopped());
  flows_.flows = false;
  world_.advance(501ms);
  EXPECT_TRUE(stopped());
  world_.advance(100ms);
  EXPECT_EQ(state("t1"), v1::TASK_SHUTDOWN);
  const int looks = flows_.looks;
  world_.advance(10s);
  EXPECT_EQ(flows_.looks, looks);
}

TEST_F(WorkerFlowsTest, OneWithoutConnectionsStopsWithTheFirstLook) {
  worker_->apply(feed({task("t1")}));
  world_.advance(100ms);
  leave("t1", v1::ENDPOINT_DRAINING);
  world_.advance(100ms);
  leave("t1", v1::ENDPOINT_RELEASED);
  world_.advance(90ms);
  EXPECT_FALSE(stopped()) << "who knows its address may be about to call";
  world_.advance(20ms);
  EXPECT_TRUE(stopped());
  EXPECT_EQ(flows_.looks, 1);
  EXPECT_EQ(told("is stopped after its drain time"), 0);
}

TEST_F(WorkerFlowsTest, TheDrainTimeBoundsConnectionsAndWhatCannotBeSeen) {
  for (const bool seen : {true, false}) {
    const std::string id = seen ? "t1" : "t2";
    flows_.flows = true;
    flows_.error = seen ? Status() : internal_error("no such socket family");
    worker_->apply(feed({task(id)}));
    world_.advance(100ms);
    runtime_.sent.clear();
    leave(id, v1::ENDPOINT_RELEASED);
    world_.advance(4900ms);
    EXPECT_FALSE(stopped()) << id;
    world_.advance(200ms);
    EXPECT_TRUE(stopped()) << id;
    world_.advance(100ms);
    EXPECT_EQ(state(id), v1::TASK_SHUTDOWN) << "the drain time is no part of the grace";
    EXPECT_EQ(told("(" + id + ") is stopped after its drain time of 5s: not all"), 1);
  }
  EXPECT_EQ(told("is stopped after its drain time"), 2);
}

// The timer of the drain must not count against the grace.
TEST_F(WorkerFlowsTest, TheGraceIsWholeAfterADrain) {
  runtime_.ignores_term = true;
  revision_.mutable_spec()->mutable_container()->set_stop_grace_period_ns(Duration(30s).count());
  worker_->apply(feed({task("t1")}));
  world_.advance(100ms);
  pool_.set_delay(2s);  // the signal waits for a free thread
  leave("t1", v1::ENDPOINT_DRAINING);
  world_.advance(14s);
  leave("t1", v1::ENDPOINT_RELEASED);
  world_.advance(60s);
  ASSERT_EQ(runtime_.sent.size(), 2U);
  EXPECT_EQ(runtime_.sent[1].first, SIGKILL);
  EXPECT_GE(runtime_.sent[1].second - runtime_.sent[0].second, Duration(30s));
}

TEST_F(WorkerFlowsTest, ASuccessorOfAKilledWorkerGoesOn) {
  worker_->apply(feed({task("t1")}));
  world_.advance(100ms);
  flows_.flows = true;
  leave("t1", v1::ENDPOINT_DRAINING);
  world_.advance(1s);
  restart();
  world_.advance(1s);
  EXPECT_FALSE(stopped());
  EXPECT_EQ(flows_.looks, 0);
  leave("t1", v1::ENDPOINT_RELEASED);
  world_.advance(1s);
  restart();
  world_.advance(1s);
  EXPECT_FALSE(stopped());
  flows_.flows = false;
  world_.advance(1s);
  EXPECT_TRUE(stopped());
  EXPECT_EQ(state("t1"), v1::TASK_SHUTDOWN);
}

// A new leader may not know yet, or never, that it was waited for in vain.
TEST_F(WorkerFlowsTest, WhatLetItselfGoDoesNotGoBack) {
  worker_->apply(feed({task("t1")}));
  world_.advance(100ms);
  flows_.flows = true;
  leave("t1", v1::ENDPOINT_DRAINING);
  world_.advance(TaskMachine::kReleaseLimit + Duration(1s));
  ASSERT_FALSE(stopped());
  leave("t1", v1::ENDPOINT_DRAINING);
  world_.advance(10ms);
  for (const v1::LocalTask& local : worker_->tasks()) {
    EXPECT_FALSE(own_endpoint(local).awaits_release);
    EXPECT_EQ(local.assignment().task().endpoint_state(), v1::ENDPOINT_RELEASED);
  }
  world_.advance(5s);
  EXPECT_TRUE(stopped());
}

TEST_F(WorkerFlowsTest, WithoutManagersATaskLetsItselfGo) {
  worker_->apply(feed({task("t1")}));
  world_.advance(100ms);
  leave("t1", v1::ENDPOINT_DRAINING);
  world_.advance(TaskMachine::kReleaseLimit - Duration(100ms));
  EXPECT_FALSE(stopped());
  world_.advance(300ms);
  EXPECT_TRUE(stopped());
}

}  // namespace
}  // namespace muster::agent
