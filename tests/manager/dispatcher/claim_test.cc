#include "manager/dispatcher/claim.h"

#include <gtest/gtest.h>

#include "manager/dispatcher/dispatcher.h"
#include "tests/manager/dispatcher/fake_connection.h"

#include "base/sim_executor.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::dispatcher {
namespace {

constexpr TimePoint kHeard{100s};
using Verdict = ClaimVerdict;

Verdict judge(const Claim& standing, const Claim& newcomer, Duration later = 0s) {
  return judge_claim({standing, "s2", kHeard}, newcomer, 1s, kHeard + later);
}

TEST(Claim, OfTwoHostsTheOneWhoseSessionLivesStays) {
  EXPECT_EQ(judge({}, {}), Verdict::kWait);
  EXPECT_EQ(judge({}, {}, 2499ms), Verdict::kWait);
  EXPECT_EQ(judge({}, {}, 2500ms), Verdict::kTake) << "what was left of a process that is gone";
}

TEST(Claim, TheSameAgentGoesOnAtOnce) {
  EXPECT_EQ(judge({}, {"s2", false}), Verdict::kTake);
  EXPECT_EQ(judge({"s1", false}, {"s2", false}), Verdict::kTake);
  EXPECT_EQ(judge({"s1", false}, {"s1", false}), Verdict::kTake) << "the welcome was lost";
  EXPECT_EQ(judge({"s1", false}, {"s0", false}), Verdict::kWait);
}

TEST(Claim, TheOlderOfTwoConnectionsOfOneAgentIsRefusedWhicheverHelloComesFirst) {
  EXPECT_EQ(judge({"s1", false, 4}, {"s1", false, 3}), Verdict::kOld);
  EXPECT_EQ(judge({"s1", false, 3}, {"s1", false, 4}), Verdict::kTake);
  EXPECT_EQ(judge({"s1", false, 4}, {"s1", false, 0}), Verdict::kTake) << "it does not count";
  EXPECT_EQ(judge({"s1", false, 4}, {"s2", false, 3}), Verdict::kTake)
      << "who was welcomed in the standing one";
  EXPECT_EQ(judge({"", false, 4}, {"", false, 3}), Verdict::kWait) << "of two processes, perhaps";
}

TEST(Claim, WhoHadASessionBeforeComesBeforeOneThatHadNone) {
  EXPECT_EQ(judge({}, {"s1", false}), Verdict::kTake);
  EXPECT_EQ(judge({"s1", false}, {}), Verdict::kWait);
}

TEST(Claim, AManagerIsWhereTheGroupReachesIt) {
  EXPECT_EQ(judge({"s1", false}, {"", true}), Verdict::kTake);
  EXPECT_EQ(judge({"", true}, {"s1", false}), Verdict::kWait);
  EXPECT_EQ(judge({"s1", true}, {"", true}), Verdict::kWait) << "it waits for its own end";
}

// A dispatcher, and two hosts with the identity of n1.
class TwoHosts : public ::testing::Test {
 protected:
  TwoHosts() {
    store_.lead(1);
    store_.update(
        [](store::Transaction& tx) -> Status {
          v1::Cluster cluster;
          cluster.set_id("c1");
          cluster.mutable_spec()->mutable_annotations()->set_name("default");
          MUSTER_TRY(tx.create(cluster));
          v1::Node node;
          node.set_id("n1");
          return tx.create(node);
        },
        [](const store::Commit& commit) { EXPECT_TRUE(commit.status.ok()); });
    world_.settle();
    dispatcher_.start_leading();
    world_.settle();
  }
  struct Host {
    std::shared_ptr<FakeConnection> connection = std::make_shared<FakeConnection>();
    std::shared_ptr<Dispatcher::Session> session;
    bool welcome() const {
      return !connection->messages.empty() && connection->messages.front().has_welcome();
    }
    std::string session_id() const { return connection->messages.front().welcome().session_id(); }
    std::string end() const {
      return connection->end() == nullptr ? "" : connection->end()->message();
    }
  };
  Host connect(const std::string& name, const std::string& address,
               const std::string& continues = "", uint64_t attempt = 0) {
    Host host;
    host.session = dispatcher_.connect("n1", "ipv4:" + address + ":4711", host.connection, false);
    v1::AgentMessage message;
    message.mutable_hello()->set_session_id(continues);
    message.mutable_hello()->set_attempt(attempt);
    message.mutable_hello()->mutable_description()->set_hostname(name);
    host.session->received(message);
    world_.settle();
    return host;
  }
  void beat(Host& host) {
    v1::AgentMessage message;
    message.mutable_heartbeat()->set_sequence(1);
    host.session->received(message);
    world_.settle();
  }
  v1::Node node() { return *store_.snapshot().get<v1::Node>("n1"); }

  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer log_{strand_};
  store::Store store_{strand_, &log_, null_log()};
  SeededRng rng_{1};
  FakeProbe probe_;
  raft::GroupView group_;
  Dispatcher dispatcher_{{strand_, store_, rng_, probe_, null_log(), [this] { return group_; }},
                         {"m1", {"192.0.2.1:2377"}}};
};

TEST_F(TwoHosts, AHelloThatIsOvertakenByANewerOneOfItsAgentEndsNothing) {
  Host newer = connect("web1", "192.0.2.7", "s0", 2);
  ASSERT_TRUE(newer.welcome());
  Host older = connect("web1", "192.0.2.7", "s0", 1);
  EXPECT_FALSE(older.welcome());
  EXPECT_EQ(older.end(), "a newer session of this node has started");
  EXPECT_EQ(newer.end(), "");
  Host next = connect("web1", "192.0.2.7", newer.session_id(), 3);
  EXPECT_TRUE(next.welcome());
}

TEST_F(TwoHosts, TheCopyIsRefusedAndTheOriginalGoesOn) {
  Host original = connect("web1", "192.0.2.7");
  world_.advance(1s);
  beat(original);
  world_.advance(500ms);
  Host copy = connect("web2", "192.0.2.8");
  EXPECT_FALSE(copy.welcome());
  EXPECT_EQ(copy.end(), "") << "the session that stands has its say first";
  world_.advance(500ms);
  beat(original);
  const std::string why =
      "two hosts go by the identity of node n1, one has a copy of the other's state: web1 at "
      "192.0.2.7 takes part and goes on, web2 at 192.0.2.8 is refused";
  EXPECT_EQ(copy.end(), why);
  EXPECT_EQ(copy.connection->end()->reason(), v1::SessionEnd::REPLACED);
  EXPECT_EQ(original.end(), "");
  EXPECT_EQ(dispatcher_.session_count(), 1u);
  EXPECT_EQ(node().description().hostname(), "web1");
  EXPECT_EQ(node().status().state(), v1::NodeStatus::READY);
  EXPECT_EQ(node().status().message(), why) << "the node's status says it";
  for (int i = 0; i < 601; ++i) {
    world_.advance(1s);
    beat(original);
  }
  EXPECT_EQ(node().status().message(), "") << "nobody has come again";
}

TEST_F(TwoHosts, WhatIsLeftOfAProcessThatIsGoneKeepsNobodyOutForLong) {
  const Host gone = connect("web1", "192.0.2.7");
  world_.advance(1s);
  const Host restarted = connect("web1", "192.0.2.7");
  EXPECT_FALSE(restarted.welcome());
  world_.advance(1500ms);
  EXPECT_TRUE(restarted.welcome());
  EXPECT_NE(gone.end(), "");
}

TEST_F(TwoHosts, OneThatWaitsIsLetInWhenTheOtherOneGoes) {
  Host gone = connect("web1", "192.0.2.7");
  const Host restarted = connect("web1", "192.0.2.7");
  EXPECT_FALSE(restarted.welcome());
  gone.session->closed();
  world_.settle();
  EXPECT_TRUE(restarted.welcome());
  EXPECT_EQ(dispatcher_.session_count(), 1u);
}

TEST_F(TwoHosts, AHeartbeatThatWasUnderWayRefusesNobody) {
  Host gone = connect("web1", "192.0.2.7");
  world_.advance(1s);
  const Host restarted = connect("web1", "192.0.2.7");
  world_.advance(100ms);
  beat(gone);
  EXPECT_EQ(restarted.end(), "");
  gone.session->closed();
  world_.settle();
  EXPECT_TRUE(restarted.welcome());
}

TEST_F(TwoHosts, OneThatGivesUpWaitingIsForgotten) {
  Host original = connect("web1", "192.0.2.7");
  Host copy = connect("web2", "192.0.2.8");
  copy.session->closed();
  copy.session.reset();
  world_.advance(1s);
  beat(original);
  world_.advance(2s);
  beat(original);
  EXPECT_EQ(original.end(), "");
  EXPECT_EQ(node().status().message(), "");
}

TEST_F(TwoHosts, WhileOneWaitsItHasNoSay) {
  Host original = connect("web1", "192.0.2.7");
  Host copy = connect("web2", "192.0.2.8");
  v1::AgentMessage message;
  message.mutable_goodbye()->set_reason(v1::Goodbye::LEAVE);
  copy.session->received(message);
  world_.settle();
  EXPECT_EQ(node().status().state(), v1::NodeStatus::READY);
  EXPECT_EQ(dispatcher_.session_count(), 1u);
}

TEST_F(TwoHosts, TheOriginalTakesBackWhatACopyGotFromANewLeader) {
  const Host copy = connect("web2", "192.0.2.8");
  const Host original = connect("web1", "192.0.2.7", "of-the-leader-before");
  EXPECT_TRUE(original.welcome());
  EXPECT_EQ(copy.end(), "web1 at 192.0.2.7 takes part as this node now");
}

TEST_F(TwoHosts, AManagerIsTheOneThatTheGroupReaches) {
  raft::MemberView member;
  member.member.id = {7};
  member.member.node_id = "n1";
  member.member.address = "192.0.2.7:2377";
  group_.members.push_back(member);
  const Host copy = connect("web2", "192.0.2.8");
  const Host original = connect("web1", "192.0.2.7");
  EXPECT_TRUE(original.welcome());
  const Host again = connect("web2", "192.0.2.8", copy.session_id());
  EXPECT_FALSE(again.welcome());
  EXPECT_EQ(original.end(), "");
}

TEST_F(TwoHosts, WhoWaitsIsSentOnWhenTheLeaderGoes) {
  const Host original = connect("web1", "192.0.2.7");
  const Host copy = connect("web2", "192.0.2.8");
  dispatcher_.stop_leading();
  EXPECT_EQ(copy.connection->end()->reason(), v1::SessionEnd::NOT_LEADER);
  world_.advance(10s);
  EXPECT_EQ(dispatcher_.session_count(), 0u);
}

}  // namespace
}  // namespace muster::manager::dispatcher
