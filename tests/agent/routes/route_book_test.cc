#include "agent/routes/route_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"

namespace muster::agent {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

v1::Network network(const std::string& id, const std::string& driver = "overlay") {
  v1::Network out;
  out.set_id(id);
  out.mutable_spec()->set_driver(driver);
  out.mutable_spec()->set_ingress(id == "mesh");
  out.mutable_state()->set_vni(4097);
  return out;
}

v1::LocalTask local_task(const std::string& id, const std::vector<v1::Network>& networks,
                         v1::EndpointState state, v1::TaskState reached = v1::TASK_RUNNING) {
  v1::LocalTask out;
  v1::Task& task = *out.mutable_assignment()->mutable_task();
  task.set_id(id);
  task.set_service_id("svc");
  task.set_name("web.1");
  for (const v1::Network& net : networks) {
    v1::NetworkAttachment& attachment = *task.add_networks();
    attachment.set_network_id(net.id());
    attachment.add_addresses("10.0.1.5/24");
    attachment.set_mac("02:42:0a:00:01:05");
    *out.mutable_assignment()->add_networks() = net;
  }
  out.mutable_status()->set_state(reached);
  out.set_endpoint_state(state);
  return out;
}

v1::NetworkEndpoint far(const std::string& task, v1::EndpointState state = v1::ENDPOINT_READY,
                        const std::string& node = "there") {
  v1::NetworkEndpoint out;
  out.set_task_id(task);
  out.set_service_id("svc");
  out.set_node_id(node);
  out.add_addresses("10.0.1.9");
  out.set_state(state);
  out.set_data_path_addr("192.0.2.2");
  return out;
}

v1::NetworkService service(const std::string& id, uint32_t published = 0) {
  v1::NetworkService out;
  out.set_service_id(id);
  out.add_virtual_ips("10.0.1.2");
  if (published == 0) return out;
  v1::PortConfig& port = *out.add_ports();
  port.set_mode(v1::PortConfig::INGRESS);
  port.set_published_port(published);
  port.set_target_port(80);
  return out;
}

// The kernel: what it holds after the steps, and whether they came in an order that it can take.
class Kernel {
 public:
  struct Held {
    v1::Network network;
    std::map<std::string, std::string> entries;  // by kind and key

    friend bool operator==(const Held& a, const Held& b) {
      return a.network.SerializeAsString() == b.network.SerializeAsString() &&
             a.entries == b.entries;
    }
  };

  void apply(const RouteBook::Change& change) {
    const std::string& id = change.step.network_id;
    if (change.forget) {
      held.erase(id);
      return;
    }
    const v1::NetworkFeed& feed = change.step.feed;
    if (change.step.complete) {
      held[id] = {};
    } else {
      ASSERT_TRUE(held.contains(id)) << "an increment upon nothing";
      EXPECT_GT(feed.ByteSizeLong(), 0u) << "a step that says nothing";
    }
    Held& to = held[id];
    if (feed.has_network()) to.network = feed.network();
    for (const auto& e : feed.endpoints()) to.entries["e" + e.task_id()] = e.SerializeAsString();
    for (const auto& s : feed.services()) to.entries["s" + s.service_id()] = s.SerializeAsString();
    for (const auto& n : feed.ingress_nodes()) {
      to.entries["n" + n.node_id()] = n.SerializeAsString();
    }
    for (const auto& key : feed.removed_task_ids()) to.entries.erase("e" + key);
    for (const auto& key : feed.removed_service_ids()) to.entries.erase("s" + key);
    for (const auto& key : feed.removed_ingress_node_ids()) to.entries.erase("n" + key);
  }
  v1::NetworkEndpoint endpoint(const std::string& net, const std::string& task) const {
    v1::NetworkEndpoint out;
    EXPECT_TRUE(out.ParseFromString(held.at(net).entries.at("e" + task)));
    return out;
  }
  std::vector<std::string> keys(const std::string& net) const {
    std::vector<std::string> out;
    for (const auto& [key, bytes] : held.at(net).entries) out.push_back(key);
    return out;
  }

  std::map<std::string, Held> held;
};

class RouteBookTest : public testing::Test {
 protected:
  RouteBookTest() { book_.set_data_path("192.0.2.1"); }

  // A step of a feed.
  void feed(const std::string& net, const std::vector<v1::NetworkEndpoint>& endpoints,
            bool complete = true, const std::vector<v1::NetworkService>& services = {}) {
    overlay::NetworkStep step{net, complete, {}};
    if (complete) *step.feed.mutable_network() = network(net);
    for (const auto& e : endpoints) *step.feed.add_endpoints() = e;
    for (const auto& s : services) *step.feed.add_services() = s;
    book_.apply(step);
  }
  void set(const std::string& task, v1::EndpointState endpoint,
           v1::TaskState state = v1::TASK_RUNNING) {
    book_.set_task(local_task(task, {network("n1")}, endpoint, state));
  }
  // What is told of all networks that have changed.
  std::vector<RouteBook::Change> told() {
    std::vector<RouteBook::Change> out;
    for (const std::string& id : book_.take_changed()) {
      auto change = book_.next(id);
      if (!change) continue;
      kernel_.apply(*change);
      out.push_back(*std::move(change));
    }
    return out;
  }

  RouteBook book_{"here"};
  Kernel kernel_;
};

TEST_F(RouteBookTest, NothingIsToldBeforeTheManagersHave) {
  book_.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_ABSENT, v1::TASK_PREPARING));
  EXPECT_THAT(told(), IsEmpty()) << "what an earlier process told goes on working";
  EXPECT_FALSE(book_.fresh("n1"));
  feed("n1", {far("t2")}, true, {service("svc")});
  EXPECT_TRUE(book_.fresh("n1"));
  const auto steps = told();
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_TRUE(steps[0].step.complete);
  EXPECT_EQ(steps[0].step.feed.network().state().vni(), 4097u);
  EXPECT_THAT(kernel_.keys("n1"), ElementsAre("et1", "et2", "ssvc"));
}

TEST_F(RouteBookTest, OwnTasksAreTheTruthAboutThemselves) {
  book_.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_READY));
  feed("n1", {far("t1", v1::ENDPOINT_ABSENT, "here"), far("t2")});
  told();
  const v1::NetworkEndpoint own = kernel_.endpoint("n1", "t1");
  EXPECT_EQ(own.state(), v1::ENDPOINT_READY);
  EXPECT_EQ(own.node_id(), "here");
  EXPECT_EQ(own.data_path_addr(), "192.0.2.1");
  EXPECT_EQ(own.mac(), "02:42:0a:00:01:05");
  EXPECT_THAT(own.addresses(), ElementsAre("10.0.1.5"));
  // The feed is late in both directions.
  book_.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_DRAINING));
  feed("n1", {far("t1", v1::ENDPOINT_READY, "here")}, false);
  told();
  EXPECT_EQ(kernel_.endpoint("n1", "t1").state(), v1::ENDPOINT_DRAINING);
}

// What is told of tasks comes before what is told of networks.
TEST_F(RouteBookTest, ATaskThatIsLetGoIsLedToUntilTheFeedSaysWhoTakesItsPlace) {
  set("t1", v1::ENDPOINT_READY);
  feed("n1", {far("t1", v1::ENDPOINT_READY, "here")});
  told();
  v1::LocalTask leaves = local_task("t1", {network("n1")}, v1::ENDPOINT_DRAINING);
  leaves.set_stop_asked(true);
  leaves.mutable_assignment()->mutable_task()->set_endpoint_state(v1::ENDPOINT_DRAINING);
  book_.set_task(leaves);
  EXPECT_THAT(told(), IsEmpty());
  EXPECT_EQ(kernel_.endpoint("n1", "t1").state(), v1::ENDPOINT_READY);
  feed("n1", {far("t2")}, false);
  told();
  EXPECT_EQ(kernel_.endpoint("n1", "t1").state(), v1::ENDPOINT_READY);
  // A process that takes over knows it, too.
  RouteBook successor("here");
  successor.set_task(leaves);
  successor.restore(*book_.fed("n1"));
  const auto step = successor.next("n1");
  ASSERT_TRUE(step);
  EXPECT_EQ(step->step.feed.endpoints(0).state(), v1::ENDPOINT_READY);

  feed("n1", {far("t1", v1::ENDPOINT_DRAINING, "here")}, false);
  told();
  EXPECT_EQ(kernel_.endpoint("n1", "t1").state(), v1::ENDPOINT_DRAINING);
}

TEST_F(RouteBookTest, TheFeedMayKnowFirstThatATaskIsLetGo) {
  set("t1", v1::ENDPOINT_READY);
  feed("n1", {far("t1", v1::ENDPOINT_READY, "here")});
  told();
  feed("n1", {far("t1", v1::ENDPOINT_DRAINING, "here")}, false);
  EXPECT_THAT(told(), testing::SizeIs(1));
  EXPECT_EQ(kernel_.endpoint("n1", "t1").state(), v1::ENDPOINT_DRAINING);
  EXPECT_THAT(book_.fed_own("n1"), ElementsAre(testing::Pair("t1", v1::ENDPOINT_DRAINING)));
  feed("n1", {far("t2")});
  told();
  EXPECT_THAT(book_.fed_own("n1"), IsEmpty());
  EXPECT_EQ(kernel_.endpoint("n1", "t1").state(), v1::ENDPOINT_READY) << "its own word";
}

TEST_F(RouteBookTest, WhatEndedHereIsGoneThoughAFeedHasIt) {
  book_.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_READY));
  book_.set_task(local_task("t3", {network("n1")}, v1::ENDPOINT_READY));
  feed("n1", {far("t1", v1::ENDPOINT_READY, "here"), far("t9", v1::ENDPOINT_READY, "here")});
  told();
  EXPECT_THAT(kernel_.keys("n1"), ElementsAre("et1", "et3")) << "t9 is of an earlier life";
  book_.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_ABSENT, v1::TASK_FAILED));
  feed("n1", {far("t1", v1::ENDPOINT_READY, "here")}, false);
  told();
  EXPECT_THAT(kernel_.keys("n1"), ElementsAre("et3"));
}

TEST_F(RouteBookTest, OnlyDifferencesAreTold) {
  book_.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_READY));
  feed("n1", {far("t2"), far("t3")}, true, {service("svc"), service("old")});
  told();
  feed("n1", {far("t2")}, false);  // the same once more
  book_.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_READY));
  EXPECT_THAT(told(), IsEmpty());
  feed("n1", {far("t2", v1::ENDPOINT_DRAINING), far("t3")}, true, {service("svc")});
  const auto steps = told();
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_FALSE(steps[0].step.complete) << "a complete feed of a new session changes little";
  EXPECT_FALSE(steps[0].step.feed.has_network());
  EXPECT_EQ(steps[0].step.feed.endpoints_size(), 1);
  EXPECT_THAT(steps[0].step.feed.removed_service_ids(), ElementsAre("old"));
}

TEST_F(RouteBookTest, ANetworkIsForgottenWithItsLastTaskAndComesBackWhole) {
  book_.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_READY));
  book_.set_task(local_task("t2", {network("n1")}, v1::ENDPOINT_READY));
  feed("n1", {far("t3")});
  told();
  book_.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_ABSENT, v1::TASK_COMPLETE));
  told();
  EXPECT_TRUE(kernel_.held.contains("n1"));
  book_.set_task(local_task("t2", {network("n1")}, v1::ENDPOINT_ABSENT, v1::TASK_COMPLETE));
  auto steps = told();
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_TRUE(steps[0].forget);
  book_.set_task(local_task("t2", {network("n1")}, v1::ENDPOINT_ABSENT, v1::TASK_COMPLETE));
  feed("n1", {far("t4")}, false);  // told before the managers heard of the end
  EXPECT_THAT(told(), IsEmpty());
  // They may not have left off: what they told is still there, but is not trusted at once.
  book_.set_task(local_task("t5", {network("n1")}, v1::ENDPOINT_ABSENT, v1::TASK_PREPARING));
  EXPECT_THAT(told(), IsEmpty());
  book_.settle_for("n1");
  steps = told();
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_TRUE(steps[0].step.complete);
  EXPECT_THAT(kernel_.keys("n1"), ElementsAre("et3", "et4", "et5"));
}

TEST_F(RouteBookTest, OfANetworkThatWasLeftManagersMayTellNoMore) {
  book_.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_READY));
  feed("n1", {});
  told();
  EXPECT_TRUE(book_.fresh("n1"));
  book_.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_ABSENT, v1::TASK_COMPLETE));
  told();
  EXPECT_FALSE(book_.fresh("n1"));
  book_.remove_task("t1");
  told();
  EXPECT_FALSE(book_.knows("n1")) << "nobody holds it";
}

TEST_F(RouteBookTest, WhatAnEarlierProcessToldOfIsForgottenToo) {
  book_.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_ABSENT, v1::TASK_FAILED));
  const auto steps = told();
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_TRUE(steps[0].forget);
}

TEST_F(RouteBookTest, ATaskThatComesBeforeTheForgettingKeepsTheNetwork) {
  book_.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_READY));
  feed("n1", {far("t3")});
  told();
  book_.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_ABSENT, v1::TASK_COMPLETE));
  book_.set_task(local_task("t2", {network("n1")}, v1::ENDPOINT_ABSENT, v1::TASK_PREPARING));
  const auto steps = told();
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_FALSE(steps[0].forget);
  EXPECT_FALSE(steps[0].step.complete);
  EXPECT_THAT(kernel_.keys("n1"), ElementsAre("et2", "et3"));
}

TEST_F(RouteBookTest, TheIngressNetworkIsEveryNodes) {
  feed("mesh", {far("t2")}, true, {service("svc", 8080)});
  ASSERT_EQ(told().size(), 1u);
  EXPECT_THAT(kernel_.keys("mesh"), ElementsAre("et2", "ssvc"));
  book_.set_task(local_task("t1", {network("mesh")}, v1::ENDPOINT_READY));
  book_.set_task(local_task("t1", {network("mesh")}, v1::ENDPOINT_ABSENT, v1::TASK_COMPLETE));
  book_.remove_task("t1");
  told();
  EXPECT_TRUE(kernel_.held.contains("mesh"));
  EXPECT_TRUE(book_.fresh("mesh"));
  book_.leave();
  told();
  EXPECT_FALSE(kernel_.held.contains("mesh"));
}

TEST_F(RouteBookTest, AnotherIngressNetworkTakesThePlaceOfTheFirst) {
  feed("mesh", {far("t2")});
  told();
  overlay::NetworkStep step{"mesh2", true, {}};
  *step.feed.mutable_network() = network("mesh2");
  step.feed.mutable_network()->mutable_spec()->set_ingress(true);
  book_.apply(step);
  told();
  EXPECT_FALSE(kernel_.held.contains("mesh"));
  EXPECT_TRUE(kernel_.held.contains("mesh2"));
  EXPECT_FALSE(book_.knows("mesh"));
}

TEST_F(RouteBookTest, AnIngressNetworkThatWasRemovedIsForgotten) {
  feed("mesh", {far("t2")});
  told();
  book_.apply({"mesh", true, {}});
  told();
  EXPECT_FALSE(kernel_.held.contains("mesh"));
  EXPECT_FALSE(book_.knows("mesh"));
}

TEST_F(RouteBookTest, OtherDriversNetworksAreNoneOfItsBusiness) {
  book_.set_task(local_task("t1", {network("b1", "bridge")}, v1::ENDPOINT_READY));
  EXPECT_THAT(RouteBook::networks_of(
                  local_task("t1", {network("b1", "bridge"), network("n1")}, v1::ENDPOINT_READY)),
              ElementsAre("n1"));
  overlay::NetworkStep step{"b1", true, {}};
  *step.feed.mutable_network() = network("b1", "bridge");
  book_.apply(step);
  EXPECT_THAT(told(), IsEmpty());
  EXPECT_FALSE(book_.knows("b1"));
}

TEST_F(RouteBookTest, AfterAFailureAllIsToldAgain) {
  book_.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_READY));
  feed("n1", {far("t2")});
  told();
  feed("n1", {far("t3")}, false);
  ASSERT_TRUE(book_.next("n1"));  // and fails
  book_.failed("n1");
  auto again = book_.next("n1");
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->step.complete);
  kernel_.apply(*again);
  EXPECT_THAT(kernel_.keys("n1"), ElementsAre("et1", "et2", "et3"));
  book_.remove_task("t1");
  ASSERT_TRUE(book_.next("n1")->forget);
  book_.failed("n1");
  ASSERT_TRUE(book_.next("n1")->forget);
  EXPECT_FALSE(book_.next("n1"));
  EXPECT_FALSE(book_.knows("n1"));
}

TEST_F(RouteBookTest, AnotherDataPathIsTold) {
  book_.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_READY));
  feed("n1", {});
  told();
  book_.set_data_path("192.0.2.7");
  told();
  EXPECT_EQ(kernel_.endpoint("n1", "t1").data_path_addr(), "192.0.2.7");
}

TEST_F(RouteBookTest, PortsLeadToWhatIsReadyElsewhere) {
  book_.set_task(local_task("t1", {network("mesh")}, v1::ENDPOINT_READY));
  v1::NetworkEndpoint other = far("t4");
  other.set_service_id("other");
  feed("mesh", {far("t2"), far("t3", v1::ENDPOINT_DRAINING), other}, true,
       {service("svc", 8081), service("empty", 8080), service("unpublished")});
  const auto ports = book_.ingress_ports("mesh");
  ASSERT_EQ(ports.size(), 2u);
  EXPECT_EQ(ports[0].owner, "empty");
  EXPECT_THAT(ports[0].backends, IsEmpty());
  EXPECT_EQ(ports[1].port.published_port(), 8081u);
  EXPECT_THAT(ports[1].backends, ElementsAre("10.0.1.9"));
  EXPECT_THAT(book_.ingress_ports("n1"), IsEmpty());
}

TEST_F(RouteBookTest, PortsAreBalancedAsTheirServiceSays) {
  v1::NetworkEndpoint own = far("t1", v1::ENDPOINT_READY, "here");
  own.set_weight(3);
  v1::NetworkEndpoint other = far("t2");
  other.set_weight(5);
  v1::NetworkService svc = service("svc", 8081);
  svc.set_balancing(v1::EndpointSpec::SOURCE_HASH);
  svc.set_affinity_ns(7);
  book_.set_task(local_task("t1", {network("mesh")}, v1::ENDPOINT_READY));
  feed("mesh", {own, other}, true, {svc});
  const auto ports = book_.ingress_ports("mesh");
  ASSERT_EQ(ports.size(), 1u);
  EXPECT_EQ(ports[0].balancing, v1::EndpointSpec::SOURCE_HASH);
  EXPECT_EQ(ports[0].affinity_ns, 7);
  EXPECT_THAT(ports[0].weights,
              ElementsAre(testing::Pair("10.0.1.5", 3u), testing::Pair("10.0.1.9", 5u)));
}

TEST_F(RouteBookTest, OwnTasksWeighWhatTheManagersSay) {
  v1::NetworkEndpoint own = far("t1", v1::ENDPOINT_READY, "here");
  own.set_weight(3);
  feed("n1", {own});
  set("t1", v1::ENDPOINT_READY);
  told();
  EXPECT_EQ(kernel_.endpoint("n1", "t1").weight(), 3u);
  own.set_weight(4);
  feed("n1", {own}, false);
  EXPECT_THAT(told(), testing::SizeIs(1));
  EXPECT_EQ(kernel_.endpoint("n1", "t1").weight(), 4u);
  // It outlives this process.
  RouteBook successor("here");
  successor.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_READY));
  successor.restore(*book_.fed("n1"));
  const auto step = successor.next("n1");
  ASSERT_TRUE(step);
  EXPECT_EQ(step->step.feed.endpoints(0).weight(), 4u);
  feed("n1", {far("t1", v1::ENDPOINT_READY, "here")}, false);
  told();
  EXPECT_EQ(kernel_.endpoint("n1", "t1").weight(), 0u);
}

TEST_F(RouteBookTest, WhatIsEnteredAgainWaitsForWhatTheManagersSayNow) {
  feed("n1", {far("t2")});
  set("t1", v1::ENDPOINT_READY);
  told();
  // Ended; they leave off telling and begin anew with the next task.
  set("t1", v1::ENDPOINT_ABSENT, v1::TASK_FAILED);
  told();
  set("t3", v1::ENDPOINT_ABSENT);
  EXPECT_THAT(told(), IsEmpty()) << "t2 may be gone";
  feed("n1", {far("t4")});
  auto steps = told();
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_TRUE(steps[0].step.complete);
  EXPECT_EQ(steps[0].step.feed.endpoints_size(), 2);
}

TEST_F(RouteBookTest, ATaskThatEndsBeforeItBeganIsEnoughToBeToldNoMore) {
  feed("n1", {far("t2")});
  set("t5", v1::ENDPOINT_ABSENT, v1::TASK_REJECTED);
  told();
  set("t6", v1::ENDPOINT_ABSENT);
  EXPECT_THAT(told(), IsEmpty());
  // They say nothing: they had not left off.
  book_.settle_for("n1");
  const auto steps = told();
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_EQ(steps[0].step.feed.endpoints_size(), 2);
}

TEST_F(RouteBookTest, WhatWasKeptCountsUntilTheManagersSpeak) {
  set("t1", v1::ENDPOINT_READY);
  overlay::NetworkStep step{"n1", true, {}};
  *step.feed.mutable_network() = network("n1");
  *step.feed.add_endpoints() = far("t2");
  book_.restore(step);
  EXPECT_FALSE(book_.fresh("n1"));
  const auto steps = told();
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_EQ(steps[0].step.feed.endpoints_size(), 2);
  ASSERT_TRUE(book_.fed("n1"));
  EXPECT_EQ(book_.fed("n1")->feed.endpoints_size(), 1)
      << "its own are not of the managers' telling";
  EXPECT_FALSE(book_.fed("n2"));
}

// A process that died after it had written that its last task left, and before the kernel knew.
TEST_F(RouteBookTest, WhatWasKeptOfANetworkWithoutATaskIsForgotten) {
  overlay::NetworkStep step{"n1", true, {}};
  *step.feed.mutable_network() = network("n1");
  book_.restore(step);
  const auto steps = told();
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_EQ(steps[0].step.network_id, "n1");
  EXPECT_TRUE(steps[0].forget);
  EXPECT_THAT(told(), IsEmpty());
}

// Whatever happens, a kernel that was told of each difference holds what one would hold that is
// told everything now.
TEST(RouteBookProperty, IncrementsAddUpToEverything) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SeededRng rng(seed);
    RouteBook book("here");
    Kernel kernel;
    std::map<std::string, v1::LocalTask> own;
    const std::vector<std::string> nets = {"n1", "n2", "mesh"};
    std::map<std::string, std::map<std::string, v1::NetworkEndpoint>> fed;
    std::map<std::string, bool> heard;
    for (int i = 0; i < 120; ++i) {
      const std::string net = nets[rng.below(nets.size())];
      const std::string task = "t" + std::to_string(rng.below(6));
      const auto state = static_cast<v1::EndpointState>(rng.below(4));
      switch (rng.below(6)) {
        case 0: {
          const bool ended = rng.below(3) == 0;
          own[task] =
              local_task(task, {network("n1"), network(net)}, ended ? v1::ENDPOINT_ABSENT : state,
                         ended ? v1::TASK_FAILED : v1::TASK_RUNNING);
          if (net == "n1") own[task] = local_task(task, {network("n2")}, state);
          book.remove_task(task);  // networks of a task do not change
          for (const std::string& id : nets) {
            if (const auto change = book.next(id)) kernel.apply(*change);
            if (!book.knows(id)) heard[id] = false;
          }
          book.set_task(own[task]);
          break;
        }
        case 1:
          own.erase(task);
          book.remove_task(task);
          break;
        case 2: {  // a new session
          overlay::NetworkStep step{net, true, {}};
          *step.feed.mutable_network() = network(net);
          fed[net].clear();
          for (uint64_t n = rng.below(4); n > 0; --n) {
            const std::string id = "f" + std::to_string(rng.below(5));
            fed[net][id] = far(id, static_cast<v1::EndpointState>(rng.below(4)));
          }
          for (const auto& [id, e] : fed[net]) *step.feed.add_endpoints() = e;
          heard[net] = true;
          book.apply(step);
          break;
        }
        case 3: {
          if (!heard[net]) break;
          overlay::NetworkStep step{net, false, {}};
          const std::string id = "f" + std::to_string(rng.below(5));
          fed[net][id] = far(id, state);
          *step.feed.add_endpoints() = fed[net][id];
          book.apply(step);
          break;
        }
        case 4: {
          if (!heard[net]) break;
          overlay::NetworkStep step{net, false, {}};
          const std::string id = "f" + std::to_string(rng.below(5));
          fed[net].erase(id);
          step.feed.add_removed_task_ids(id);
          book.apply(step);
          break;
        }
        default:
          for (const std::string& id : book.take_changed()) {
            auto change = book.next(id);
            if (!change) continue;
            if (rng.below(8) == 0) {
              book.failed(id);
              change = book.next(id);
              ASSERT_TRUE(change);
            }
            kernel.apply(*change);
          }
      }
      // What nobody here holds the managers do not tell of any more.
      for (const std::string& id : nets) {
        const bool held = std::any_of(own.begin(), own.end(), [&](const auto& item) {
          const auto in = RouteBook::networks_of(item.second);
          return std::find(in.begin(), in.end(), id) != in.end();
        });
        if (held || id == "mesh" || !std::exchange(heard[id], false)) continue;
        if (const auto change = book.next(id)) kernel.apply(*change);
      }
    }
    for (const std::string& id : nets) book.settle_for(id);
    for (const std::string& id : book.take_changed()) {
      if (const auto change = book.next(id)) kernel.apply(*change);
    }
    for (const std::string& id : nets) {
      const bool member = std::any_of(own.begin(), own.end(), [&](const auto& item) {
        const auto in = RouteBook::networks_of(item.second);
        return item.second.status().state() <= v1::TASK_RUNNING &&
               std::find(in.begin(), in.end(), id) != in.end();
      });
      const bool told = heard[id] && (member || id == "mesh");
      ASSERT_EQ(kernel.held.contains(id), told) << "seed " << seed << " " << id;
      if (!told) continue;
      std::vector<std::string> expected;
      for (const auto& [task, e] : fed[id]) expected.push_back("e" + task);
      for (const auto& [task, local] : own) {
        const auto in = RouteBook::networks_of(local);
        const bool here = std::find(in.begin(), in.end(), id) != in.end();
        if (!here || local.status().state() > v1::TASK_RUNNING) continue;
        expected.push_back("e" + task);
        ASSERT_EQ(kernel.endpoint(id, task).state(), local.endpoint_state()) << "seed " << seed;
      }
      for (const auto& [task, e] : fed[id]) {
        ASSERT_EQ(kernel.held.at(id).entries["e" + task], e.SerializeAsString()) << "seed " << seed;
      }
      ASSERT_THAT(kernel.keys(id), testing::UnorderedElementsAreArray(expected))
          << "seed " << seed << " " << id;
      // The same as everything at once.
      const Kernel::Held held = kernel.held.at(id);
      book.failed(id);
      kernel.apply(*book.next(id));
      ASSERT_TRUE(kernel.held.at(id) == held) << "seed " << seed << " " << id;
    }
  }
}

TEST(RouteBook, ATaskLeavesANetworkWhileItRuns) {
  RouteBook book("here");
  book.set_task(local_task("t1", {network("n1"), network("n2")}, v1::ENDPOINT_READY));
  for (const char* id : {"n1", "n2"}) {
    overlay::NetworkStep step{id, true, {}};
    *step.feed.mutable_network() = network(id);
    book.apply(step);
    ASSERT_TRUE(book.next(id));
  }
  (void)book.take_changed();
  book.set_task(local_task("t1", {network("n1")}, v1::ENDPOINT_READY));
  EXPECT_THAT(book.take_changed(), ElementsAre("n2"));
  const auto change = book.next("n2");
  ASSERT_TRUE(change);
  EXPECT_TRUE(change->forget);
  EXPECT_FALSE(book.knows("n2"));
  EXPECT_FALSE(book.next("n1"));
  // And comes back.
  book.set_task(local_task("t1", {network("n1"), network("n2")}, v1::ENDPOINT_READY));
  EXPECT_FALSE(book.fresh("n2"));
  book.remove_task("t1");
  EXPECT_TRUE(book.next("n1")->forget);
}

}  // namespace
}  // namespace muster::agent
