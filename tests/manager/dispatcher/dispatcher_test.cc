#include "manager/dispatcher/dispatcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "base/sim_executor.h"
#include "tests/manager/dispatcher/fake_connection.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::dispatcher {
namespace {

using ::testing::IsEmpty;

class DispatcherTest : public ::testing::Test {
 protected:
  DispatcherTest() {
    store_.lead(1);
    write([](store::Transaction& tx) -> Status {
      v1::Cluster cluster;
      cluster.set_id("c1");
      cluster.mutable_spec()->mutable_annotations()->set_name("default");
      cluster.set_feature_level(1);
      MUSTER_TRY(tx.create(cluster));
      for (const char* id : {"n1", "n2"}) {
        v1::Node node;
        node.set_id(id);
        MUSTER_TRY(tx.create(node));
      }
      v1::Network network;
      network.set_id("net1");
      network.mutable_spec()->mutable_annotations()->set_name("front");
      MUSTER_TRY(tx.create(network));
      v1::Revision revision;
      revision.set_id(store::revision_id("s1", 1));
      revision.set_service_id("s1");
      revision.set_number(1);
      return tx.create(revision);
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
  void write_task(const std::string& id, const std::string& node, v1::TaskState state) {
    write([=](store::Transaction& tx) {
      v1::Task task;
      const auto stored = tx.view().get<v1::Task>(id);
      if (stored) task = *stored;
      task.set_id(id);
      task.set_service_id("s1");
      task.set_revision(1);
      task.set_node_id(node);
      task.set_desired_state(v1::TASK_RUNNING);
      task.mutable_status()->set_state(state);
      if (!stored) {
        task.add_networks()->set_network_id("net1");
        task.mutable_networks(0)->add_addresses("10.0.1.5/24");
      }
      return stored ? tx.update(task) : tx.create(task);
    });
  }

  struct Agent {
    std::shared_ptr<FakeConnection> connection = std::make_shared<FakeConnection>();
    std::shared_ptr<Dispatcher::Session> session;
  };
  Agent connect(const std::string& node, bool manager = false, const std::string& continues = "") {
    Agent agent;
    agent.session = dispatcher_.connect(node, "ipv4:192.0.2.7:4711", agent.connection, manager);
    v1::AgentMessage message;
    message.mutable_hello()->set_feature_level(1);
    message.mutable_hello()->set_session_id(continues);
    message.mutable_hello()->mutable_description()->set_hostname(node + "-host");
    agent.session->received(message);
    world_.settle();
    return agent;
  }
  void beat(Agent& agent) {
    v1::AgentMessage message;
    message.mutable_heartbeat()->set_sequence(1);
    agent.session->received(message);
  }
  static void report(Agent& agent, const std::string& task, v1::TaskState state,
                     uint64_t sequence) {
    v1::AgentMessage message;
    message.mutable_statuses()->set_sequence(sequence);
    auto* update = message.mutable_statuses()->add_updates();
    update->set_task_id(task);
    update->mutable_status()->set_state(state);
    agent.session->received(message);
  }
  static uint64_t acknowledged(const Agent& agent) {
    uint64_t sequence = 0;
    for (const auto& message : agent.connection->messages) {
      if (message.has_status_ack()) sequence = message.status_ack().sequence();
    }
    return sequence;
  }
  v1::TaskState state_of(const std::string& task) {
    return store_.snapshot().get<v1::Task>(task)->status().state();
  }
  v1::NodeStatus status(const std::string& node) {
    return store_.snapshot().get<v1::Node>(node)->status();
  }

  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer log_{strand_};
  store::Store store_{strand_, &log_, null_log()};
  SeededRng rng_{1};
  FakeProbe probe_;
  Dispatcher dispatcher_{{strand_, store_, rng_, probe_, null_log()}, {"m1", {"192.0.2.1:2377"}}};
};

TEST_F(DispatcherTest, AHelloMakesTheNodeReadyAndIsAnsweredWithCompleteFeeds) {
  write_task("t1", "n1", v1::TASK_ASSIGNED);
  write_task("t2", "n2", v1::TASK_ASSIGNED);
  const Agent agent = connect("n1");
  EXPECT_TRUE(agent.connection->messages.front().has_welcome());
  const auto tasks = agent.connection->feeds(v1::FeedId::TASKS);
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_TRUE(tasks[0].complete());
  ASSERT_EQ(tasks[0].tasks_size(), 1);
  EXPECT_EQ(tasks[0].tasks(0).task().id(), "t1");
  EXPECT_EQ(tasks[0].tasks(0).networks_size(), 1);
  EXPECT_EQ(tasks[0].revisions_size(), 1);
  EXPECT_EQ(agent.connection->feeds(v1::FeedId::NETWORK).size(), 1u);
  EXPECT_EQ(status("n1").state(), v1::NodeStatus::READY);
  EXPECT_EQ(status("n1").address(), "192.0.2.7");
}

TEST_F(DispatcherTest, ChangesArriveAsIncrementsAndOnlyWhereTheyConcern) {
  const Agent one = connect("n1");
  const Agent two = connect("n2");
  const size_t before = two.connection->feeds(v1::FeedId::TASKS).size();
  write_task("t1", "n1", v1::TASK_ASSIGNED);
  const auto steps = one.connection->feeds(v1::FeedId::TASKS);
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_FALSE(steps[1].complete());
  EXPECT_EQ(steps[1].base_version(), steps[0].version());
  EXPECT_EQ(two.connection->feeds(v1::FeedId::TASKS).size(), before);

  write_task("t1", "n1", v1::TASK_RUNNING);  // what the agent reported is not sent back
  EXPECT_EQ(one.connection->feeds(v1::FeedId::TASKS).size(), 2u);

  write([](store::Transaction& tx) { return tx.remove<v1::Task>("t1"); });
  const auto last = one.connection->feeds(v1::FeedId::TASKS).back();
  ASSERT_EQ(last.removed_task_ids_size(), 1);
  EXPECT_EQ(last.removed_task_ids(0), "t1");
}

TEST_F(DispatcherTest, ARevisionTravelsOncePerSession) {
  const Agent agent = connect("n1");
  write_task("t1", "n1", v1::TASK_ASSIGNED);
  write_task("t2", "n1", v1::TASK_ASSIGNED);
  int revisions = 0;
  for (const auto& step : agent.connection->feeds(v1::FeedId::TASKS)) {
    revisions += step.revisions_size();
  }
  EXPECT_EQ(revisions, 1);
}

TEST_F(DispatcherTest, SecretsComeBeforeTheirTasksAndGoWithTheLast) {
  write([](store::Transaction& tx) -> Status {
    v1::Blob blob;
    blob.set_id("blob");
    blob.set_data(std::string(400'000, 'x'));
    MUSTER_TRY(tx.create(blob));
    v1::Secret secret;
    secret.set_id("sec1");
    secret.set_blob_id("blob");
    secret.mutable_spec()->mutable_annotations()->set_name("password");
    MUSTER_TRY(tx.create(secret));
    v1::Revision revision = *tx.view().get<v1::Revision>(store::revision_id("s1", 1));
    revision.mutable_spec()->mutable_container()->add_secrets()->set_secret_id("sec1");
    return tx.update(revision);
  });
  Agent one = connect("n1");
  const Agent two = connect("n2");
  const auto acknowledge = [&] {
    v1::AgentMessage message;
    message.mutable_ack()->mutable_feed()->set_kind(v1::FeedId::SECRETS);
    message.mutable_ack()->set_version(one.connection->feeds(v1::FeedId::SECRETS).back().version());
    one.session->received(message);
  };
  ASSERT_EQ(one.connection->feeds(v1::FeedId::SECRETS).size(), 1u);
  EXPECT_TRUE(one.connection->feeds(v1::FeedId::SECRETS)[0].complete());
  acknowledge();
  one.connection->messages.clear();
  write_task("t1", "n1", v1::TASK_ASSIGNED);
  std::string order;
  for (const auto& message : one.connection->messages) {
    if (!message.has_feed()) continue;
    if (message.feed().feed().kind() == v1::FeedId::SECRETS) order += "s";
    if (message.feed().feed().kind() == v1::FeedId::TASKS) order += "t";
  }
  EXPECT_EQ(order, "sst") << "in two pieces";
  acknowledge();
  write_task("t2", "n1", v1::TASK_ASSIGNED);
  write_task("t1", "n1", v1::TASK_RUNNING);
  write_task("t1", "n1", v1::TASK_FAILED);
  EXPECT_EQ(one.connection->feeds(v1::FeedId::SECRETS).size(), 2u) << "nothing changed";
  write_task("t2", "n1", v1::TASK_FAILED);
  const auto last = one.connection->feeds(v1::FeedId::SECRETS).back();
  ASSERT_EQ(last.removed_secret_ids_size(), 1);
  EXPECT_EQ(last.removed_secret_ids(0), "sec1");
  EXPECT_EQ(two.connection->feeds(v1::FeedId::SECRETS).size(), 1u) << "nobody else has it";
}

TEST_F(DispatcherTest, NetworkMembersReachEveryParticipantAndNobodyElse) {
  const Agent one = connect("n1");
  const Agent two = connect("n2");
  write_task("t1", "n1", v1::TASK_ASSIGNED);
  EXPECT_EQ(one.connection->feeds(v1::FeedId::NETWORK).size(), 1u);
  EXPECT_TRUE(two.connection->feeds(v1::FeedId::NETWORK).empty());
  write_task("t2", "n2", v1::TASK_ASSIGNED);
  const auto seen = one.connection->feeds(v1::FeedId::NETWORK);
  ASSERT_EQ(seen.size(), 2u);
  v1::NetworkFeed increment;
  ASSERT_TRUE(increment.ParseFromString(seen[1].network()));
  ASSERT_EQ(increment.endpoints_size(), 1);
  EXPECT_EQ(increment.endpoints(0).task_id(), "t2");
  EXPECT_EQ(increment.endpoints(0).addresses(0), "10.0.1.5");
  EXPECT_EQ(seen[1].base_version(), seen[0].version());
}

TEST_F(DispatcherTest, EveryNodeHasTheIngressNetworkForAsLongAsThereIsOne) {
  const auto feeds = [](const Agent& agent) {
    std::vector<v1::NetworkFeed> out;
    for (const auto& step : agent.connection->feeds(v1::FeedId::NETWORK)) {
      EXPECT_EQ(step.feed().network_id(), "in");
      EXPECT_TRUE(out.emplace_back().ParseFromString(step.network()));
    }
    return out;
  };
  const auto create = [&](const std::string& id, const std::string& name) {
    write([&](store::Transaction& tx) {
      v1::Network network;
      network.set_id(id);
      network.mutable_spec()->mutable_annotations()->set_name(name);
      network.mutable_spec()->set_ingress(true);
      return tx.create(network);
    });
  };
  const Agent early = connect("n1");
  EXPECT_THAT(feeds(early), IsEmpty());
  create("in", "edge");
  ASSERT_EQ(feeds(early).size(), 1u) << "it runs no task in it";
  const Agent late = connect("n2");
  ASSERT_EQ(feeds(late).size(), 1u);
  EXPECT_TRUE(late.connection->feeds(v1::FeedId::NETWORK)[0].complete());
  write([](store::Transaction& tx) {
    v1::Node node = *tx.view().get<v1::Node>("n2");
    node.mutable_ingress()->set_index(1);
    node.mutable_ingress()->add_addresses("10.0.0.2/16");
    node.mutable_description()->mutable_data_path()->set_address("192.0.2.2");
    return tx.update(node);
  });
  for (const Agent* agent : {&early, &late}) {
    ASSERT_EQ(feeds(*agent).size(), 2u);
    ASSERT_EQ(feeds(*agent)[1].ingress_nodes_size(), 1);
    EXPECT_EQ(feeds(*agent)[1].ingress_nodes(0).addresses(0), "10.0.0.2");
  }
  // Of a network that is gone it is told that nothing is left, and no more.
  write([](store::Transaction& tx) { return tx.remove<v1::Network>("in"); });
  write([](store::Transaction& tx) {
    v1::Node node = *tx.view().get<v1::Node>("n2");
    node.clear_ingress();
    return tx.update(node);
  });
  ASSERT_EQ(feeds(early).size(), 3u);
  EXPECT_FALSE(feeds(early)[2].has_network());
  create("in", "again");
  EXPECT_EQ(feeds(early).size(), 4u);
  EXPECT_EQ(feeds(late).size(), 4u);
}

TEST_F(DispatcherTest, ANodeThatIsCalledDownTakesItsEndpointsWithIt) {
  const auto last = [](const Agent& agent) {
    v1::NetworkFeed feed;
    EXPECT_TRUE(
        feed.ParseFromString(agent.connection->feeds(v1::FeedId::NETWORK).back().network()));
    return feed;
  };
  write_task("t1", "n1", v1::TASK_RUNNING);
  write_task("t2", "n2", v1::TASK_RUNNING);
  for (const char* id : {"t1", "t2"}) {
    write([id](store::Transaction& tx) {
      v1::Task task = *tx.view().get<v1::Task>(id);
      task.set_endpoint_state(v1::ENDPOINT_READY);
      return tx.update(task);
    });
  }
  const Agent one = connect("n1");
  Agent two = connect("n2");
  ASSERT_EQ(last(one).endpoints_size(), 2);
  EXPECT_EQ(last(one).endpoints(1).state(), v1::ENDPOINT_READY);
  v1::AgentMessage goodbye;
  goodbye.mutable_goodbye()->set_reason(v1::Goodbye::LEAVE);
  two.session->received(goodbye);
  world_.settle();
  ASSERT_EQ(status("n2").state(), v1::NodeStatus::DOWN);
  ASSERT_EQ(last(one).endpoints_size(), 1);
  EXPECT_EQ(last(one).endpoints(0).task_id(), "t2");
  EXPECT_EQ(last(one).endpoints(0).state(), v1::ENDPOINT_ABSENT);
  two = connect("n2");
  ASSERT_EQ(last(one).endpoints_size(), 1);
  EXPECT_EQ(last(one).endpoints(0).state(), v1::ENDPOINT_READY);
}

TEST_F(DispatcherTest, TheClusterFeedHasThePortOfOverlayNetworks) {
  const Agent agent = connect("n1");
  EXPECT_EQ(agent.connection->cluster()->data_path_port(), 4789u);
  write([](store::Transaction& tx) {
    v1::Cluster cluster = *tx.view().cluster();
    cluster.set_data_path_port(4790);
    return tx.update(cluster);
  });
  EXPECT_EQ(agent.connection->cluster()->data_path_port(), 4790u);
}

TEST_F(DispatcherTest, KeysOfEncryptedNetworksGoToNodesThatTakePartBeforeTheNetwork) {
  const auto add_key = [&](uint64_t number) {
    write([number](store::Transaction& tx) {
      v1::Cluster cluster = *tx.view().cluster();
      v1::NetworkKey& key = *cluster.add_network_keys();
      key.set_number(number);
      key.set_secret(std::string(32, 's'));
      return tx.update(std::move(cluster));
    });
  };
  write([](store::Transaction& tx) {
    v1::Network network = *tx.view().get<v1::Network>("net1");
    network.mutable_spec()->add_driver_options()->set_key("encrypted");
    return tx.update(std::move(network));
  });
  add_key(1);
  const Agent one = connect("n1");
  const Agent two = connect("n2");
  EXPECT_EQ(one.connection->cluster()->network_keys_size(), 0);
  write_task("t1", "n1", v1::TASK_ASSIGNED);
  ASSERT_EQ(one.connection->cluster()->network_keys_size(), 1);
  EXPECT_EQ(one.connection->cluster()->network_keys(0).secret(), std::string(32, 's'));
  EXPECT_EQ(two.connection->cluster()->network_keys_size(), 0);
  const auto& messages = one.connection->messages;
  const auto first = [&](auto is) {
    return std::find_if(messages.begin(), messages.end(), is) - messages.begin();
  };
  EXPECT_LT(first([](const auto& m) { return m.feed().cluster().network_keys_size() > 0; }),
            first([](const auto& m) { return m.feed().feed().kind() == v1::FeedId::NETWORK; }));
  add_key(2);
  EXPECT_EQ(one.connection->cluster()->network_keys_size(), 2);
  EXPECT_EQ(two.connection->cluster()->network_keys_size(), 0);
  // Who takes part no more has none.
  write_task("t1", "n1", v1::TASK_SHUTDOWN);
  EXPECT_EQ(one.connection->cluster()->network_keys_size(), 0);
}

TEST_F(DispatcherTest, StatesAreWrittenOnceAcknowledgedAndNeverGoBack) {
  write_task("t1", "n1", v1::TASK_ASSIGNED);
  const Agent agent = connect("n1");
  const auto report = [&](v1::TaskState state, uint64_t sequence) {
    v1::AgentMessage message;
    message.mutable_statuses()->set_sequence(sequence);
    auto* update = message.mutable_statuses()->add_updates();
    update->set_task_id("t1");
    update->mutable_status()->set_state(state);
    agent.session->received(message);
    world_.settle();
    return agent.connection->messages.back().status_ack().sequence();
  };
  EXPECT_EQ(report(v1::TASK_RUNNING, 1), 1u);
  EXPECT_EQ(store_.snapshot().get<v1::Task>("t1")->status().state(), v1::TASK_RUNNING);
  EXPECT_EQ(store_.snapshot().get<v1::Task>("t1")->status().applied_by(), "m1");
  EXPECT_EQ(report(v1::TASK_PREPARING, 2), 2u);
  EXPECT_EQ(store_.snapshot().get<v1::Task>("t1")->status().state(), v1::TASK_RUNNING);
}

TEST_F(DispatcherTest, ANodeCannotReportForAnother) {
  write_task("t2", "n2", v1::TASK_ASSIGNED);
  const Agent agent = connect("n1");
  v1::AgentMessage message;
  message.mutable_statuses()->set_sequence(1);
  message.mutable_statuses()->add_updates()->set_task_id("t2");
  message.mutable_statuses()->mutable_updates(0)->mutable_status()->set_state(v1::TASK_FAILED);
  agent.session->received(message);
  world_.settle();
  EXPECT_EQ(store_.snapshot().get<v1::Task>("t2")->status().state(), v1::TASK_ASSIGNED);
}

TEST_F(DispatcherTest, AReportForAnotherNodesTaskDoesNotHideTheRealOne) {
  write_task("t2", "n2", v1::TASK_ASSIGNED);
  Agent liar = connect("n1");
  Agent owner = connect("n2");
  report(liar, "t2", v1::TASK_FAILED, 1);
  report(owner, "t2", v1::TASK_RUNNING, 1);
  world_.settle();
  EXPECT_EQ(state_of("t2"), v1::TASK_RUNNING);
  EXPECT_EQ(acknowledged(liar), 1u);  // or it would send it for ever
}

TEST_F(DispatcherTest, ARejectedWriteLosesNoStateAndAcknowledgesNothing) {
  write_task("t1", "n1", v1::TASK_ASSIGNED);
  write_task("t2", "n1", v1::TASK_ASSIGNED);
  Agent agent = connect("n1");
  log_.rejections = 3;
  report(agent, "t1", v1::TASK_RUNNING, 1);
  world_.settle();
  EXPECT_EQ(state_of("t1"), v1::TASK_ASSIGNED);
  report(agent, "t2", v1::TASK_RUNNING, 2);
  report(agent, "t1", v1::TASK_FAILED, 3);
  world_.settle();
  EXPECT_EQ(acknowledged(agent), 0u);
  world_.advance(3s);
  EXPECT_EQ(state_of("t1"), v1::TASK_FAILED);
  EXPECT_EQ(state_of("t2"), v1::TASK_RUNNING);
  EXPECT_EQ(acknowledged(agent), 3u);
}

TEST_F(DispatcherTest, StatesOutliveATimeInWhichTheStoreTakesNothing) {
  write_task("t1", "n1", v1::TASK_ASSIGNED);
  Agent agent = connect("n1");
  store_.end_leading();  // the transaction's body never runs
  report(agent, "t1", v1::TASK_RUNNING, 1);
  world_.settle();
  EXPECT_EQ(acknowledged(agent), 0u);
  store_.lead(1);
  world_.advance(3s);
  EXPECT_EQ(state_of("t1"), v1::TASK_RUNNING);
  EXPECT_EQ(acknowledged(agent), 1u);
}

TEST_F(DispatcherTest, WhatReplacesAState) {
  struct Case {
    v1::TaskState was;
    v1::TaskState is;
    bool replaces;
  };
  const Case cases[] = {
      {v1::TASK_ASSIGNED, v1::TASK_RUNNING, true},   {v1::TASK_RUNNING, v1::TASK_RUNNING, true},
      {v1::TASK_RUNNING, v1::TASK_ASSIGNED, false},  {v1::TASK_COMPLETE, v1::TASK_COMPLETE, true},
      {v1::TASK_COMPLETE, v1::TASK_SHUTDOWN, false}, {v1::TASK_SHUTDOWN, v1::TASK_FAILED, false},
      {v1::TASK_ORPHANED, v1::TASK_FAILED, false},   {v1::TASK_RUNNING, v1::TASK_ORPHANED, false},
      {v1::TASK_RUNNING, v1::TASK_REMOVE, false},    {v1::TASK_PENDING, v1::TASK_PENDING, false},
  };
  for (const Case& c : cases) {
    v1::Task task;
    task.mutable_status()->set_state(c.was);
    v1::TaskStatusUpdate update;
    update.mutable_status()->set_state(c.is);
    EXPECT_EQ(may_replace(task, update), c.replaces) << c.was << " " << c.is;
  }
}

TEST_F(DispatcherTest, ANodeIsDownEvenIfTheLogWasFullWhenItWentAway) {
  Agent agent = connect("n1");
  world_.advance(4s);
  log_.rejections = 4;
  world_.advance(2s);
  EXPECT_EQ(status("n1").state(), v1::NodeStatus::READY);
  world_.advance(4s);
  EXPECT_EQ(status("n1").state(), v1::NodeStatus::DOWN);
}

TEST_F(DispatcherTest, ANodeThatIsDownForADayLosesItsTasks) {
  write_task("t1", "n1", v1::TASK_RUNNING);
  write_task("t2", "n1", v1::TASK_FAILED);
  connect("n1").session->closed();
  world_.advance(6s);
  ASSERT_EQ(status("n1").state(), v1::NodeStatus::DOWN);
  world_.advance(12h);
  dispatcher_.stop_leading();  // a new leader does not begin the day anew
  dispatcher_.start_leading();
  world_.advance(11h);
  EXPECT_EQ(state_of("t1"), v1::TASK_RUNNING);
  world_.advance(1h);
  EXPECT_EQ(state_of("t1"), v1::TASK_ORPHANED);
  EXPECT_NE(store_.snapshot().get<v1::Task>("t1")->status().error(), "");
  EXPECT_EQ(state_of("t2"), v1::TASK_FAILED);
}

TEST_F(DispatcherTest, ANodeThatCameBackKeepsItsTasks) {
  write_task("t1", "n1", v1::TASK_RUNNING);
  connect("n1").session->closed();
  world_.advance(6s);
  Agent back = connect("n1");
  for (int hour = 0; hour < 25; ++hour) {
    world_.advance(1h);
    back = connect("n1");  // silent for long, but never for a day
  }
  EXPECT_EQ(state_of("t1"), v1::TASK_RUNNING);
}

TEST_F(DispatcherTest, ASilentNodeGoesDownAfterFivePeriods) {
  Agent agent = connect("n1");
  world_.advance(4900ms);
  EXPECT_EQ(status("n1").state(), v1::NodeStatus::READY);
  world_.advance(200ms);
  EXPECT_EQ(status("n1").state(), v1::NodeStatus::DOWN);
  EXPECT_NE(agent.connection->end(), nullptr);
}

TEST_F(DispatcherTest, HeartbeatsKeepANodeUp) {
  Agent agent = connect("n1");
  for (int i = 0; i < 20; ++i) {
    world_.advance(1s);
    beat(agent);
  }
  EXPECT_EQ(status("n1").state(), v1::NodeStatus::READY);
  EXPECT_EQ(agent.connection->sent_first, 20) << "answers wait behind feeds";
}

TEST_F(DispatcherTest, AVanishedAgentOnALivingHostGetsThirtySeconds) {
  Agent agent = connect("n1");
  probe_.answer = ProbeResult::kRefused;
  agent.session->closed();
  world_.advance(29s);
  EXPECT_EQ(status("n1").state(), v1::NodeStatus::READY);
  world_.advance(2s);
  EXPECT_EQ(status("n1").state(), v1::NodeStatus::DOWN);
}

TEST_F(DispatcherTest, AnAnnouncedRestartGetsAMinute) {
  Agent agent = connect("n1");
  v1::AgentMessage message;
  message.mutable_goodbye()->set_reason(v1::Goodbye::RESTART);
  agent.session->received(message);
  agent.session->closed();
  world_.advance(59s);
  EXPECT_EQ(status("n1").state(), v1::NodeStatus::READY);
  const Agent back = connect("n1");
  world_.advance(3s);
  EXPECT_EQ(status("n1").state(), v1::NodeStatus::READY);
}

TEST_F(DispatcherTest, ANewSessionOfTheSameAgentReplacesTheOld) {
  const Agent old = connect("n1");
  const std::string continues = old.connection->messages.front().welcome().session_id();
  const Agent fresh = connect("n1", false, continues);
  ASSERT_NE(old.connection->end(), nullptr);
  EXPECT_EQ(old.connection->end()->reason(), v1::SessionEnd::REPLACED);
  EXPECT_TRUE(old.connection->closed);
  old.session->closed();  // the late end of the old stream does not touch the new session
  EXPECT_EQ(dispatcher_.session_count(), 1u);
}

TEST_F(DispatcherTest, AnAgentThatDoesNotReadIsCutOff) {
  const Agent agent = connect("n1");
  agent.connection->queued = Dispatcher::kQueueBytesMax;
  write_task("t1", "n1", v1::TASK_ASSIGNED);
  ASSERT_NE(agent.connection->end(), nullptr);
  EXPECT_EQ(agent.connection->end()->reason(), v1::SessionEnd::TOO_SLOW);
  EXPECT_EQ(dispatcher_.session_count(), 0u);
}

TEST_F(DispatcherTest, StrangersAndOldAgentsAreSentAwayWithAReason) {
  const Agent stranger = connect("n9");
  ASSERT_NE(stranger.connection->end(), nullptr);
  EXPECT_EQ(stranger.connection->end()->reason(), v1::SessionEnd::NODE_REMOVED);

  Agent old;
  old.session = dispatcher_.connect("n1", "", old.connection);
  v1::AgentMessage message;
  message.mutable_hello();  // feature level 0
  old.session->received(message);
  ASSERT_NE(old.connection->end(), nullptr);
  EXPECT_EQ(old.connection->end()->reason(), v1::SessionEnd::FEATURE_LEVEL);

  Agent rude;
  rude.session = dispatcher_.connect("n1", "", rude.connection);
  beat(rude);
  ASSERT_NE(rude.connection->end(), nullptr);
  EXPECT_EQ(rude.connection->end()->reason(), v1::SessionEnd::PROTOCOL);
}

}  // namespace
}  // namespace muster::manager::dispatcher
