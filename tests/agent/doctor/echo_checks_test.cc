#include "agent/doctor/echo_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/agent/doctor/node_in_network.h"

namespace muster::agent {
namespace {

using Finding = v1::NetworkFinding;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

// Nodes two and three are examined, a third one is not.
v1::NetworkExamination examination() {
  v1::NetworkExamination out;
  for (const auto& [id, host] : {std::pair("n2", "two"), std::pair("n3", "three")}) {
    v1::ExaminedNode& node = *out.add_nodes();
    node.set_node_id(id);
    node.set_hostname(host);
  }
  return out;
}

// Network blue is encrypted; t1 is here, t2 and t3 (which drains) on two, t4 on three.
NodeFacts encrypted_node() {
  NodeFacts facts = node_in_network();
  v1::NetworkFeed& feed = facts.networks[0].feed;
  feed.mutable_network()->mutable_spec()->add_driver_options()->set_key("encrypted");
  const char* nodes[] = {"n1", "n2", "n2", "n3"};
  for (int i = 0; i < feed.endpoints_size(); ++i) feed.mutable_endpoints(i)->set_node_id(nodes[i]);
  return facts;
}

std::vector<std::string> addresses(const EchoTest& test) {
  std::vector<std::string> out;
  for (const auto& asked : test.asked) out.push_back(asked.address);
  return out;
}

TEST(Echoes, AreAskedForFromOneContainerOnEachOtherNode) {
  NodeFacts facts = encrypted_node();
  auto tests = plan_echoes(examination(), facts);
  ASSERT_EQ(tests.size(), 1u) << "the host has no place in the ingress network";
  EXPECT_EQ(tests[0].netns, "/netns/c1");
  EXPECT_EQ(tests[0].check, std::string("encryption"));
  EXPECT_THAT(addresses(tests[0]), UnorderedElementsAre("10.0.1.4", "10.0.1.6"));
  EXPECT_EQ(tests[0].asked[0].node_id, "n2");
  EXPECT_EQ(tests[0].asked[0].node, "two");
  // Not more than two of a node, the second ones last, and none of one that is not examined.
  for (int i = 10; i < 15; ++i) {
    v1::NetworkEndpoint& more = *facts.networks[0].feed.add_endpoints();
    more.set_node_id(i == 14 ? "n9" : "n2");
    more.set_state(v1::ENDPOINT_READY);
    more.add_addresses("10.0.1." + std::to_string(i));
  }
  EXPECT_THAT(addresses(plan_echoes(examination(), facts)[0]),
              ElementsAre("10.0.1.4", "10.0.1.6", "10.0.1.10"));
  v1::NetworkExamination other = examination();
  other.add_network_ids("net-other");
  EXPECT_TRUE(plan_echoes(other, facts).empty());
  facts.containers.clear();
  EXPECT_TRUE(plan_echoes(examination(), facts).empty()) << "from where?";
}

TEST(Echoes, OfNetworksThatAreNotEncryptedAndOfTheMesh) {
  NodeFacts facts = encrypted_node();
  facts.networks[0].feed.mutable_network()->mutable_spec()->clear_driver_options();
  v1::NetworkFeed& mesh = facts.networks[1].feed;
  mesh.add_ingress_nodes()->set_node_id("n1");
  v1::NetworkEndpoint& there = *mesh.add_endpoints();
  there.set_node_id("n3");
  there.set_state(v1::ENDPOINT_READY);
  there.add_addresses("10.0.0.9");
  const auto tests = plan_echoes(examination(), facts);
  ASSERT_EQ(tests.size(), 2u);
  EXPECT_EQ(tests[0].check, std::string("neighbours"));
  EXPECT_FALSE(tests[0].encrypted);
  EXPECT_EQ(tests[1].check, std::string("mesh"));
  EXPECT_EQ(tests[1].netns, "") << "from the host, as published ports are led";
  EXPECT_THAT(addresses(tests[1]), ElementsAre("10.0.0.9"));
}

TEST(Echoes, AreFewerOfEachNetworkWhereThereAreMany) {
  NodeFacts facts = node_in_network();
  facts.networks.pop_back();
  v1::NetworkExamination asked;
  for (int i = 0; i < 40; ++i) {
    v1::ExaminedNode& node = *asked.add_nodes();
    node.set_node_id("peer" + std::to_string(i));
    node.set_hostname(node.node_id());
    v1::NetworkEndpoint& endpoint = *facts.networks[0].feed.add_endpoints();
    endpoint.set_node_id(node.node_id());
    endpoint.set_state(v1::ENDPOINT_READY);
    endpoint.add_addresses("10.0.2." + std::to_string(i));
  }
  EXPECT_EQ(plan_echoes(asked, facts)[0].asked.size(), 40u);
  const overlay::NetworkStep step = facts.networks[0];
  for (int i = 1; i < 64; ++i) {
    facts.networks.push_back(step);
    facts.networks.back().network_id = "net" + std::to_string(i);
    facts.containers[0].attachments.push_back({facts.networks.back().network_id, {}});
  }
  const size_t share = kEchoesOfAllMax / 64;
  std::set<std::string> tried;
  for (int node = 0; node < 64; ++node) {
    facts.node_id = "node" + std::to_string(node);
    const EchoTest test = plan_echoes(asked, facts)[0];
    EXPECT_EQ(test.asked.size(), share);
    EXPECT_EQ(test.left_out, 40 - share);
    for (const auto& address : addresses(test)) tried.insert(address);
  }
  EXPECT_EQ(tried.size(), 40u) << "each node asks others";
}

EchoTest asked_of_three() {
  EchoTest test;
  test.network_id = "net-blue";
  test.network = "blue";
  test.from = "web.1.t1";
  test.asked = {{"a", "n2", "two"}, {"b", "n2", "two"}, {"c", "n3", "three"}};
  return test;
}

TEST(Echoes, OfNodesThatNothingReachesNoMoreIsSaid) {
  EchoTest test = asked_of_three();
  std::vector<bool> answered = {false, true, false};
  EXPECT_TRUE(leave_out(test, answered, {"n2", "n3"}));
  EXPECT_THAT(addresses(test), ElementsAre("b")) << "that it answered is still known";
  EXPECT_EQ(answered, std::vector<bool>{true});
  test = asked_of_three();
  answered = {false, false, false};
  EXPECT_FALSE(leave_out(test, answered, {"n2", "n3"}));
  test = asked_of_three();
  test.encrypted = true;
  answered = {false, false, false};
  EXPECT_TRUE(leave_out(test, answered, {"n2", "n3"})) << "they have a way of their own";
  EXPECT_EQ(test.asked.size(), 3u);
}

TEST(Echoes, WhatCameOfThemInWords) {
  EchoTest test = asked_of_three();
  Finding found = judge_echoes(test, std::vector<bool>{false, true, true}, {});
  EXPECT_EQ(found.verdict(), Finding::GOOD) << "another container of the node has answered";
  EXPECT_EQ(found.check(), "neighbours");
  EXPECT_EQ(found.text(), "containers on 2 other nodes answer");
  test.left_out = 3;
  found = judge_echoes(test, std::vector<bool>{true, true, true}, {});
  EXPECT_THAT(found.text(), HasSubstr("those on 3 more were not asked"));
  found = judge_echoes(test, std::vector<bool>{true, true, false}, {{"XfrmInNoStates", 3}});
  EXPECT_EQ(found.verdict(), Finding::BAD);
  EXPECT_THAT(found.text(), HasSubstr("no container on three answers web.1.t1: neither ping"));
}

TEST(Echoes, OfEncryptedNetworksInWords) {
  EchoTest test = asked_of_three();
  test.encrypted = true;
  test.check = "encryption";
  Finding found = judge_echoes(test, std::vector<bool>{true, true, true}, {});
  EXPECT_EQ(found.verdict(), Finding::GOOD);
  EXPECT_EQ(found.check(), "encryption");
  EXPECT_EQ(found.network_id(), "net-blue");
  const struct {
    HostTests::Refusals refused;
    const char* says;
  } cases[] = {
      {{{"XfrmInNoStates", 3}}, "this node refused 3 packets meanwhile, since it does not have"},
      {{{"XfrmInStateSeqError", 1}}, "this node refused 1 packet meanwhile, taken for replays"},
      {{{"XfrmInStateProtoError", 2}}, "not encrypted with the key that they name"},
      {{{"XfrmOutPolBlock", 2}}, "before they left: it has no key"},
      {{{"XfrmInBufferError", 2}}, "this node refused nothing meanwhile"},
      {{}, "in plain text and was dropped"},
  };
  for (const auto& c : cases) {
    found = judge_echoes(test, std::vector<bool>{true, true, false}, c.refused);
    EXPECT_EQ(found.verdict(), Finding::BAD);
    EXPECT_THAT(found.text(), HasSubstr("no container on three answers web.1.t1: "));
    EXPECT_THAT(found.text(), HasSubstr(c.says));
  }
  found = judge_echoes(test, fail(not_found("no namespace")), {});
  EXPECT_EQ(found.verdict(), Finding::WARNING);
}

TEST(Echoes, WhatWasRefusedMeanwhile) {
  EXPECT_EQ(refused_since({{"a", 1}, {"b", 2}, {"c", 5}}, {{"a", 3}, {"b", 2}, {"d", 4}, {"c", 1}}),
            (HostTests::Refusals{{"a", 2}, {"d", 4}}));
}

}  // namespace
}  // namespace muster::agent
