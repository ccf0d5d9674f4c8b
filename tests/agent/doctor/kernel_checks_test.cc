#include "agent/doctor/kernel_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/agent/doctor/node_in_network.h"

namespace muster::agent {
namespace {

using Finding = v1::NetworkFinding;
using Answer = HostTests::Answer;
using testing::HasSubstr;
using testing::Not;

v1::NetworkExamination examination() {
  v1::NetworkExamination out;
  for (const auto& [id, address] : {std::pair("n2", "192.0.2.2"), std::pair("n3", "2001:db8::3"),
                                    std::pair("n4", "192.0.2.4")}) {
    v1::ExaminedNode& node = *out.add_nodes();
    node.set_node_id(id);
    node.set_data_path_addr(address);
  }
  return out;
}

NodeFacts with_encrypted_blue() {
  NodeFacts facts = node_in_network();
  facts.networks[0].feed.mutable_network()->mutable_spec()->add_driver_options()->set_key(
      "encrypted");
  return facts;
}

TEST(JudgeRepairs, EachDifferenceBelongsToACheck) {
  const struct {
    const char* difference;
    const char* check;
  } cases[] = {
      {"network blue: 02:42:0a:00:01:05 led to no node", "neighbours"},
      {"network green: of which nothing is known here", "neighbours"},
      {"container c1 did not lead virtual address 10.0.1.2 of service web as it should", "vip"},
      {"container c1 had other settings than its virtual addresses need", "vip"},
      {"container c1 lacked its default route", "neighbours"},
      {"encrypted networks: the state for 192.0.2.2 was gone", "encryption"},
      {"interface mi123 was down", "mesh"},
      {"the host's rules of the routing mesh were gone or changed", "mesh"},
      {"the rules of 2 published ports were changed", "mesh"},
      {"the network rules of this node were gone", "host"},
      {"3 elements of this node's network rules were not as told", "host"},
      {"the host no longer forwarded IPv4", "host"},
      {"the way out of a container (172.18.0.5) had lost its route", "host"},
      {"the route to 172.18.0.0/20 was gone", "host"},
      {"bridge mg123 was gone", "host"},
  };
  for (const auto& c : cases) {
    const auto found = judge_repairs(examination(), node_in_network(), {c.difference});
    ASSERT_EQ(found.size(), 1u) << c.difference;
    EXPECT_EQ(found[0].check(), c.check) << c.difference;
    EXPECT_EQ(found[0].verdict(), Finding::WARNING) << c.difference;
  }
}

TEST(JudgeRepairs, ThoseOfOneKindAreOneFinding) {
  const auto found =
      judge_repairs(examination(), node_in_network(),
                    {"network blue: 02:42:0a:00:01:05 led to no node",
                     "network blue: the tunnel was down", "interface mi123 was down"});
  ASSERT_EQ(found.size(), 2u);
  const Finding& blue = found[0].check() == "neighbours" ? found[0] : found[1];
  EXPECT_EQ(blue.network_id(), "net-blue");
  EXPECT_THAT(blue.text(),
              HasSubstr("mended now: 02:42:0a:00:01:05 led to no node; the tunnel was down. "));
}

TEST(JudgeRepairs, WithoutDifferencesItSaysWhatWasLookedAt) {
  auto asked = examination();
  auto found = judge_repairs(asked, node_in_network(), {});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].verdict(), Finding::GOOD);
  // Of networks that nobody asked about nothing is said.
  asked.add_network_ids("net-ingress");
  found = judge_repairs(asked, node_in_network(), {"network blue: the tunnel was down"});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].verdict(), Finding::GOOD);
}

TEST(JudgeLimitations, WhatLosesTrafficIsBad) {
  const struct {
    const char* limitation;
    const char* check;
    Finding::Verdict verdict;
  } cases[] = {
      {"network blue is not as it should be here: this kernel has no VXLAN (module vxlan)",
       "neighbours", Finding::BAD},
      {"nothing of encrypted networks arrives from other nodes: UDP port 4500 is in use",
       "encryption", Finding::BAD},
      {"encrypted networks: this node has no data-path address", "encryption", Finding::BAD},
      {"no container can enter an overlay network here: this kernel has no VXLAN", "vxlan",
       Finding::BAD},
      {"routing mesh: cannot add an address", "mesh", Finding::BAD},
      {"the network rules of this node are not as told: no nftables", "host", Finding::BAD},
      {"the host does not forward IPv4: cannot set net.ipv4.ip_forward", "host", Finding::BAD},
      {"something that nobody has thought of", "host", Finding::BAD},
      {"this kernel has no br_netfilter: published ports lead to tasks of this node in the nodes' "
       "names",
       "mesh", Finding::WARNING},
      {"published port 80/tcp leads to 4096 of 5000 tasks at a time, and others have their turn "
       "with every look at the kernel",
       "mesh", Finding::WARNING},
      {"published port 80/tcp is not kept from other programs: Too many open files", "mesh",
       Finding::WARNING},
      {"published port 80/tcp does not answer here: Too many open files", "mesh", Finding::BAD},
      {"published port [fd00::1]:80/tcp answers nowhere: what it leads to has no address of IPv6",
       "mesh", Finding::BAD},
      {"service web has 5000 tasks in network blue: 10.0.1.2 leads to 4096 of them at a time",
       "vip", Finding::WARNING},
      {"network blue has too many services for all the slots", "vip", Finding::WARNING},
  };
  for (const auto& c : cases) {
    const auto found = judge_limitations(examination(), node_in_network(), {c.limitation});
    ASSERT_EQ(found.size(), 1u) << c.limitation;
    EXPECT_EQ(found[0].check(), c.check) << c.limitation;
    EXPECT_EQ(found[0].verdict(), c.verdict) << c.limitation;
    EXPECT_EQ(found[0].text(), c.limitation);
  }
}

TEST(JudgeLimitations, OfEncryptionIsToldWhereAnEncryptedNetworkIsAskedAbout) {
  const std::vector<std::string> limits = {"encrypted networks: no key"};
  v1::NetworkExamination asked = examination();
  asked.add_network_ids("net-blue");
  EXPECT_TRUE(judge_limitations(asked, node_in_network(), limits).empty());
  EXPECT_EQ(judge_limitations(asked, with_encrypted_blue(), limits).size(), 1u);
}

// ---------------------------------------------------------------- what the host forwards

TEST(Forward, IsTriedFromTheHostAndFromContainersWithAWayOut) {
  NodeFacts facts = node_in_network();
  ForwardTest test = plan_forward(examination(), facts, 2377);
  ASSERT_EQ(test.from.size(), 2u);
  EXPECT_EQ(test.from[0].netns, "");
  EXPECT_EQ(test.from[1].netns, "/netns/c1");
  ASSERT_EQ(test.from[1].targets.size(), 2u) << "ways out are of IPv4";
  EXPECT_EQ(test.from[1].targets[1].address, "192.0.2.4");
  EXPECT_EQ(test.from[1].targets[1].port, 2377);
  facts.networks[0].feed.mutable_network()->mutable_spec()->set_internal(true);
  EXPECT_TRUE(plan_forward(examination(), facts, 2377).from.empty()) << "nothing leads out";
  EXPECT_TRUE(plan_forward({}, node_in_network(), 2377).from.empty()) << "to whom?";
}

struct ForwardCase {
  const char* what;
  std::vector<std::string> drops;
  std::vector<Answer> host, container;
  std::optional<Finding::Verdict> verdict;
  const char* says;
};

TEST(Forward, WhatCameOfItInWords) {
  const ForwardTest test = plan_forward(examination(), node_in_network(), 2377);
  const std::vector<Answer> answered = {Answer::kRefused, Answer::kSilent};
  const std::vector<Answer> silent = {Answer::kSilent, Answer::kSilent};
  const std::string chain = "chain FORWARD of table ip filter";
  const std::vector<ForwardCase> cases = {
      {"all is well", {}, answered, answered, Finding::GOOD, "forwards what leaves web.1.t1"},
      {"nobody answers at all", {}, silent, silent, std::nullopt, ""},
      {"dropped, nobody knows by whom",
       {},
       answered,
       silent,
       Finding::WARNING,
       "192.0.2.2 answers this node, but not web.1.t1: something drops"},
      {"dropped by a firewall",
       {chain},
       answered,
       silent,
       Finding::BAD,
       "chain FORWARD of table ip filter drops what this host forwards"},
      {"its rules let some pass",
       {chain},
       answered,
       answered,
       Finding::WARNING,
       "web.1.t1 gets out all the same"},
      {"two, and nothing to try", {chain, chain}, silent, silent, Finding::WARNING, "filter drop "},
  };
  for (const ForwardCase& c : cases) {
    SCOPED_TRACE(c.what);
    const auto found = judge_forward(test, c.drops, {c.host, c.container});
    ASSERT_EQ(found.size(), c.verdict ? 1u : 0u);
    if (!c.verdict) continue;
    EXPECT_EQ(found[0].check(), "host");
    EXPECT_EQ(found[0].verdict(), *c.verdict);
    EXPECT_THAT(found[0].text(), HasSubstr(c.says));
  }
  EXPECT_EQ(judge_forward({}, {chain}, {})[0].verdict(), Finding::WARNING);
  EXPECT_EQ(judge_forward(test, {}, {answered, fail(not_found("gone"))})[0].verdict(),
            Finding::WARNING);
}

}  // namespace
}  // namespace muster::agent
