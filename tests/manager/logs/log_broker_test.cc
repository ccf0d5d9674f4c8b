#include "manager/logs/log_broker.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "base/sim_executor.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::logs {
namespace {

// A cluster of many nodes with one task of one service each, in virtual time. Agents answer at
// once, unless they are told not to.
class LogBrokerTest : public ::testing::Test {
 protected:
  static constexpr int kNodes = 50;

  // One node's side: lines it has, and its stream if the broker asked.
  struct Agent final : LogFeeder {
    Agent(LogBrokerTest& test, std::string id) : test_(test), id_(std::move(id)) {}
    void read() override {
      ++reads;
      EXPECT_FALSE(std::exchange(reading, true)) << "one read at a time";
      test_.broker_strand_.post([this] { answer(); });
    }
    void end(Status) override { open = reading = false; }
    void answer() {
      if (!open || next >= messages.size()) return;
      reading = false;
      test_.broker_->received(*this, messages[next++]);
    }

    LogBrokerTest& test_;
    const std::string id_;
    std::vector<v1::LogPublish> messages;
    size_t next = 0;
    int reads = 0;
    bool open = false;
    bool reading = false;
    bool mute = false;
    int asked = 0;
    int cancelled = 0;
    v1::LogSubscription subscription;
  };

  struct Messenger final : AgentMessenger {
    explicit Messenger(LogBrokerTest& t) : test(t) {}
    void send(const std::string& node_id, const v1::ManagerMessage& message) override {
      Agent& agent = *test.agents_.at(node_id);
      if (message.has_cancel_logs()) {
        ++agent.cancelled;
        return;
      }
      ++agent.asked;
      agent.subscription = message.logs();
      if (agent.mute || agent.open) return;
      agent.open = true;
      test.broker_strand_.post([this, &agent] {
        test.broker_->opened(agent.id_, agent.subscription.id(),
                             std::shared_ptr<LogFeeder>(std::shared_ptr<void>(), &agent));
        EXPECT_FALSE(agent.reading) << "the first message was not yet taken";
        test.broker_->received(agent, v1::LogPublish());
      });
    }
    LogBrokerTest& test;
  };

  struct Client final : LogClient {
    explicit Client(LogBrokerTest& t) : test(t) {}
    void send(v1::ServiceLogsResponse message) override {
      for (const auto& line : message.lines()) lines.push_back(line.line());
      for (const auto& entry : message.missing()) missing.push_back(entry.reason());
      ++messages;
      if (stalled) return;
      test.broker_strand_.post([this] { test.broker_->sent(*this); });
    }
    void end(Status status) override { ended = status; }

    LogBrokerTest& test;
    std::vector<std::string> lines, missing;
    int messages = 0;
    bool stalled = false;
    std::optional<Status> ended;
  };

  LogBrokerTest() {
    store_.lead(1);
    write([](store::Transaction& tx) -> Status {
      v1::Service service;
      service.set_id("s1");
      service.mutable_spec()->mutable_annotations()->set_name("web");
      MUSTER_TRY(tx.create(service));
      for (int i = 0; i < kNodes; ++i) {
        v1::Node node;
        node.set_id(node_id(i));
        node.mutable_description()->set_hostname("host" + std::to_string(i));
        node.mutable_status()->set_state(v1::NodeStatus::READY);
        MUSTER_TRY(tx.create(node));
        v1::Task task;
        task.set_id("t" + std::to_string(i));
        task.set_service_id("s1");
        task.set_node_id(node_id(i));
        task.mutable_status()->set_state(v1::TASK_RUNNING);
        task.mutable_status()->mutable_container()->set_pid(1);
        MUSTER_TRY(tx.create(task));
      }
      return {};
    });
    for (int i = 0; i < kNodes; ++i) {
      agents_[node_id(i)] = std::make_unique<Agent>(*this, node_id(i));
    }
    broker_->start();
    world_.settle();
  }
  ~LogBrokerTest() override {
    broker_->stop();
    world_.settle();
  }

  static std::string node_id(int i) { return "n" + std::to_string(i); }
  Agent& agent(int i) { return *agents_.at(node_id(i)); }

  void write(UniqueFunction<Status(store::Transaction&)> body) {
    store_.update(std::move(body),
                  [](const store::Commit& commit) { EXPECT_TRUE(commit.status.ok()); });
    world_.settle();
  }
  std::shared_ptr<Client> ask(bool follow, const std::string& service = "web") {
    v1::ServiceLogsRequest request;
    request.add_services(service);
    request.set_follow(follow);
    auto client = std::make_shared<Client>(*this);
    broker_->subscribe(request, client);
    return client;
  }
  // `count` messages of one line each, of all nodes interleaved in time.
  void fill(int count, bool end, size_t bytes = 1) {
    for (int i = 0; i < kNodes; ++i) {
      for (int k = 0; k < count; ++k) {
        v1::LogPublish message;
        v1::LogLine& line = *message.add_lines();
        line.set_task_id("t" + std::to_string(i));
        line.set_time_ns(k * kNodes + i + 1);
        line.set_line(fmt::format("{:08}", k * kNodes + i) + std::string(bytes, 'x'));
        message.set_end(end && k + 1 == count);
        message.set_current(k + 1 == count);
        agent(i).messages.push_back(message);
      }
    }
  }

  SimWorld world_;
  SimExecutor strand_{world_};
  SimExecutor broker_strand_{world_};
  store::InstantProposer proposer_{strand_};
  store::Store store_{strand_, &proposer_, null_log()};
  std::map<std::string, std::unique_ptr<Agent>> agents_;
  Messenger messenger_{*this};
  SeededRng rng_{1};
  std::shared_ptr<LogBroker> broker_ = std::make_shared<LogBroker>(
      BrokerDeps{broker_strand_, strand_, store_, messenger_, rng_, null_log()});
};

TEST_F(LogBrokerTest, ManyNodesInTheOrderOfTime) {
  fill(20, true);
  const auto client = ask(false);
  world_.settle();
  ASSERT_TRUE(client->ended.has_value());
  EXPECT_TRUE(client->ended->ok());
  ASSERT_EQ(client->lines.size(), 20U * kNodes);
  EXPECT_TRUE(std::is_sorted(client->lines.begin(), client->lines.end()));
  EXPECT_TRUE(client->missing.empty());
  EXPECT_EQ(broker_->subscriptions(), 0U);
  for (const auto& [id, agent] : agents_) EXPECT_FALSE(agent->open) << id;
}

TEST_F(LogBrokerTest, UnknownServicesAndTasksAreRefused) {
  const auto client = ask(false, "nope");
  ASSERT_TRUE(client->ended.has_value());
  EXPECT_EQ(client->ended->code(), StatusCode::kNotFound);
  EXPECT_EQ(client->ended->message(), "service nope not found");
}

TEST_F(LogBrokerTest, AMuteNodeIsMissing) {
  fill(1, true);
  agent(7).mute = true;
  const auto client = ask(false);
  world_.advance(9s);
  EXPECT_FALSE(client->ended.has_value());
  world_.advance(2s);
  ASSERT_TRUE(client->ended.has_value());
  EXPECT_TRUE(client->ended->ok());
  EXPECT_EQ(client->missing, std::vector<std::string>{"the node did not answer within 10s"});
  EXPECT_EQ(client->lines.size(), kNodes - 1U);
}

TEST_F(LogBrokerTest, ASlowClientStopsTheNodes) {
  fill(100, true, 4000);
  const auto client = ask(false);
  client->stalled = true;
  world_.advance(1h);
  EXPECT_FALSE(client->ended.has_value());
  EXPECT_EQ(client->messages, 1);
  // Nothing more is read than what fits: no node was declared silent meanwhile.
  for (const auto& [id, agent] : agents_) EXPECT_LT(agent->next, 20U) << id;
  client->stalled = false;
  broker_->sent(*client);
  world_.settle(10'000'000);
  ASSERT_TRUE(client->ended.has_value());
  EXPECT_EQ(client->lines.size(), 100U * kNodes);
  EXPECT_TRUE(client->missing.empty());
}

TEST_F(LogBrokerTest, AClientThatGoesIsCancelledEverywhereAtOnce) {
  fill(5, false);
  const auto client = ask(true);
  world_.settle();
  for (const auto& [id, agent] : agents_) EXPECT_TRUE(agent->open) << id;
  broker_->gone(*client);
  world_.settle();
  for (const auto& [id, agent] : agents_) {
    EXPECT_FALSE(agent->open) << id;
    EXPECT_EQ(agent->cancelled, 1) << id;
  }
  EXPECT_EQ(broker_->subscriptions(), 0U);
}

TEST_F(LogBrokerTest, FollowingSeesNewTasksLostNodesAndTheEnd) {
  fill(1, false);
  agents_["late"] = std::make_unique<Agent>(*this, "late");
  const auto client = ask(true);
  world_.advance(1s);
  EXPECT_EQ(client->lines.size(), static_cast<size_t>(kNodes));
  write([](store::Transaction& tx) -> Status {
    v1::Node node;
    node.set_id("late");
    node.mutable_status()->set_state(v1::NodeStatus::READY);
    MUSTER_TRY(tx.create(node));
    v1::Task task;
    task.set_id("new");
    task.set_service_id("s1");
    task.set_node_id("late");
    task.mutable_status()->set_state(v1::TASK_PREPARING);
    return tx.create(task);
  });
  world_.advance(1s);
  EXPECT_TRUE(agents_["late"]->open);
  write([](store::Transaction& tx) -> Status {
    v1::Node node = *tx.view().get<v1::Node>("n3");
    node.mutable_status()->set_state(v1::NodeStatus::DOWN);
    node.mutable_status()->set_message("the host is unreachable");
    return tx.update(node);
  });
  world_.advance(1s);
  EXPECT_EQ(client->missing, std::vector<std::string>{"the node is down: the host is unreachable"});
  EXPECT_FALSE(agent(3).open);
  EXPECT_FALSE(client->ended.has_value());
  write([](store::Transaction& tx) -> Status {
    std::vector<std::string> ids;
    tx.view().tasks_of_service("s1", [&](const auto& task) {
      ids.push_back(task->id());
      return true;
    });
    for (const std::string& id : ids) MUSTER_TRY(tx.remove<v1::Task>(id));
    return tx.remove<v1::Service>("s1");
  });
  v1::LogPublish end;
  end.set_end(true);
  for (auto& [id, agent] : agents_) {
    if (!agent->open) continue;
    EXPECT_FALSE(agent->subscription.follow()) << id;
    broker_->received(*agent, end);
  }
  world_.settle();
  ASSERT_TRUE(client->ended.has_value());
  EXPECT_TRUE(client->ended->ok());
}

TEST_F(LogBrokerTest, AgentsThatReconnectAreAskedAgain) {
  fill(3, false);
  const auto client = ask(true);
  world_.advance(1s);
  EXPECT_EQ(client->lines.size(), 3U * kNodes);
  agent(0).open = agent(0).reading = false;
  agent(0).messages.clear();
  agent(0).next = 0;
  broker_->closed(agent(0));
  world_.advance(3s);
  EXPECT_TRUE(agent(0).open);
  EXPECT_EQ(agent(0).subscription.since_ns(), 2 * kNodes + 1);
  EXPECT_TRUE(client->missing.empty());
}

TEST_F(LogBrokerTest, TheEndOfLeadershipEndsTheClients) {
  fill(1, false);
  const auto client = ask(true);
  world_.settle();
  broker_->stop();
  world_.settle();
  ASSERT_TRUE(client->ended.has_value());
  EXPECT_EQ(client->ended->code(), StatusCode::kUnavailable);
  const auto late = ask(false);
  EXPECT_EQ(late->ended->code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace muster::manager::logs
