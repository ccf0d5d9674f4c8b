#include "manager/dispatcher/departures.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/sim_executor.h"
#include "manager/dispatcher/dispatcher.h"
#include "tests/manager/dispatcher/fake_connection.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::dispatcher {
namespace {

class DeparturesTest : public ::testing::Test {
 protected:
  DeparturesTest() {
    store_.lead(1);
    write([](store::Transaction& tx) -> Status {
      v1::Node node;
      node.set_id("n1");
      MUSTER_TRY(tx.create(node));
      v1::Task task;
      task.set_id("t1");
      task.set_node_id("n1");
      task.mutable_status()->set_state(v1::TASK_RUNNING);
      return tx.create(task);
    });
    dispatcher_.start_leading();
    world_.settle();
  }
  void write(store::Store::Body body) {
    Status outcome(StatusCode::kUnknown, "never committed");
    store_.update(std::move(body), [&](const store::Commit& commit) { outcome = commit.status; });
    world_.settle();
    ASSERT_TRUE(outcome.ok()) << outcome.to_string();
  }
  // The version of the commit.
  uint64_t change(const std::function<void(v1::Task&)>& edit) {
    write([&](store::Transaction& tx) {
      v1::Task task = *tx.view().get<v1::Task>("t1");
      edit(task);
      return tx.update(std::move(task));
    });
    return store_.snapshot().version();
  }
  uint64_t enter(const std::string& network, const std::string& cidr) {
    return change([&](v1::Task& task) {
      auto& attachment = *task.add_networks();
      attachment.set_network_id(network);
      attachment.add_addresses(cidr);
    });
  }
  uint64_t leave() {
    return change([](v1::Task& task) {
      *task.add_left() = task.networks(task.networks_size() - 1);
      task.mutable_networks()->RemoveLast();
    });
  }
  void connect() {
    connection_ = std::make_shared<FakeConnection>();
    session_ = dispatcher_.connect("n1", "ipv4:192.0.2.7:4711", connection_, false);
    v1::AgentMessage message;
    message.mutable_hello()->set_feature_level(1);
    session_->received(message);
    world_.settle();
  }
  void acknowledge(uint64_t version, v1::FeedId::Kind kind = v1::FeedId::TASKS) {
    v1::AgentMessage message;
    message.mutable_ack()->mutable_feed()->set_kind(kind);
    message.mutable_ack()->set_version(version);
    session_->received(message);
    world_.settle();
  }
  std::vector<std::string> left() {
    std::vector<std::string> out;
    for (const auto& each : store_.snapshot().get<v1::Task>("t1")->left()) {
      out.push_back(each.addresses(0));
    }
    return out;
  }

  using Strings = std::vector<std::string>;
  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer log_{strand_};
  store::Store store_{strand_, &log_, null_log()};
  SeededRng rng_{1};
  FakeProbe probe_;
  Dispatcher dispatcher_{{strand_, store_, rng_, probe_, null_log()}, {"m1", {"192.0.2.1:2377"}}};
  std::shared_ptr<FakeConnection> connection_;
  std::shared_ptr<Dispatcher::Session> session_;
};

TEST_F(DeparturesTest, AnAddressIsHeldUntilTheNodeHasAcknowledgedTheTaskWithoutIt) {
  connect();
  enter("net1", "10.0.1.5/24");
  const uint64_t version = leave();
  EXPECT_TRUE(connection_->feeds(v1::FeedId::TASKS).back().tasks(0).task().left().empty());
  acknowledge(version - 1);
  acknowledge(version, v1::FeedId::SECRETS);
  EXPECT_EQ(left(), Strings{"10.0.1.5/24"});
  acknowledge(version);
  EXPECT_EQ(left(), Strings());
}

TEST_F(DeparturesTest, EachIsHeldUntilItsOwnAcknowledgement) {
  connect();
  enter("net1", "10.0.1.5/24");
  enter("net2", "10.0.2.5/24");
  const uint64_t first = leave();
  const uint64_t second = leave();
  acknowledge(first);
  EXPECT_EQ(left(), (Strings{"10.0.2.5/24", "10.0.1.5/24"})) << "both with the later one";
  acknowledge(second);
  EXPECT_EQ(left(), Strings());
}

TEST_F(DeparturesTest, OtherChangesAreNotWaitedFor) {
  connect();
  enter("net1", "10.0.1.5/24");
  const uint64_t version = leave();
  change([](v1::Task& task) { task.mutable_status()->set_message("goes on"); });
  acknowledge(version);
  EXPECT_EQ(left(), Strings());
}

TEST_F(DeparturesTest, ANewLeaderGoesOn) {
  connect();
  enter("net1", "10.0.1.5/24");
  leave();
  dispatcher_.stop_leading();
  world_.settle();
  EXPECT_EQ(left(), Strings{"10.0.1.5/24"});
  dispatcher_.start_leading();
  connect();
  EXPECT_EQ(left(), Strings{"10.0.1.5/24"}) << "the node has been told, and has not answered";
  acknowledge(connection_->feeds(v1::FeedId::TASKS).front().version());
  EXPECT_EQ(left(), Strings());
}

TEST_F(DeparturesTest, ATaskThatHasEndedIsLeftAlone) {
  connect();
  enter("net1", "10.0.1.5/24");
  leave();
  const uint64_t version =
      change([](v1::Task& task) { task.mutable_status()->set_state(v1::TASK_FAILED); });
  const uint64_t entries = log_.entries();
  acknowledge(version);
  EXPECT_EQ(log_.entries(), entries);
}

}  // namespace
}  // namespace muster::manager::dispatcher
