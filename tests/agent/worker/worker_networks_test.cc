// What the worker tells the kernel of overlay networks, and when what follows from it comes.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <utility>
#include <vector>

#include "tests/agent/worker/worker_networks_fixture.h"

namespace muster::agent {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;
using Acks = std::vector<std::pair<std::string, uint64_t>>;

TEST_F(WorkerNetworksTest, AContainerFindsItsNetworksAsTheManagersToldThem) {
  pool_.set_delay(20ms);
  worker_->apply(feed({task("t1")}));
  world_.advance(30ms);
  tell("n1", 5, true, {far("t2")});
  world_.advance(15ms);
  EXPECT_EQ(runtime_.starts, 0) << "prepared, but the kernel does not know the network yet";
  world_.advance(60ms);
  EXPECT_EQ(state("t1"), v1::TASK_RUNNING);
  ASSERT_FALSE(network_.steps.empty());
  EXPECT_TRUE(network_.steps[0].complete);
  EXPECT_EQ(network_.steps[0].feed.endpoints_size(), 2) << "its own is in it, ready or not";
  EXPECT_EQ(told("t1"), v1::ENDPOINT_READY);
}

TEST_F(WorkerNetworksTest, NoManagerIsWaitedForLong) {
  worker_->apply(feed({task("t1")}));
  world_.advance(RouteKeeper::kFeedLimit - 10ms);
  EXPECT_EQ(runtime_.starts, 0);
  world_.advance(50ms);
  EXPECT_EQ(state("t1"), v1::TASK_RUNNING);
  EXPECT_THAT(network_.steps, IsEmpty());
}

TEST_F(WorkerNetworksTest, StepsOfANetworkComeOneAtATimeAndTogether) {
  run_task();
  network_.steps.clear();
  pool_.set_delay(20ms);
  for (uint64_t version = 6; version < 16; ++version) {
    tell("n1", version, false, {far("f" + std::to_string(version))});
  }
  world_.advance(100ms);
  ASSERT_EQ(network_.steps.size(), 2u);
  EXPECT_EQ(network_.steps[0].feed.endpoints_size(), 1);
  EXPECT_EQ(network_.steps[1].feed.endpoints_size(), 9);
  EXPECT_EQ(applied_.back(), std::pair(std::string("n1"), uint64_t{15}));
}

TEST_F(WorkerNetworksTest, AcknowledgedIsWhatKernelAndNamesHaveInForce) {
  run_task();
  EXPECT_EQ(applied_, (Acks{{"n1", 5}}));
  pool_.set_delay(20ms);
  names_.delay = 10ms;
  events_.clear();
  tell("n1", 6, false, {far("t2", v1::ENDPOINT_DRAINING)});
  world_.advance(19ms);
  EXPECT_THAT(events_, IsEmpty());
  world_.advance(2ms);
  EXPECT_THAT(events_, ElementsAre("step n1", "names of n1")) << "netd hears of it afterwards";
  EXPECT_EQ(applied_.size(), 1u);
  world_.advance(10ms);
  EXPECT_EQ(applied_, (Acks{{"n1", 5}, {"n1", 6}}));
}

TEST_F(WorkerNetworksTest, AStepThatChangesNothingIsAcknowledged) {
  run_task();
  network_.steps.clear();
  tell("n1", 9, false, {far("t2")});
  world_.advance(5ms);
  EXPECT_THAT(network_.steps, IsEmpty());
  EXPECT_THAT(applied_, Contains(std::pair(std::string("n1"), uint64_t{9})));
}

TEST_F(WorkerNetworksTest, WhatFailsIsNotAcknowledgedAndTriedAgain) {
  run_task();
  network_.apply_error = internal_error("no buffer space");
  tell("n1", 6, false, {far("t3")});
  world_.advance(50ms);
  EXPECT_THAT(applied_, Not(Contains(std::pair(std::string("n1"), uint64_t{6}))));
  EXPECT_THAT(events_, Contains("names of n1")) << "names must not lead to what is gone";
  network_.apply_error = {};
  network_.steps.clear();
  world_.advance(RouteKeeper::kPeriod + 50ms);
  ASSERT_EQ(network_.steps.size(), 1u);
  EXPECT_TRUE(network_.steps[0].complete);
  EXPECT_EQ(network_.steps[0].feed.endpoints_size(), 3);
  EXPECT_THAT(applied_, Contains(std::pair(std::string("n1"), uint64_t{6})));
}

TEST_F(WorkerNetworksTest, AFailureKeepsNoContainerFromItsStart) {
  network_.apply_error = internal_error("no buffer space");
  worker_->apply(feed({task("t1")}));
  tell("n1", 5, true, {});
  world_.advance(50ms);
  EXPECT_EQ(state("t1"), v1::TASK_RUNNING);
}

TEST_F(WorkerNetworksTest, NamesLeadToATaskAfterTheKernelDoes) {
  run_task();
  const size_t ready = at("names ENDPOINT_READY");
  size_t steps = 0;
  for (size_t i = 0; i < ready; ++i) steps += events_[i] == "step n1" ? 1 : 0;
  EXPECT_EQ(steps, 2u) << "the second one said that it is ready";
}

TEST_F(WorkerNetworksTest, NothingLeadsToATaskWhenItGetsItsSignal) {
  run_task();
  pool_.set_delay(20ms);
  const size_t running = events_.size();
  worker_->apply(feed({task("t1", v1::TASK_SHUTDOWN)}));
  world_.advance(300ms);
  EXPECT_LT(at("step n1", running), at("signal 2", running));
  EXPECT_NE(told("t1"), v1::ENDPOINT_READY);
}

TEST_F(WorkerNetworksTest, TheLastTaskTakesTheNetworkAlong) {
  run_task();
  worker_->apply(feed({task("t1", v1::TASK_SHUTDOWN)}));
  world_.advance(300ms);
  EXPECT_EQ(state("t1"), v1::TASK_SHUTDOWN);
  at("forget network n1");
  EXPECT_THAT(forgotten_, ElementsAre("n1"));
  // Coming back it begins with everything.
  network_.steps.clear();
  worker_->apply(feed({task("t5")}));
  tell("n1", 9, true, {far("t2")});
  world_.advance(50ms);
  ASSERT_FALSE(network_.steps.empty());
  EXPECT_TRUE(network_.steps[0].complete);
}

TEST_F(WorkerNetworksTest, ATaskThatNeverBeganIsInNoNetwork) {
  run_task();
  worker_->apply(feed({task("t1"), task("t6", v1::TASK_SHUTDOWN)}));
  world_.advance(50ms);
  EXPECT_EQ(state("t6"), v1::TASK_SHUTDOWN);
  bool gone = false;
  for (const overlay::NetworkStep& step : network_.steps) {
    for (const auto& endpoint : step.feed.endpoints()) {
      if (endpoint.task_id() == "t6") gone = false;
    }
    for (const auto& id : step.feed.removed_task_ids()) gone = gone || id == "t6";
  }
  EXPECT_TRUE(gone);
}

TEST_F(WorkerNetworksTest, OtherDriversFeedsAreForNamesAlone) {
  driver_ = "bridge";
  worker_->apply(feed({task("t1")}));
  tell("n1", 5, true, {});
  world_.advance(50ms);
  EXPECT_EQ(state("t1"), v1::TASK_RUNNING);
  EXPECT_THAT(network_.steps, IsEmpty());
  EXPECT_EQ(applied_, (Acks{{"n1", 5}}));
}

TEST_F(WorkerNetworksTest, TheKernelIsToldWhoTheNodeIsBeforeAnyNetwork) {
  v1::FeedUpdate cluster;
  cluster.mutable_feed()->set_kind(v1::FeedId::CLUSTER);
  cluster.mutable_cluster()->set_data_path_port(5000);
  EXPECT_THAT(events_, Not(Contains(testing::StartsWith("local "))))
      << "no manager has said the port";
  events_.clear();
  worker_->apply(cluster);
  worker_->apply(feed({task("t1")}));
  tell("n1", 5, true, {});
  world_.advance(50ms);
  EXPECT_LT(at("local 192.0.2.1:5000"), at("step n1"));
  EXPECT_EQ(network_.local.node_id, "node1");
  EXPECT_EQ(network_.steps[0].feed.endpoints(0).data_path_addr(), "192.0.2.1");
  events_.clear();
  worker_->apply(cluster);
  world_.advance(50ms);
  EXPECT_THAT(events_, Not(Contains("local 192.0.2.1:5000"))) << "nothing new";
}

TEST_F(WorkerNetworksTest, KeysAreAcknowledgedWhenTheKernelHasThem) {
  const auto tell_keys = [&](uint64_t version, std::vector<bool> used, bool udp) {
    v1::FeedUpdate step;
    step.mutable_feed()->set_kind(v1::FeedId::CLUSTER);
    step.set_version(version);
    for (size_t i = 0; i < used.size(); ++i) {
      v1::NetworkKey& key = *step.mutable_cluster()->add_network_keys();
      key.set_number(i + 1);
      key.set_secret(std::string(32, 's'));
      if (used[i]) key.set_used_from_ns(1);
    }
    step.mutable_cluster()->mutable_encryption()->set_udp_encapsulation(udp);
    worker_->apply(step);
  };
  tell_keys(4, {}, false);
  EXPECT_EQ(applied_, (Acks{{"", 4}})) << "without keys there is nothing to wait for";
  EXPECT_THAT(events_, Not(Contains(testing::StartsWith("keys"))));
  tell_keys(5, {true, false}, true);
  EXPECT_EQ(applied_.size(), 1u);
  // Another one comes while the kernel is told: of the first nothing is said.
  tell_keys(6, {true, true}, false);
  world_.advance(50ms);
  EXPECT_EQ(applied_, (Acks{{"", 4}, {"", 6}}));
  EXPECT_THAT(events_, Contains("keys 1* 2"));
  EXPECT_THAT(events_, Contains("keys 1* 2*"));
  EXPECT_EQ(network_.encryption.udp_port, 0u);
  // The same in another version.
  events_.clear();
  tell_keys(7, {true, true}, false);
  EXPECT_EQ(applied_.back(), (std::pair<std::string, uint64_t>("", 7)));
  EXPECT_THAT(events_, Not(Contains(testing::StartsWith("keys"))));
  // What fails is not said to be there, and tried again.
  network_.encryption_error = internal_error("no buffer space");
  tell_keys(8, {true, true, false}, true);
  world_.advance(50ms);
  EXPECT_EQ(applied_.back().second, 7u);
  EXPECT_EQ(network_.encryption.udp_port, 4500u);
  network_.encryption_error = {};
  world_.advance(RouteKeeper::kPeriod);
  EXPECT_EQ(applied_.back().second, 8u);
}

TEST_F(WorkerNetworksTest, WhatCannotBeCarriedOutIsToldOfTheNodeUntilItCan) {
  network_.apply_error = failed_precondition("this kernel has no VXLAN");
  run_task();
  EXPECT_THAT(limitations_,
              ElementsAre("network n1 is not as it should be here: this kernel has no VXLAN"));
  network_.apply_error = failed_precondition("UDP port 4789 is in use");
  world_.advance(RouteKeeper::kPeriod);
  EXPECT_THAT(limitations_,
              ElementsAre("network n1 is not as it should be here: UDP port 4789 is in use"));
  network_.apply_error = {};
  world_.advance(RouteKeeper::kPeriod);
  EXPECT_THAT(limitations_, IsEmpty());
}

TEST_F(WorkerNetworksTest, RepairWaitsForAMomentWithoutStepsButNotForever) {
  run_task();
  network_.repairs = 0;
  pool_.set_delay(100ms);
  // A step of one network or the other is always under way.
  uint64_t version = 6;
  const auto churn = [&](Duration time) {
    for (Duration passed{0}; passed < time; passed += 50ms) {
      if (version > 6) tell("mesh", version, version == 7, {far("t2", v1::ENDPOINT_DRAINING)});
      tell("n1", version++, false, {far("t2", v1::ENDPOINT_DRAINING)});
      world_.advance(50ms);
    }
  };
  churn(RouteKeeper::kRepairPatience - 1s);
  EXPECT_EQ(network_.repairs, 0);
  churn(RouteKeeper::kPeriod + 2s);
  EXPECT_EQ(network_.repairs, 1);
  churn(RouteKeeper::kRepairPatience + RouteKeeper::kPeriod);
  EXPECT_EQ(network_.repairs, 2);
}

TEST_F(WorkerNetworksTest, ThatNoOverlayCanBeEnteredIsToldByItself) {
  run_task();
  EXPECT_EQ(no_overlays_, "");
  network_.lacking = "no VXLAN";
  world_.advance(RouteKeeper::kPeriod);
  EXPECT_EQ(no_overlays_, "no VXLAN");
  EXPECT_THAT(limitations_, IsEmpty()) << "no sentence is made of it";
  network_.lacking.clear();
  world_.advance(RouteKeeper::kPeriod);
  EXPECT_EQ(no_overlays_, "");
}

TEST_F(WorkerNetworksTest, TheKernelIsComparedNowAndThenAndDifferencesCounted) {
  world_.advance(RouteKeeper::kFirstRepair + 10ms);
  EXPECT_EQ(network_.repairs, 1) << "after a restart";
  network_.differences = {"br0 was down", "a neighbour was gone"};
  world_.advance(RouteKeeper::kPeriod);
  EXPECT_EQ(network_.repairs, 2);
  EXPECT_EQ(repaired_, 2u);
}

TEST_F(WorkerNetworksTest, NoComparingWhileStepsAreUnderWay) {
  run_task();
  pool_.set_delay(3s);
  tell("n1", 6, false, {far("t7")});
  world_.advance(RouteKeeper::kFirstRepair + 10ms);
  EXPECT_EQ(network_.repairs, 0);
  pool_.set_delay(1ms);
  world_.advance(3s);
  EXPECT_EQ(network_.repairs, 1);
}

TEST_F(WorkerNetworksTest, PortsLeadToOtherNodesWhenTheMeshIsTheKernels) {
  mesh_ = true;
  restart();
  const v1::NetworkService service = published_service();
  tell("mesh", 5, true, {far("t2")}, {service});
  world_.advance(50ms);
  ASSERT_EQ(network_.published.size(), 1u);
  EXPECT_THAT(network_.published[0].backends, ElementsAre("10.0.0.9"));
  EXPECT_EQ(applied_, (Acks{{"mesh", 5}}));
  // Its own task comes beside it; the far one goes; the port stays.
  publish(v1::PortConfig::INGRESS, 8080);
  worker_->apply(feed({task("t1")}));
  tell("n1", 5, true, {});
  world_.advance(50ms);
  EXPECT_THAT(network_.published[0].backends, ElementsAre("10.0.0.2", "10.0.0.9"));
  EXPECT_EQ(network_.published[0].containers.size(), 1u) << "of this node";
  tell("mesh", 6, false, {far("t2", v1::ENDPOINT_DRAINING)});
  worker_->apply(feed({}));
  world_.advance(300ms);
  ASSERT_EQ(network_.published.size(), 1u);
  EXPECT_THAT(network_.published[0].backends, IsEmpty());
}

// The port was refused on this node for as long as the kernel took to hear of the other task.
TEST_F(WorkerNetworksTest, AnOwnTaskThatIsLetGoAnswersUntilTheFeedHasWhoTakesItsPlace) {
  mesh_ = true;
  restart();
  publish(v1::PortConfig::INGRESS, 8080);
  worker_->apply(feed({task("t1")}));
  tell("n1", 1, true, {});
  tell("mesh", 5, true, {own("t1", v1::ENDPOINT_READY)}, {published_service()});
  world_.advance(300ms);
  ASSERT_EQ(network_.published.size(), 1u);
  ASSERT_THAT(network_.published[0].backends, ElementsAre("10.0.0.2"));

  v1::Task leaves = task("t1", v1::TASK_SHUTDOWN);
  leaves.set_endpoint_state(v1::ENDPOINT_DRAINING);
  leaves.mutable_drain()->set_timeout_ns(Duration(5s).count());
  worker_->apply(feed({leaves}, false));
  world_.advance(300ms);
  EXPECT_EQ(last_["t1"].endpoint_state(), v1::ENDPOINT_DRAINING);
  ASSERT_EQ(network_.published.size(), 1u);
  EXPECT_THAT(network_.published[0].backends, ElementsAre("10.0.0.2"));
  tell("mesh", 6, false, {far("t2")});
  world_.advance(300ms);
  EXPECT_THAT(network_.published[0].backends, ElementsAre("10.0.0.2", "10.0.0.9"));
  tell("mesh", 7, false, {own("t1", v1::ENDPOINT_DRAINING)});
  world_.advance(300ms);
  EXPECT_THAT(network_.published[0].backends, ElementsAre("10.0.0.9"));
  EXPECT_EQ(applied_.back(), (std::pair<std::string, uint64_t>("mesh", 7)));
}

// What ends the waiting without a word of the feed: the managers are away, the service is removed,
// the node is to have the task no more.
TEST_F(WorkerNetworksTest, PortsAndNamesPassByATaskThatIsSignalledBeforeTheFeedSaysThatItGoes) {
  mesh_ = true;
  v1::Task leaves = task("t1", v1::TASK_SHUTDOWN);
  const std::function<void()> ends[] = {[] {},
                                        [&] {
                                          leaves.clear_drain();
                                          leaves.set_endpoint_state(v1::ENDPOINT_RELEASED);
                                          worker_->apply(feed({leaves}, false));
                                        },
                                        [&] { worker_->apply(feed({})); }};
  uint64_t version = 1;
  for (const auto& end : ends) {
    restart();
    ports_.clear();
    publish(v1::PortConfig::INGRESS, 8080);
    const std::string id = fmt::format("t{}", version);
    worker_->apply(feed({task(id)}));
    tell("n1", version, true, {});
    tell("mesh", version++, true, {own(id, v1::ENDPOINT_READY)}, {published_service()});
    world_.advance(300ms);
    ASSERT_THAT(network_.published[0].backends, ElementsAre("10.0.0.2"));
    leaves = task(id, v1::TASK_SHUTDOWN);
    leaves.set_endpoint_state(v1::ENDPOINT_DRAINING);
    leaves.mutable_drain();
    worker_->apply(feed({leaves}, false));
    world_.advance(300ms);
    ASSERT_THAT(network_.published[0].backends, ElementsAre("10.0.0.2"));
    const size_t before = events_.size();
    end();
    world_.advance(TaskMachine::kReleaseLimit + Duration(1s));
    const size_t signal = at("signal 2", before);
    EXPECT_LT(at("ports 0", before), signal);
    EXPECT_LT(at("names ENDPOINT_RELEASED", before), signal);
    worker_->apply(feed({}));
    world_.advance(300ms);
  }
}

TEST_F(WorkerNetworksTest, ASuccessorGoesOnWithWhatWasToldWhileNoManagerAnswers) {
  mesh_ = true;
  restart();
  const v1::NetworkService service = published_service();
  tell("mesh", 5, true, {far("t2")}, {service});
  publish(v1::PortConfig::INGRESS, 8080);
  run_task();
  tell("n1", 6, false, {far("t3")});
  tell("n1", 7, false, {far("t2", v1::ENDPOINT_DRAINING)});
  world_.advance(50ms);
  const size_t before = events_.size();
  network_.steps.clear();
  restart();
  world_.advance(50ms);
  EXPECT_EQ(told("t1"), v1::ENDPOINT_READY);
  EXPECT_EQ(told("t3"), v1::ENDPOINT_READY);
  ASSERT_EQ(network_.steps.size(), 2u);
  for (const auto& step : network_.steps) EXPECT_TRUE(step.complete) << step.network_id;
  EXPECT_EQ(network_.steps[1].network_id, "n1");
  for (const auto& endpoint : network_.steps[1].feed.endpoints()) {
    if (endpoint.task_id() != "t2") continue;
    EXPECT_EQ(endpoint.state(), v1::ENDPOINT_DRAINING);
  }
  // No moment in which a published port does not lead to the other node.
  for (size_t i = before; i < events_.size(); ++i) {
    if (!events_[i].starts_with("ports ")) continue;
    EXPECT_EQ(events_[i], "ports 2") << testing::PrintToString(events_);
  }
  EXPECT_LT(at("ports 2", before), events_.size());
  // A manager that is back begins anew.
  tell("n1", 9, true, {far("t4")});
  world_.advance(50ms);
  EXPECT_EQ(told("t4"), v1::ENDPOINT_READY);
  EXPECT_THAT(network_.steps.back().feed.removed_task_ids(),
              testing::UnorderedElementsAre("t2", "t3"));
}

TEST_F(WorkerNetworksTest, NothingIsKeptOfANetworkThatNoTaskIsInAnyMore) {
  run_task();
  EXPECT_FALSE(fs::is_empty(root_ + "/agent/networks"));
  worker_->apply(feed({}));
  world_.advance(300ms);
  EXPECT_TRUE(fs::is_empty(root_ + "/agent/networks"));
}

TEST_F(WorkerNetworksTest, TheKernelIsToldNothingMoreOnceANodeHasLeft) {
  publish(v1::PortConfig::INGRESS, 80);
  tell("n1", 1, true, {far("t9")});
  worker_->apply(feed({task("t1")}));
  world_.advance(1s);
  pool_.set_delay(300ms);
  tell("n1", 2, false, {far("t8")});
  std::vector<std::string> before;
  bool left = false;
  worker_->leave([&] {
    before = events_;
    left = true;
  });
  world_.advance(60s);
  ASSERT_TRUE(left);
  EXPECT_THAT(before, Contains("forget network n1"));
  EXPECT_EQ(events_, before);
}

TEST_F(WorkerNetworksTest, ANodeWithoutTasksHasLeftWhenThePortsOfOthersAreGone) {
  mesh_ = true;
  restart();
  const v1::NetworkService web = published_service();
  tell("mesh", 1, true, {far("t9")}, {web});
  world_.advance(1s);
  ASSERT_EQ(network_.published.size(), 1u);
  network_.taken = {8080};
  pool_.set_delay(300ms);
  std::vector<std::string> before;
  bool left = false;
  worker_->leave([&] {
    before = events_;
    left = true;
  });
  world_.advance(60s);
  ASSERT_TRUE(left);
  EXPECT_THAT(before, Contains("forget network mesh"));
  EXPECT_TRUE(network_.published.empty());
  EXPECT_EQ(events_, before);
}

}  // namespace
}  // namespace muster::agent
