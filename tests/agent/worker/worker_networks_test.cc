// What the worker tells the kernel of overlay networks, and when what follows from it comes.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <utility>
#include <vector>

#include "tests/agent/worker/worker_fixture.h"

namespace muster::agent {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;
using Acks = std::vector<std::pair<std::string, uint64_t>>;

// A netd that has all in force at once, and writes down what it hears.
class QuickNames final : public NameServer {
 public:
  explicit QuickNames(std::vector<std::string>& events) : events_(events) {}
  void begin(const std::string&) override {}
  void serve() override {}
  Status attach(const v1::NetdContainer&) override { return {}; }
  void adopt(const v1::NetdContainer&) override {}
  void detach(const std::string&) override {}
  void set_task(const v1::LocalTask& task) override {
    events_.push_back("names " + v1::EndpointState_Name(task.endpoint_state()));
  }
  void forget_task(const std::string&) override {}
  void apply(const overlay::NetworkStep& step) override {
    events_.push_back("names of " + step.network_id);
  }
  void after_applied(Executor& strand, UniqueFunction<void()> next) override {
    strand.after(delay, std::move(next));
  }
  Duration delay = 1ms;

 private:
  std::vector<std::string>& events_;
};

// s1, port 8080 of the mesh to 80.
v1::NetworkService published_service() {
  v1::NetworkService service;
  service.set_service_id("s1");
  v1::PortConfig& port = *service.add_ports();
  port.set_mode(v1::PortConfig::INGRESS);
  port.set_published_port(8080);
  port.set_target_port(80);
  return service;
}

class WorkerNetworksTest : public WorkerTest {
 protected:
  WorkerNetworksTest() { driver_ = "overlay"; }
  NameServer* names() override { return &names_; }

  v1::NetworkEndpoint far(const std::string& task, v1::EndpointState state = v1::ENDPOINT_READY) {
    v1::NetworkEndpoint out;
    out.set_task_id(task);
    out.set_service_id("s1");
    out.set_node_id("node2");
    out.add_addresses("10.0.0.9");
    out.set_state(state);
    return out;
  }
  // One of this node.
  v1::NetworkEndpoint own(const std::string& task, v1::EndpointState state) {
    v1::NetworkEndpoint out = far(task, state);
    out.set_node_id("node1");
    out.set_addresses(0, "10.0.0.2");
    return out;
  }
  // The managers tell of a network.
  void tell(const std::string& id, uint64_t version, bool complete,
            const std::vector<v1::NetworkEndpoint>& endpoints,
            const std::vector<v1::NetworkService>& services = {}) {
    v1::NetworkFeed feed;
    if (complete) {
      feed.mutable_network()->set_id(id);
      feed.mutable_network()->mutable_spec()->set_driver(driver_);
      feed.mutable_network()->mutable_spec()->set_ingress(id == "mesh");
    }
    for (const auto& endpoint : endpoints) *feed.add_endpoints() = endpoint;
    for (const auto& service : services) *feed.add_services() = service;
    v1::FeedUpdate step;
    step.mutable_feed()->set_kind(v1::FeedId::NETWORK);
    step.mutable_feed()->set_network_id(id);
    step.set_version(version);
    step.set_complete(complete);
    step.set_network(feed.SerializeAsString());
    worker_->apply(step);
  }
  void run_task() {
    worker_->apply(feed({task("t1")}));
    tell("n1", 5, true, {far("t2")});
    world_.advance(50ms);
    ASSERT_EQ(state("t1"), v1::TASK_RUNNING);
  }
  size_t at(const std::string& text, size_t from = 0) {
    for (size_t i = from; i < events_.size(); ++i) {
      if (events_[i] == text) return i;
    }
    ADD_FAILURE() << text << " is not in " << testing::PrintToString(events_);
    return events_.size();
  }
  // The state that the kernel was told last of a task.
  v1::EndpointState told(const std::string& task) {
    v1::EndpointState out = v1::ENDPOINT_ABSENT;
    for (const overlay::NetworkStep& step : network_.steps) {
      for (const auto& endpoint : step.feed.endpoints()) {
        if (endpoint.task_id() == task) out = endpoint.state();
      }
    }
    return out;
  }

  std::vector<std::string>& events_ = runtime_.events;
  QuickNames names_{events_};
};

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

// ---------------------------------------------------------------- entered while it runs

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
