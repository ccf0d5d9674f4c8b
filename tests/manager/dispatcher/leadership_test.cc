#include <gtest/gtest.h>

#include "base/security/x509.h"
#include "base/sim_executor.h"
#include "tests/manager/dispatcher/fake_connection.h"
#include "tests/manager/members/fake_group.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::dispatcher {
namespace {

std::vector<std::string> texts(const google::protobuf::RepeatedPtrField<std::string>& field) {
  return {field.begin(), field.end()};
}

class DispatcherLeadershipTest : public testing::Test {
 protected:
  DispatcherLeadershipTest() {
    group_.self = group_.leader = {1};
    group_.leads = true;
    group_.members = {members::member(1, "n1"), members::member(2, "n2"), members::member(3, "n3")};
    store_.lead(1);
    root_ = *security::create_root(world_.wall_now());
    write([this](store::Transaction& tx) -> Status {
      v1::Cluster cluster;
      cluster.set_id("c1");
      cluster.mutable_spec()->mutable_annotations()->set_name("default");
      cluster.mutable_spec()->set_autolock(true);
      cluster.mutable_spec()->set_node_cert_expiry_ns(Duration(2h).count());
      cluster.set_unlock_key("SWMKEY-1-x");
      cluster.mutable_root_ca()->set_certificate_pem(root_.certificate_pem);
      MUSTER_TRY(tx.create(cluster));
      for (const char* id : {"n1", "n2", "n4"}) {
        v1::Node node;
        node.set_id(id);
        node.set_role(node.id() == "n4" ? v1::NodeSpec::WORKER : v1::NodeSpec::MANAGER);
        MUSTER_TRY(tx.create(node));
      }
      v1::Task task;
      task.set_id("t1");
      task.set_node_id("n4");
      task.mutable_status()->set_state(v1::TASK_ASSIGNED);
      return tx.create(task);
    });
    dispatcher_.start_leading();
    world_.settle();
  }
  void write(store::Store::Body body) {
    Status outcome(StatusCode::kUnknown, "never committed");
    store_.update(std::move(body), [&](const store::Commit& c) { outcome = c.status; });
    world_.settle();
    ASSERT_TRUE(outcome.ok()) << outcome.to_string();
  }
  void change(const std::string& id, std::function<void(v1::Node&)> change) {
    write([=](store::Transaction& tx) {
      v1::Node node = *tx.view().get<v1::Node>(id);
      change(node);
      return tx.update(std::move(node));
    });
  }
  struct Agent {
    std::shared_ptr<FakeConnection> connection = std::make_shared<FakeConnection>();
    std::shared_ptr<Dispatcher::Session> session;
  };
  Agent connect(const std::string& node, bool manager = false,
                const std::string& peer = "ipv4:192.0.2.7:4711") {
    Agent agent;
    agent.session = dispatcher_.connect(node, peer, agent.connection, manager);
    v1::AgentMessage message;
    message.mutable_hello()->set_feature_level(1);
    agent.session->received(message);
    world_.settle();
    return agent;
  }
  static void report(Agent& agent, v1::TaskState state) {
    v1::AgentMessage message;
    message.mutable_statuses()->set_sequence(1);
    auto* update = message.mutable_statuses()->add_updates();
    update->set_task_id("t1");
    update->mutable_status()->set_state(state);
    agent.session->received(message);
  }
  v1::NodeStatus::State state(const std::string& node) {
    return store_.snapshot().get<v1::Node>(node)->status().state();
  }

  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer log_{strand_};
  store::Store store_{strand_, &log_, null_log()};
  SeededRng rng_{1};
  FakeProbe probe_;
  raft::GroupView group_;
  security::CertificateAndKey root_;
  int group_asked_ = 0;
  Dispatcher dispatcher_{{strand_, store_, rng_, probe_, null_log(),
                          [this] {
                            ++group_asked_;
                            return group_;
                          }},
                         {"n1", {"192.0.2.1:2377"}}};
};

TEST_F(DispatcherLeadershipTest, WhoDoesNotLeadSendsAgentsToTheLeader) {
  dispatcher_.stop_leading();
  group_.leads = false;
  group_.leader = {3};
  Agent agent = connect("n4");
  ASSERT_NE(agent.connection->end(), nullptr);
  EXPECT_EQ(agent.connection->messages.size(), 1u);
  EXPECT_EQ(agent.connection->end()->reason(), v1::SessionEnd::NOT_LEADER);
  EXPECT_EQ(texts(agent.connection->end()->manager_addrs()),
            (std::vector<std::string>{"10.0.0.3:2377", "10.0.0.2:2377"}));
  EXPECT_TRUE(agent.connection->closed);
  EXPECT_EQ(dispatcher_.session_count(), 0u);
  // Nobody is named for nothing.
  group_.leader = {};
  agent = connect("n4");
  EXPECT_EQ(agent.connection->end()->reason(), v1::SessionEnd::NOT_LEADER);
  EXPECT_EQ(agent.connection->end()->manager_addrs_size(), 0);
}

TEST_F(DispatcherLeadershipTest, WhoStopsNamesTheOthers) {
  const Agent agent = connect("n4");
  dispatcher_.shut_down("musterd stops");
  ASSERT_NE(agent.connection->end(), nullptr);
  EXPECT_EQ(agent.connection->end()->reason(), v1::SessionEnd::SHUTTING_DOWN);
  EXPECT_EQ(texts(agent.connection->end()->manager_addrs()),
            (std::vector<std::string>{"10.0.0.2:2377", "10.0.0.3:2377"}));
}

TEST_F(DispatcherLeadershipTest, SessionsEndWithLeadershipAndNothingIsWrittenAfter) {
  Agent agent = connect("n4");
  log_.delay = 10ms;
  report(agent, v1::TASK_RUNNING);  // on its way
  group_.leader = {2};
  dispatcher_.stop_leading();
  store_.end_leading();
  ASSERT_NE(agent.connection->end(), nullptr);
  EXPECT_EQ(agent.connection->end()->reason(), v1::SessionEnd::NOT_LEADER);
  EXPECT_EQ(texts(agent.connection->end()->manager_addrs())[0], "10.0.0.2:2377");
  report(agent, v1::TASK_FAILED);
  world_.advance(20ms);
  const uint64_t entries = log_.entries();
  world_.advance(60s);
  EXPECT_EQ(log_.entries(), entries);
  EXPECT_TRUE(world_.idle()) << "a timer is left";
}

TEST_F(DispatcherLeadershipTest, WhatWasNotWrittenIsForgottenAndReportedAnew) {
  Agent agent = connect("n4");
  log_.rejections = 1;
  report(agent, v1::TASK_RUNNING);
  world_.settle();
  dispatcher_.stop_leading();
  dispatcher_.start_leading();
  world_.advance(1s);
  EXPECT_EQ(store_.snapshot().get<v1::Task>("t1")->status().state(), v1::TASK_ASSIGNED);
  agent = connect("n4");
  report(agent, v1::TASK_RUNNING);
  world_.settle();
  EXPECT_EQ(store_.snapshot().get<v1::Task>("t1")->status().state(), v1::TASK_RUNNING);
}

// M9: a failover calls no node down that comes back in time, and one that does not is called down.
TEST_F(DispatcherLeadershipTest, AFailoverGivesNodesTwiceTheUsualTime) {
  Agent agent = connect("n4");
  for (int i = 0; i < 5; ++i) {
    dispatcher_.stop_leading();
    world_.advance(9s);
    EXPECT_EQ(state("n4"), i == 0 ? v1::NodeStatus::READY : v1::NodeStatus::UNKNOWN);
    dispatcher_.start_leading();
    world_.advance(9s);
    EXPECT_EQ(state("n4"), v1::NodeStatus::UNKNOWN);
  }
  agent = connect("n4");
  EXPECT_EQ(state("n4"), v1::NodeStatus::READY);
  dispatcher_.stop_leading();
  dispatcher_.start_leading();
  world_.advance(11s);
  EXPECT_EQ(state("n4"), v1::NodeStatus::DOWN);
}

TEST_F(DispatcherLeadershipTest, AgentsKnowAllManagersTheLeaderFirstAsTheyChange) {
  const Agent agent = connect("n4");
  const std::vector<std::string> all = {"10.0.0.1:2377", "10.0.0.2:2377", "10.0.0.3:2377"};
  EXPECT_EQ(texts(agent.connection->messages[0].welcome().manager_addrs()), all);
  EXPECT_EQ(texts(agent.connection->cluster()->manager_addrs()), all);
  group_.members.pop_back();
  const int asked = group_asked_;
  change("n2", [](v1::Node& node) {
    node.mutable_manager_status()->set_address("10.0.0.2:2377");  // the keeper writes it down
  });
  EXPECT_EQ(group_asked_, asked) << "a feed was made for a node that is not concerned";
  dispatcher_.managers_changed();
  EXPECT_EQ(texts(agent.connection->cluster()->manager_addrs()),
            (std::vector<std::string>{"10.0.0.1:2377", "10.0.0.2:2377"}));
  const size_t messages = agent.connection->messages.size();
  dispatcher_.managers_changed();
  EXPECT_EQ(agent.connection->messages.size(), messages) << "nothing is new";
  group_.members.push_back(members::member(4, "n4", false));
  dispatcher_.managers_changed();
  EXPECT_EQ(texts(agent.connection->cluster()->manager_addrs()).size(), 3u);
}

TEST_F(DispatcherLeadershipTest, WhereANodeIsShowsInItsConnection) {
  connect("n4").session->closed();
  EXPECT_EQ(store_.snapshot().get<v1::Node>("n4")->status().address(), "192.0.2.7");
  connect("n4", false, "ipv6:%5B2001:db8::7%5D:4711");
  EXPECT_EQ(store_.snapshot().get<v1::Node>("n4")->status().address(), "2001:db8::7");
}

TEST_F(DispatcherLeadershipTest, WhatNodesAreToldOfTheCluster) {
  const Agent worker = connect("n4");
  const Agent manager = connect("n2", true);
  const Agent promoted = connect("n1", false);  // its certificate is still a worker's
  const v1::ClusterFeed& feed = *worker.connection->cluster();
  EXPECT_EQ(feed.trust_root_pem(), root_.certificate_pem);
  EXPECT_EQ(feed.issuer_public_key_der(),
            security::issuer_of_root(root_.certificate_pem)->public_key_der);
  EXPECT_EQ(feed.node_cert_expiry_ns(), Duration(2h).count());
  EXPECT_EQ(feed.unlock_key(), "") << "for managers alone";
  EXPECT_EQ(feed.self().role(), v1::NodeSpec::WORKER);
  EXPECT_EQ(manager.connection->cluster()->unlock_key(), "SWMKEY-1-x");
  EXPECT_EQ(promoted.connection->cluster()->unlock_key(), "");
  EXPECT_EQ(promoted.connection->cluster()->self().role(), v1::NodeSpec::MANAGER);
  // While the root is replaced both are trusted, and the new one is to vouch.
  const auto next = *security::create_root(world_.wall_now());
  write([&](store::Transaction& tx) {
    v1::Cluster cluster = *tx.view().cluster();
    cluster.mutable_root_ca()->mutable_rotation()->set_certificate_pem(next.certificate_pem);
    cluster.mutable_spec()->set_autolock(false);
    return tx.update(std::move(cluster));
  });
  const v1::ClusterFeed& rotating = *manager.connection->cluster();
  EXPECT_EQ(rotating.trust_root_pem(), root_.certificate_pem + next.certificate_pem);
  EXPECT_EQ(rotating.issuer_public_key_der(),
            security::issuer_of_root(next.certificate_pem)->public_key_der);
  EXPECT_EQ(rotating.unlock_key(), "");
}

TEST_F(DispatcherLeadershipTest, ARoleThatChangesEndsTheSessionOfTheOtherCertificate) {
  Agent agent = connect("n4");
  change("n4", [](v1::Node& node) { node.set_role(v1::NodeSpec::MANAGER); });
  ASSERT_NE(agent.connection->end(), nullptr);
  EXPECT_EQ(agent.connection->end()->reason(), v1::SessionEnd::ROLE_CHANGED);
  agent = connect("n4", false);
  EXPECT_EQ(agent.connection->end(), nullptr) << "it may report before its certificate is new";
  agent.session->closed();
  agent = connect("n4", true);
  change("n4", [](v1::Node& node) { node.mutable_status()->set_message("x"); });
  EXPECT_EQ(agent.connection->end(), nullptr);
  change("n4", [](v1::Node& node) { node.set_role(v1::NodeSpec::WORKER); });
  ASSERT_NE(agent.connection->end(), nullptr);
  EXPECT_EQ(agent.connection->end()->reason(), v1::SessionEnd::ROLE_CHANGED);
  EXPECT_EQ(state("n4"), v1::NodeStatus::READY) << "no restart, no replacement";
}

TEST_F(DispatcherLeadershipTest, ARemovedNodesSessionEndsAndItIsNotLetInAgain) {
  Agent agent = connect("n4");
  write([](store::Transaction& tx) { return tx.remove<v1::Node>("n4"); });
  ASSERT_NE(agent.connection->end(), nullptr);
  EXPECT_EQ(agent.connection->end()->reason(), v1::SessionEnd::NODE_REMOVED);
  agent = connect("n4");
  ASSERT_NE(agent.connection->end(), nullptr);
  EXPECT_EQ(agent.connection->end()->reason(), v1::SessionEnd::NODE_REMOVED);
}

}  // namespace
}  // namespace muster::manager::dispatcher
