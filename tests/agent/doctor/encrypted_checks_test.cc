#include "agent/doctor/encrypted_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/agent/doctor/node_in_network.h"

namespace muster::agent {
namespace {

using Finding = v1::NetworkFinding;
using testing::ElementsAre;
using testing::HasSubstr;

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

TEST(Echoes, AreAskedForFromOneContainerOnEachOtherNode) {
  EXPECT_TRUE(plan_echoes(examination(), node_in_network()).empty()) << "it is not encrypted";
  NodeFacts facts = encrypted_node();
  auto tests = plan_echoes(examination(), facts);
  ASSERT_EQ(tests.size(), 1u);
  EXPECT_EQ(tests[0].netns, "/netns/c1");
  EXPECT_THAT(tests[0].addresses, ElementsAre("10.0.1.4", "10.0.1.6"));
  EXPECT_THAT(tests[0].nodes, ElementsAre("two", "three"));
  // Not more than two of a node, and none of one that is not examined.
  for (int i = 10; i < 15; ++i) {
    v1::NetworkEndpoint& more = *facts.networks[0].feed.add_endpoints();
    more.set_node_id(i == 14 ? "n9" : "n2");
    more.set_state(v1::ENDPOINT_READY);
    more.add_addresses("10.0.1." + std::to_string(i));
  }
  EXPECT_THAT(plan_echoes(examination(), facts)[0].addresses,
              ElementsAre("10.0.1.4", "10.0.1.6", "10.0.1.10"));
  v1::NetworkExamination other = examination();
  other.add_network_ids("net-other");
  EXPECT_TRUE(plan_echoes(other, facts).empty());
  facts.containers.clear();
  EXPECT_TRUE(plan_echoes(examination(), facts).empty()) << "from where?";
}

TEST(Echoes, WhatCameOfThemInWords) {
  const EchoTest test = {"net-blue", "blue",          "web.1.t1",
                         "",         {"a", "b", "c"}, {"two", "two", "three"}};
  Finding found = judge_echoes(test, std::vector<bool>{true, true, true}, {});
  EXPECT_EQ(found.verdict(), Finding::GOOD);
  EXPECT_EQ(found.check(), "encryption");
  EXPECT_EQ(found.network_id(), "net-blue");
  found = judge_echoes(test, std::vector<bool>{false, true, true}, {{"XfrmInNoStates", 1}});
  EXPECT_EQ(found.verdict(), Finding::GOOD) << "another container of the node has answered";
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
