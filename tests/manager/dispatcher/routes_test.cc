// What the dispatcher tells of who leads flows where, and what becomes of a task's place in its
// networks by what its agent says.
#include "manager/dispatcher/routes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/sim_executor.h"
#include "manager/dispatcher/status_writer.h"
#include "manager/dispatcher/task_feed.h"
#include "tests/manager/dispatcher/fake_connection.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::dispatcher {
namespace {

class RoutesTest : public ::testing::Test {
 protected:
  RoutesTest() {
    store_.lead(1);
    write([](store::Transaction& tx) -> Status {
      for (const char* id : {"n1", "n2"}) {
        v1::Node node;
        node.set_id(id);
        MUSTER_TRY(tx.create(node));
      }
      v1::Network network;
      network.set_id("net1");
      network.mutable_spec()->mutable_annotations()->set_name("front");
      network.mutable_spec()->set_driver("overlay");
      return tx.create(network);
    });
  }
  void lead() {
    dispatcher_.start_leading();
    RouteEvents events;
    events.routes = [this](const std::string& node, const std::string& network, uint64_t version) {
      told_.push_back(fmt::format("{} in {} at {}", node, network, version));
    };
    events.leaves = [this](const std::string& node, const std::string& network) {
      told_.push_back(fmt::format("{} not in {}", node, network));
    };
    events.gone = [this](const std::string& node) { told_.push_back(node + " gone"); };
    dispatcher_.listen(std::move(events));
    world_.settle();
  }
  void write(store::Store::Body body) {
    Status outcome(StatusCode::kUnknown, "never committed");
    store_.update(std::move(body), [&](const store::Commit& commit) { outcome = commit.status; });
    world_.settle();
    ASSERT_TRUE(outcome.ok()) << outcome.to_string();
  }
  void put_task(const std::string& id, const std::string& node,
                v1::TaskState state = v1::TASK_RUNNING) {
    write([=](store::Transaction& tx) {
      const auto stored = tx.view().get<v1::Task>(id);
      v1::Task task;
      if (stored) task = *stored;
      task.set_id(id);
      task.set_node_id(node);
      task.mutable_status()->set_state(state);
      if (!stored) {
        task.add_networks()->set_network_id("net1");
        task.mutable_networks(0)->add_addresses("10.0.1.5/24");
      }
      return stored ? tx.update(task) : tx.create(task);
    });
  }
  std::shared_ptr<Dispatcher::Session> connect(const std::string& node, uint64_t applied = 0) {
    auto session =
        dispatcher_.connect(node, "ipv4:192.0.2.7:4711", std::make_shared<FakeConnection>(), false);
    v1::AgentMessage message;
    message.mutable_hello()->set_feature_level(1);
    if (applied != 0) *message.mutable_hello()->add_applied() = ack(applied);
    session->received(message);
    world_.settle();
    return session;
  }
  static v1::FeedAck ack(uint64_t version) {
    v1::FeedAck out;
    out.mutable_feed()->set_kind(v1::FeedId::NETWORK);
    out.mutable_feed()->set_network_id("net1");
    out.set_version(version);
    return out;
  }
  std::vector<std::string> told() { return std::exchange(told_, {}); }

  using Strings = std::vector<std::string>;
  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer log_{strand_};
  store::Store store_{strand_, &log_, null_log()};
  SeededRng rng_{1};
  FakeProbe probe_;
  Dispatcher dispatcher_{{strand_, store_, rng_, probe_, null_log()}, {"m1", {"192.0.2.1:2377"}}};
  Strings told_;
};

TEST_F(RoutesTest, NodesAreInTheNetworksOfTheirTasksAndSayWhatTheyHaveApplied) {
  lead();
  auto one = connect("n1");
  EXPECT_EQ(told(), Strings{"n1 gone"}) << "a session begins";
  EXPECT_EQ(dispatcher_.routers("net1"), Routers());
  put_task("t1", "n1");
  EXPECT_EQ(told(), Strings{"n1 in net1 at 0"});
  EXPECT_EQ(dispatcher_.routers("net1"), (Routers{{"n1", 0}}));
  v1::AgentMessage message;
  *message.mutable_ack() = ack(7);
  one->received(message);
  EXPECT_EQ(told(), Strings{"n1 in net1 at 7"});
  EXPECT_EQ(dispatcher_.routers("net1"), (Routers{{"n1", 7}}));
  put_task("t1", "n1", v1::TASK_SHUTDOWN);
  EXPECT_EQ(told(), Strings{"n1 not in net1"});
  EXPECT_EQ(dispatcher_.routers("net1"), Routers());
}

TEST_F(RoutesTest, WhatWasAppliedInAnEarlierSessionCounts) {
  put_task("t1", "n1");
  lead();
  auto one = connect("n1", 5);
  EXPECT_EQ(told(), (Strings{"n1 gone", "n1 in net1 at 5"}));
  one->closed();
  EXPECT_EQ(told(), (Strings{"n1 not in net1", "n1 gone"}));
  auto again = connect("n1", 6);
  EXPECT_EQ(told(), (Strings{"n1 gone", "n1 in net1 at 6"}));
  EXPECT_EQ(dispatcher_.routers("net1"), (Routers{{"n1", 6}}));
  again->closed();
  EXPECT_EQ(told(), (Strings{"n1 not in net1", "n1 gone"}));
  EXPECT_EQ(dispatcher_.routers("net1"), Routers()) << "nobody is there to answer";
}

// Else a task would be let go while nodes lead to it that are looking for the new leader.
TEST_F(RoutesTest, ANewLeaderReckonsWithNodesThatHaveNotComeYet) {
  put_task("t1", "n1");
  put_task("t2", "n2");
  write([](store::Transaction& tx) {
    v1::Node node;
    node.set_id("n3");
    node.mutable_status()->set_state(v1::NodeStatus::DOWN);
    return tx.create(node);
  });
  put_task("t3", "n3");
  lead();
  EXPECT_EQ(dispatcher_.routers("net1"), (Routers{{"n1", 0}, {"n2", 0}}));
  auto one = connect("n1", 9);
  EXPECT_EQ(dispatcher_.routers("net1"), (Routers{{"n1", 9}, {"n2", 0}}));
  one->closed();
  EXPECT_EQ(dispatcher_.routers("net1"), (Routers{{"n2", 0}})) << "it had come, and went";
  told();
  world_.advance(60s);  // nothing is heard of n2: it is down
  EXPECT_EQ(dispatcher_.routers("net1"), Routers());
  const Strings all = told();
  EXPECT_NE(std::find(all.begin(), all.end(), "n2 gone"), all.end());
}

TEST(EndpointAfter, ATaskEntersOnceAndNeverComesBack) {
  struct Case {
    v1::EndpointState was, reported;
    v1::TaskState desired;
    v1::EndpointState want;
  };
  constexpr auto kAbsent = v1::ENDPOINT_ABSENT;
  constexpr auto kReady = v1::ENDPOINT_READY;
  constexpr auto kDraining = v1::ENDPOINT_DRAINING;
  constexpr auto kReleased = v1::ENDPOINT_RELEASED;
  const Case cases[] = {
      {kAbsent, kReady, v1::TASK_RUNNING, kReady},
      {kAbsent, kReady, v1::TASK_COMPLETE, kReady},
      {kReady, kDraining, v1::TASK_RUNNING, kDraining},  // ill, as its agent says
      {kReady, kAbsent, v1::TASK_RUNNING, kAbsent},
      // Its agent had not heard of it yet.
      {kDraining, kReady, v1::TASK_SHUTDOWN, kDraining},
      {kReleased, kReady, v1::TASK_SHUTDOWN, kReleased},
      {kReleased, kDraining, v1::TASK_REMOVE, kReleased},
      // It did not wait for the managers.
      {kDraining, kReleased, v1::TASK_SHUTDOWN, kReleased},
      {kDraining, kAbsent, v1::TASK_SHUTDOWN, kAbsent},
      // It got ready when it was told to stop.
      {kAbsent, kReady, v1::TASK_SHUTDOWN, kAbsent},
      {kAbsent, kDraining, v1::TASK_REMOVE, kAbsent},
      {kReady, static_cast<v1::EndpointState>(77), v1::TASK_RUNNING, kAbsent},
  };
  for (const Case& c : cases) {
    v1::Task task;
    task.set_endpoint_state(c.was);
    task.set_desired_state(c.desired);
    EXPECT_EQ(endpoint_after(task, c.reported), c.want) << c.was << " " << c.reported;
  }
}

TEST(ConcernsAgent, HowItLeavesItsNetworksDoesAndWhatItSaidItselfDoesNot) {
  v1::Task before;
  before.set_node_id("n1");
  before.mutable_status()->set_state(v1::TASK_RUNNING);
  v1::Task after = before;
  after.set_endpoint_state(v1::ENDPOINT_READY);
  EXPECT_FALSE(concerns_agent(before, after));
  before = after;
  after.set_endpoint_state(v1::ENDPOINT_DRAINING);
  EXPECT_FALSE(concerns_agent(before, after)) << "it is ill, as it says";
  after.mutable_drain()->set_timeout_ns(1);
  EXPECT_TRUE(concerns_agent(before, after));
  before = after;
  after.set_endpoint_state(v1::ENDPOINT_RELEASED);
  EXPECT_TRUE(concerns_agent(before, after));
  before = after;
  after.set_endpoint_state(v1::ENDPOINT_ABSENT);
  after.clear_drain();
  EXPECT_TRUE(concerns_agent(before, after));
}

TEST_F(RoutesTest, ATaskThatEntersANetworkWhileItRunsBringsItsNodeThere) {
  write([](store::Transaction& tx) {
    v1::Network network;
    network.set_id("net2");
    network.mutable_spec()->mutable_annotations()->set_name("back");
    network.mutable_spec()->set_driver("overlay");
    return tx.create(network);
  });
  put_task("t1", "n1");
  lead();
  auto connection = std::make_shared<FakeConnection>();
  auto one = dispatcher_.connect("n1", "ipv4:192.0.2.7:4711", connection, false);
  v1::AgentMessage hello;
  hello.mutable_hello()->set_feature_level(1);
  one->received(hello);
  world_.settle();
  (void)told();
  write([](store::Transaction& tx) {
    v1::Task task = *tx.view().get<v1::Task>("t1");
    task.add_networks()->set_network_id("net2");
    return tx.update(std::move(task));
  });
  EXPECT_EQ(told(), Strings{"n1 in net2 at 0"});
  EXPECT_EQ(dispatcher_.routers("net2"), (Routers{{"n1", 0}}));
  write([](store::Transaction& tx) {
    v1::Task task = *tx.view().get<v1::Task>("t1");
    task.mutable_networks()->RemoveLast();
    return tx.update(std::move(task));
  });
  EXPECT_EQ(told(), Strings{"n1 not in net2"});
  EXPECT_EQ(dispatcher_.routers("net2"), Routers());
}

TEST_F(RoutesTest, WhatNodesFindOfTheirNetworksIsPassedOn) {
  lead();
  std::vector<std::string> heard;
  dispatcher_.listen_findings({[&](const std::string& node, const v1::NetworkFindings& findings) {
                                 heard.push_back(node + " " + findings.examination_id());
                               },
                               [&](const std::string& node) { heard.push_back(node + " gone"); }});
  EXPECT_TRUE(dispatcher_.nodes_with_session().empty());
  auto one = connect("n1");
  EXPECT_EQ(dispatcher_.nodes_with_session(), std::set<std::string>{"n1"});
  v1::AgentMessage message;
  message.mutable_findings()->set_examination_id("x");
  one->received(message);
  one->closed();
  EXPECT_EQ(heard, (Strings{"n1 gone", "n1 x", "n1 gone"})) << "a session begins, and ends";
  EXPECT_TRUE(dispatcher_.nodes_with_session().empty());
  dispatcher_.listen_findings({});
  connect("n1")->received(message);
}

}  // namespace
}  // namespace muster::manager::dispatcher
