// Containers that enter and leave networks while they run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/agent/worker/worker_networks_fixture.h"

namespace muster::agent {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

class WorkerConnectTest : public WorkerNetworksTest {
 protected:
  // The task as it is in these networks; those after the first by hand.
  v1::FeedUpdate connected(const std::vector<std::string>& networks) {
    v1::Task t = task("t1");
    t.clear_networks();
    v1::FeedUpdate step;
    step.mutable_feed()->set_kind(v1::FeedId::TASKS);
    v1::TaskAssignment& assignment = *step.add_tasks();
    for (const std::string& id : networks) {
      v1::NetworkAttachment& attachment = *t.add_networks();
      attachment.set_network_id(id);
      attachment.add_addresses("10.0.0.2/24");
      if (t.networks_size() > 1) t.add_connected()->set_target(id);
      v1::Network& network = *assignment.add_networks();
      network.set_id(id);
      network.mutable_spec()->set_driver("overlay");
    }
    *assignment.mutable_task() = t;
    return step;
  }
  std::vector<std::string> reconnections() {
    std::vector<std::string> out;
    for (const std::string& event : events_) {
      if (event.starts_with("reconnect")) out.push_back(event);
    }
    return out;
  }
};

TEST_F(WorkerConnectTest, TheContainerIsBroughtThereAndItsNamesFollow) {
  run_task();
  EXPECT_THAT(reconnections(), IsEmpty());
  events_.clear();
  worker_->apply(connected({"n1", "n2"}));
  world_.advance(50ms);
  EXPECT_THAT(reconnections(), ElementsAre("reconnect n1 n2*"));
  EXPECT_LT(at("reconnect n1 n2*"), at("names ENDPOINT_READY"));
  tell("n2", 6, true, {far("t3")});
  world_.advance(50ms);
  (void)at("step n2");
  // Nothing new is nothing to do.
  worker_->apply(connected({"n1", "n2"}));
  world_.advance(50ms);
  EXPECT_EQ(reconnections().size(), 1u);
  worker_->apply(connected({"n1"}));
  world_.advance(50ms);
  EXPECT_THAT(reconnections(), ElementsAre("reconnect n1 n2*", "reconnect n1"));
  (void)at("forget network n2");
}

TEST_F(WorkerConnectTest, ASuccessorCarriesOutWhatWasLeftUndone) {
  run_task();
  network_.reconnect_error = internal_error("no buffer space");
  worker_->apply(connected({"n1", "n2"}));
  world_.advance(10ms);
  network_.reconnect_error = {};
  events_.clear();
  restart();
  world_.advance(50ms);
  EXPECT_THAT(reconnections(), ElementsAre("reconnect n1 n2*"));
  network_.reconnect_error = internal_error("no buffer space");
  worker_->apply(connected({"n1"}));
  world_.advance(10ms);
  network_.reconnect_error = {};
  events_.clear();
  restart();
  world_.advance(50ms);
  EXPECT_THAT(reconnections(), ElementsAre("reconnect n1")) << "also when nothing is connected now";
  EXPECT_EQ(state("t1"), v1::TASK_RUNNING);
}

TEST_F(WorkerConnectTest, WhatFailsIsTriedAgainAndTheLastWordCounts) {
  run_task();
  pool_.set_delay(20ms);
  network_.reconnect_error = internal_error("no buffer space");
  worker_->apply(connected({"n1", "n2"}));
  world_.advance(5ms);
  worker_->apply(connected({"n1", "n2", "n3"}));
  worker_->apply(connected({"n1", "n3"}));
  world_.advance(100ms);
  EXPECT_THAT(reconnections(), ElementsAre("reconnect n1 n2*", "reconnect n1 n3*"));
  network_.reconnect_error = {};
  world_.advance(6s);
  EXPECT_EQ(reconnections().size(), 3u);
  world_.advance(20s);
  EXPECT_EQ(reconnections().size(), 3u);
}

TEST_F(WorkerConnectTest, TheTasksAreAcknowledgedWhenTheirContainersAreWhereTheyAreToBe) {
  run_task();
  worker_->apply(connected({"n1", "n2"}));
  world_.advance(50ms);
  tasks_applied_.clear();
  pool_.set_delay(20ms);
  v1::FeedUpdate step = connected({"n1"});
  step.set_version(7);
  worker_->apply(step);
  world_.advance(10ms);
  EXPECT_THAT(tasks_applied_, IsEmpty()) << "it is in n2 yet";
  v1::FeedUpdate nothing = feed({}, false);
  nothing.set_version(8);
  worker_->apply(nothing);
  EXPECT_THAT(tasks_applied_, IsEmpty());
  world_.advance(20ms);
  EXPECT_THAT(reconnections().back(), "reconnect n1");
  EXPECT_THAT(tasks_applied_, ElementsAre(8));
  nothing.set_version(9);
  worker_->apply(nothing);
  EXPECT_THAT(tasks_applied_, ElementsAre(8, 9));
}

TEST_F(WorkerConnectTest, TheTasksAreNotAcknowledgedWhileAContainerCannotBeTakenOut) {
  run_task();
  worker_->apply(connected({"n1", "n2"}));
  world_.advance(50ms);
  tasks_applied_.clear();
  network_.reconnect_error = internal_error("no buffer space");
  v1::FeedUpdate step = connected({"n1"});
  step.set_version(7);
  worker_->apply(step);
  world_.advance(1s);
  EXPECT_THAT(tasks_applied_, IsEmpty());
  network_.reconnect_error = {};
  world_.advance(5s);
  EXPECT_THAT(tasks_applied_, ElementsAre(7));
  // What has ended is in no network.
  network_.reconnect_error = internal_error("no buffer space");
  step = connected({"n1", "n2"});
  step.set_version(8);
  worker_->apply(step);
  world_.advance(1s);
  runtime_.end(container("t1"), {0, false, {}});
  world_.advance(100ms);
  EXPECT_THAT(tasks_applied_, ElementsAre(7, 8));
}

TEST_F(WorkerConnectTest, WhoCannotEnterANetworkKeepsNobodyElseInOne) {
  run_task();
  worker_->apply(connected({"n1", "n2"}));
  world_.advance(50ms);
  tasks_applied_.clear();
  network_.reconnect_error = failed_precondition("network vault is encrypted");
  v1::FeedUpdate step = connected({"n1", "n2", "n3"});
  step.set_version(7);
  worker_->apply(step);
  EXPECT_THAT(tasks_applied_, IsEmpty()) << "it was not tried yet";
  world_.advance(1s);
  EXPECT_THAT(tasks_applied_, ElementsAre(7));
  const std::string why =
      "started; its networks are not as they should be: network vault is encrypted";
  EXPECT_EQ(last_["t1"].status().message(), why);
  // It leaves another one while it cannot enter that.
  network_.reconnect_leaves = true;
  step = connected({"n1", "n3"});
  step.set_version(8);
  worker_->apply(step);
  EXPECT_THAT(tasks_applied_, ElementsAre(7)) << "it is in n2 yet";
  world_.advance(1s);
  EXPECT_THAT(tasks_applied_, ElementsAre(7, 8));
  network_.reconnect_error = {};
  world_.advance(6s);
  EXPECT_EQ(last_["t1"].status().message(), "started");
}

TEST_F(WorkerConnectTest, ANetworkThatOneTaskLeavesAndAnotherEntersIsNotForgotten) {
  run_task();
  worker_->apply(connected({"n1", "n2"}));
  world_.advance(50ms);
  tell("n2", 6, true, {far("t3")});
  world_.advance(50ms);
  events_.clear();
  network_.steps.clear();
  // In one entry; the managers see that the node has a task in it before and after.
  v1::FeedUpdate step = connected({"n1"});
  v1::FeedUpdate other = feed({task("t4")});
  other.mutable_tasks(0)->mutable_task()->mutable_networks(0)->set_network_id("n2");
  other.mutable_tasks(0)->mutable_networks(0)->set_id("n2");
  *step.add_tasks() = other.tasks(0);
  worker_->apply(step);
  tell("n2", 7, false, {});
  world_.advance(1s);
  EXPECT_EQ(state("t4"), v1::TASK_RUNNING);
  EXPECT_THAT(events_, Not(Contains("forget network n2")));
  for (const overlay::NetworkStep& told : network_.steps) {
    EXPECT_FALSE(told.network_id == "n2" && told.complete) << told.feed.DebugString();
  }
  for (const overlay::NetworkStep& known : worker_->networks()) {
    if (known.network_id != "n2") continue;
    EXPECT_EQ(known.feed.network().id(), "n2");
    EXPECT_EQ(known.feed.endpoints_size(), 2) << "its own, and the far one";
  }
}

TEST_F(WorkerConnectTest, ItsEndWaitsForAStepThatIsUnderWay) {
  run_task();
  pool_.set_delay(500ms);
  worker_->apply(connected({"n1", "n2"}));
  world_.advance(10ms);
  runtime_.end(container("t1"), {0, false, {}});
  world_.advance(300ms);
  EXPECT_FALSE(network_.attached.empty()) << "cleaned up in the middle of it";
  world_.advance(2s);
  EXPECT_TRUE(network_.attached.empty());
  EXPECT_EQ(reconnections().size(), 1u);
}

}  // namespace
}  // namespace muster::agent
