#include "manager/examiner/examiner.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/sim_executor.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::examiner {
namespace {

class ExaminerTest : public ::testing::Test {
 protected:
  struct Sessions final : NodeSessions {
    std::set<std::string> nodes() const override { return open; }
    void send(const std::string& node_id, const v1::ManagerMessage& message) override {
      asked[node_id] = message.examination();
    }
    std::set<std::string> open;
    std::map<std::string, v1::NetworkExamination> asked;
  };
  struct Client final : ExaminationClient {
    void send(v1::ExamineNetworksResponse message) override {
      EXPECT_FALSE(ended) << "nothing follows the end";
      messages.push_back(std::move(message));
    }
    void end(Status s) override {
      EXPECT_FALSE(ended);
      ended = true;
      status = std::move(s);
    }
    std::vector<std::string> texts() const {
      std::vector<std::string> out;
      for (const auto& message : messages) {
        for (const auto& finding : message.findings()) out.push_back(finding.text());
      }
      return out;
    }
    bool says(const std::string& part) const {
      for (const std::string& text : texts()) {
        if (text.find(part) != std::string::npos) return true;
      }
      return false;
    }
    std::vector<v1::ExamineNetworksResponse> messages;
    bool ended = false;
    Status status;
  };

  void SetUp() override {
    store_.lead(1);
    store_.update(
        [](store::Transaction& tx) -> Status {
          v1::Cluster cluster;
          cluster.set_id("cluster");
          cluster.mutable_spec()->mutable_annotations()->set_name("default");
          MUSTER_TRY(tx.create(cluster));
          for (int i = 1; i <= 3; ++i) {
            v1::Node node;
            node.set_id("id" + std::to_string(i));
            node.mutable_description()->set_hostname("node-" + std::to_string(i));
            node.mutable_description()->mutable_data_path()->set_address("10.0.0." +
                                                                         std::to_string(i));
            node.mutable_status()->set_state(v1::NodeStatus::READY);
            MUSTER_TRY(tx.create(node));
          }
          for (const char* name : {"blue", "green"}) {
            v1::Network network;
            network.set_id(std::string("net-") + name);
            network.mutable_spec()->mutable_annotations()->set_name(name);
            network.mutable_spec()->set_driver("overlay");
            MUSTER_TRY(tx.create(network));
          }
          v1::Network bridge;
          bridge.set_id("net-local");
          bridge.mutable_spec()->mutable_annotations()->set_name("local");
          bridge.mutable_spec()->set_driver("bridge");
          return tx.create(bridge);
        },
        [](const store::Commit& commit) {
          ASSERT_TRUE(commit.status.ok()) << commit.status.message();
        });
    world_.settle();
    for (const char* id : {"id1", "id2", "id3"}) sessions_.open.insert(id);
    examiner_->start();
  }

  std::shared_ptr<Client> ask(v1::ExamineNetworksRequest request = {}) {
    auto client = std::make_shared<Client>();
    examiner_->examine(request, client);
    return client;
  }
  void turn() { world_.settle(); }
  void say(const std::string& node, v1::NetworkFindings message, bool last = true) {
    message.set_examination_id(sessions_.asked[node].id());
    message.set_last(last);
    examiner_->found(node, message);
  }
  v1::NetworkFindings begins(Duration ahead = Duration(0)) {
    v1::NetworkFindings out;
    v1::NetworkFinding& clock = *out.add_findings();
    clock.set_check("clock");
    clock.set_text(std::to_string(strand_.clock().wall_now().unix_ns + ahead.count()));
    return out;
  }
  void add(v1::NetworkFindings& to, const std::string& check, const std::string& peer,
           const std::string& text) {
    v1::NetworkFinding& finding = *to.add_findings();
    finding.set_check(check);
    finding.set_peer_id(peer);
    finding.set_verdict(v1::NetworkFinding::BAD);
    finding.set_text(text);
  }

  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer log_{strand_};
  store::Store store_{strand_, &log_, null_log()};
  SeededRng rng_{7};
  Sessions sessions_;
  std::shared_ptr<Examiner> examiner_ =
      std::make_shared<Examiner>(ExaminerDeps{strand_, store_, sessions_, rng_, null_log()});
};

TEST_F(ExaminerTest, EverybodyIsAskedAboutTheOthersAndTheEndIsTold) {
  const auto client = ask();
  ASSERT_EQ(client->messages.size(), 1u);
  EXPECT_EQ(client->messages[0].nodes_size(), 3);
  ASSERT_EQ(client->messages[0].networks_size(), 2) << "bridges do not cross between nodes";
  ASSERT_EQ(sessions_.asked.size(), 3u);
  const auto& asked = sessions_.asked["id2"];
  EXPECT_EQ(asked.data_path_port(), 4789u);
  EXPECT_EQ(asked.network_ids_size(), 0) << "all";
  ASSERT_EQ(asked.nodes_size(), 2);
  EXPECT_EQ(asked.nodes(0).hostname() + asked.nodes(1).hostname(), "node-1node-3");
  for (const char* id : {"id1", "id2", "id3"}) {
    EXPECT_FALSE(client->ended);
    say(id, begins());
  }
  ASSERT_TRUE(client->ended);
  EXPECT_TRUE(client->status.ok());
  EXPECT_TRUE(client->messages.back().last());
  EXPECT_EQ(client->messages.back().silent_node_ids_size(), 0);
  EXPECT_TRUE(client->says("UDP port 4789 of each of 3 nodes is reached"));
  EXPECT_EQ(examiner_->examinations(), 0u);
}

TEST_F(ExaminerTest, WhoSaysNothingIsNamedWhenTheTimeIsOver) {
  v1::ExamineNetworksRequest request;
  request.set_timeout_ns(Duration(4s).count());
  const auto client = ask(request);
  say("id1", begins());
  say("id2", begins());
  world_.advance(3900ms);
  EXPECT_FALSE(client->ended);
  world_.advance(200ms);
  ASSERT_TRUE(client->ended);
  ASSERT_EQ(client->messages.back().silent_node_ids_size(), 1);
  EXPECT_EQ(client->messages.back().silent_node_ids(0), "id3");
  say("id3", begins());  // too late
}

TEST_F(ExaminerTest, ASessionThatEndsIsNotWaitedFor) {
  const auto client = ask();
  say("id1", begins());
  say("id2", begins());
  examiner_->node_gone("id3");
  ASSERT_TRUE(client->ended);
  EXPECT_EQ(client->messages.back().silent_node_ids(0), "id3");
}

TEST_F(ExaminerTest, ANodeWithoutSessionIsSilentFromTheBeginning) {
  sessions_.open.erase("id3");
  const auto client = ask();
  EXPECT_EQ(client->messages[0].nodes_size(), 2);
  EXPECT_EQ(sessions_.asked.count("id3"), 0u);
  say("id1", begins());
  say("id2", begins());
  ASSERT_TRUE(client->ended);
  EXPECT_EQ(client->messages.back().silent_node_ids(0), "id3");
}

TEST_F(ExaminerTest, WithoutAnySessionItEndsAtOnce) {
  sessions_.open.clear();
  const auto client = ask();
  ASSERT_TRUE(client->ended);
  EXPECT_EQ(client->messages.back().silent_node_ids_size(), 3);
}

TEST_F(ExaminerTest, WhatANodeFindsAtHomeIsToldAtOnceAndWaysAtTheEnd) {
  const auto client = ask();
  v1::NetworkFindings found = begins();
  add(found, "dns", "", "netd does not answer");
  add(found, "vxlan", "id1", "nothing that node-1 sends to UDP port 4789 of node-2 arrives");
  say("id2", found, false);
  EXPECT_TRUE(client->says("netd does not answer"));
  EXPECT_FALSE(client->says("node-1 sends"));
  for (const char* id : {"id1", "id2", "id3"}) say(id, begins());
  EXPECT_TRUE(
      client->says("nothing that node-1 sends to UDP port 4789 of node-2 arrives, while "
                   "the other direction works"));
}

TEST_F(ExaminerTest, ClocksThatDifferByMoreThanASecondAreToldOf) {
  const auto client = ask();
  say("id1", begins(900ms));
  say("id2", begins(-5s));
  say("id3", begins(2s));
  EXPECT_FALSE(client->says("the clock of node-1"));
  EXPECT_TRUE(client->says("the clock of node-2 is slow by 5.0 s"));
  EXPECT_TRUE(client->says("the clock of node-3 is fast by 2.0 s"));
}

TEST_F(ExaminerTest, AClockIsNotBlamedForASlowAnswer) {
  const auto client = ask();
  const auto at_the_beginning = begins(100ms);
  world_.advance(4s);
  say("id1", at_the_beginning);
  say("id2", begins(-100ms));
  say("id3", begins());
  EXPECT_FALSE(client->says("the clock")) << client->texts().front();
}

TEST_F(ExaminerTest, ANodeSpeaksForItselfAlone) {
  const auto client = ask();
  v1::NetworkFindings found = begins();
  add(found, "dns", "", "bad");
  found.mutable_findings(1)->set_node_id("id1");
  say("id2", found);
  ASSERT_GE(client->messages.size(), 2u);
  EXPECT_EQ(client->messages[1].findings(0).node_id(), "id2");
}

TEST_F(ExaminerTest, WhatOneNodeSaysIsBounded) {
  const auto client = ask();
  v1::NetworkFindings found = begins();
  for (int i = 0; i < 5'000; ++i) add(found, "dns", "", std::string(10'000, 'x'));
  say("id2", found);
  const auto& told = client->messages[1];
  EXPECT_LE(told.findings_size(), static_cast<int>(Examination::kFindingsMax));
  EXPECT_EQ(told.findings(0).text().size(), Examination::kTextMax);
}

TEST_F(ExaminerTest, NodesThatAreDownAndAddressesThatTwoHaveAreKnownWithoutAsking) {
  store_.update(
      [](store::Transaction& tx) -> Status {
        v1::Node down = *tx.view().get<v1::Node>("id1");
        down.mutable_status()->set_state(v1::NodeStatus::DOWN);
        down.mutable_status()->set_message("heartbeat failure");
        MUSTER_TRY(tx.update(down));
        v1::Node twin = *tx.view().get<v1::Node>("id3");
        twin.mutable_description()->mutable_data_path()->set_address("10.0.0.2");
        return tx.update(twin);
      },
      [](const store::Commit& commit) { ASSERT_TRUE(commit.status.ok()); });
  turn();
  sessions_.open.erase("id1");
  const auto client = ask();
  EXPECT_TRUE(client->says("node-1 is down and was not examined: heartbeat failure"));
  EXPECT_TRUE(client->says("node-2, node-3 have one data-path address, 10.0.0.2"));
  EXPECT_TRUE(client->says("(let those leave and join again with another --data-path-addr)"));
  say("id2", begins());
  say("id3", begins());
  ASSERT_TRUE(client->ended);
  EXPECT_EQ(client->messages.back().silent_node_ids_size(), 0) << "it was said to be down";
}

TEST_F(ExaminerTest, DataPathsOfTwoFamiliesAreKnownWithoutAsking) {
  EXPECT_FALSE(ask()->says("they do not reach one another"));
  store_.update(
      [](store::Transaction& tx) {
        v1::Node other = *tx.view().get<v1::Node>("id2");
        other.mutable_description()->mutable_data_path()->set_address("fd00::2");
        return tx.update(other);
      },
      [](const store::Commit& commit) { ASSERT_TRUE(commit.status.ok()); });
  turn();
  const auto client = ask();
  EXPECT_TRUE(client->says("node-2 has a data-path address of IPv6, 2 nodes of IPv4: they do not"));
  EXPECT_FALSE(client->says("node-1 has a data-path address"));
  for (const char* id : {"id1", "id2", "id3"}) {
    v1::NetworkFindings said = begins();
    for (const char* peer : {"id1", "id3"}) {
      if (std::string_view(id) == "id2") add(said, "vxlan", peer, "nothing arrives from there");
    }
    say(id, said);
  }
  ASSERT_TRUE(client->ended);
  EXPECT_FALSE(client->says("security group")) << "that is not why";
}

TEST_F(ExaminerTest, NetworksThatAreNamedAreAskedFor) {
  v1::ExamineNetworksRequest request;
  request.add_networks("green");
  request.add_networks("net-green");
  const auto client = ask(request);
  EXPECT_EQ(client->messages[0].networks_size(), 1);
  ASSERT_EQ(sessions_.asked["id1"].network_ids_size(), 1);
  EXPECT_EQ(sessions_.asked["id1"].network_ids(0), "net-green");
}

TEST_F(ExaminerTest, BadRequestsAreRefusedWithTheReason) {
  v1::ExamineNetworksRequest request;
  request.add_networks("nowhere");
  auto client = ask(request);
  EXPECT_EQ(client->status.code(), StatusCode::kNotFound) << client->status.message();
  request.Clear();
  request.add_networks("local");
  client = ask(request);
  EXPECT_EQ(client->status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(client->status.message().find("network local has the driver bridge"),
            std::string::npos);
  request.Clear();
  request.set_timeout_ns(Duration(10ms).count());
  client = ask(request);
  EXPECT_EQ(client->status.message(), "an examination takes from 1s to 2m0s, not 10ms");
  EXPECT_TRUE(sessions_.asked.empty());
}

TEST_F(ExaminerTest, NoMoreThanAFewAtATime) {
  std::vector<std::shared_ptr<Client>> clients;
  for (size_t i = 0; i < Examiner::kExaminationsMax; ++i) clients.push_back(ask());
  EXPECT_EQ(ask()->status.code(), StatusCode::kResourceExhausted);
  examiner_->client_gone(*clients[0]);
  EXPECT_FALSE(ask()->ended);
}

TEST_F(ExaminerTest, WhoLeadsNoMoreSaysSo) {
  const auto client = ask();
  examiner_->stop();
  EXPECT_EQ(client->status.code(), StatusCode::kUnavailable);
  EXPECT_EQ(ask()->status.code(), StatusCode::kUnavailable);
}

TEST(Examination, LargeClustersAreTestedInARing) {
  Examinee examinee;
  examinee.all = true;
  std::set<std::string> sessions;
  for (int i = 0; i < 400; ++i) {
    v1::Node node;
    node.set_id("n" + std::to_string(1000 + i));
    node.mutable_description()->set_hostname(node.id());
    node.mutable_description()->mutable_data_path()->set_address("10.0.0.1");
    sessions.insert(node.id());
    examinee.nodes.push_back(node);
  }
  const Examination examination("x", examinee, sessions, 10s, TimePoint{}, WallTime{});
  std::set<std::pair<std::string, std::string>> tested;
  for (const auto& [node_id, ask] : examination.asks()) {
    EXPECT_EQ(ask.nodes_size(), static_cast<int>(PairFindings::kPeersMax));
    for (const auto& peer : ask.nodes()) tested.emplace(node_id, peer.node_id());
  }
  for (const auto& [from, to] : tested) {
    EXPECT_NE(from, to);
    EXPECT_EQ(tested.count({to, from}), 1u) << from << " and " << to;
  }
}

TEST_F(ExaminerTest, WhateverANodeSaysIsBoundedAndCanBePassedOn) {
  const auto client = ask();
  v1::NetworkFindings message;
  for (const char* time : {"-9223372036854775808", "9223372036854775807", "nonsense"}) {
    v1::NetworkFinding& clock = *message.add_findings();
    clock.set_check("clock");
    clock.set_text(time);
  }
  // Every character has two bytes, and the limit is in the middle of one.
  std::string text = "a";
  while (text.size() < 2 * Examination::kTextMax) text += "\xc3\xa4";
  add(message, "dns", "", text);
  add(message, std::string(1000, 'x'), "", "of no check");
  say("id1", message);
  EXPECT_TRUE(client->says("the clock of node-1 is slow by"));
  EXPECT_TRUE(client->says("the clock of node-1 is fast by"));
  EXPECT_FALSE(client->says("of no check"));
  const auto texts = client->texts();
  const auto cut = std::find_if(texts.begin(), texts.end(), [&](const std::string& each) {
    return each.starts_with("a\xc3\xa4") && each.size() < text.size();
  });
  ASSERT_NE(cut, texts.end());
  EXPECT_EQ(*cut, text.substr(0, Examination::kTextMax - 1)) << "no half of a character";
}

}  // namespace
}  // namespace muster::manager::examiner
