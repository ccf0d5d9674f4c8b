#include "manager/examiner/pair_findings.h"

#include <gtest/gtest.h>

namespace muster::manager::examiner {
namespace {

using Verdict = v1::NetworkFinding;

// Nodes called by their ids. Each test names pairs FROM>TO of which nothing arrives.
struct Case {
  explicit Case(std::vector<std::string> ids) : nodes(ids.begin(), ids.end()) {
    std::map<std::string, std::string> names;
    for (const std::string& id : nodes) names[id] = "node-" + id;
    pairs = std::make_unique<PairFindings>(names, 4789);
  }
  void lost(const std::string& from, const std::string& to, const char* check = "vxlan") {
    v1::NetworkFinding finding;
    finding.set_check(check);
    finding.set_peer_id(from);
    finding.set_verdict(Verdict::BAD);
    finding.set_text("nothing that node-" + from + " sends arrives at node-" + to);
    EXPECT_TRUE(pairs->add(to, finding));
  }
  void answered(const std::string& from, const std::string& to) {
    v1::NetworkFinding finding;
    finding.set_check("tcp");
    finding.set_peer_id(from);
    EXPECT_TRUE(pairs->add(to, finding));
  }
  std::vector<v1::NetworkFinding> bad() {
    std::vector<v1::NetworkFinding> out;
    for (auto& finding : pairs->conclude(nodes, nodes)) {
      if (finding.verdict() == Verdict::BAD) out.push_back(finding);
    }
    return out;
  }

  std::set<std::string> nodes;
  std::unique_ptr<PairFindings> pairs;
};

bool says(const v1::NetworkFinding& finding, const std::string& text) {
  return finding.text().find(text) != std::string::npos;
}

TEST(PairFindings, SilenceIsGood) {
  Case c({"a", "b", "c"});
  const auto found = c.pairs->conclude(c.nodes, c.nodes);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].verdict(), Verdict::GOOD);
  EXPECT_EQ(found[0].text(),
            "UDP port 4789 of each of 3 nodes is reached by every other node, in both directions");
  EXPECT_EQ(found[1].text(), "frames of full size pass between all nodes");
}

TEST(PairFindings, OfOneNodeThereIsNothingToSay) {
  Case c({"a"});
  EXPECT_TRUE(c.pairs->conclude(c.nodes, c.nodes).empty());
}

TEST(PairFindings, OneDirectionOfOnePair) {
  Case c({"a", "b", "c"});
  c.lost("a", "b");
  c.answered("a", "b");
  const auto found = c.bad();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].node_id(), "b");
  EXPECT_EQ(found[0].peer_id(), "a");
  EXPECT_EQ(
      found[0].text(),
      "nothing that node-a sends arrives at node-b, while the other direction works, and "
      "TCP is answered: a security group or firewall drops it: allow UDP 4789 between the "
      "nodes (or the data-path address, `--data-path-addr`, is not the one that others reach)");
}

TEST(PairFindings, BothDirectionsAreOneFinding) {
  Case c({"a", "b", "c"});
  c.lost("a", "b");
  c.lost("b", "a");
  const auto found = c.bad();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(says(found[0],
                   "nothing on UDP port 4789 passes between node-a and node-b, in either "
                   "direction: "))
      << found[0].text();
}

TEST(PairFindings, WhoHearsNobodyIsDeaf) {
  Case c({"a", "b", "c", "d"});
  for (const char* from : {"a", "b", "d"}) c.lost(from, "c");
  const auto found = c.bad();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].node_id(), "c");
  EXPECT_TRUE(says(found[0],
                   "nothing on UDP port 4789 that the other 3 nodes send arrives at "
                   "node-c, while what it sends arrives"))
      << found[0].text();
}

TEST(PairFindings, WhomNobodyHearsIsMute) {
  Case c({"a", "b", "c", "d"});
  for (const char* to : {"a", "b", "d"}) c.lost("c", to);
  const auto found = c.bad();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(says(found[0], "that node-c sends arrives at the other 3 nodes")) << found[0].text();
}

TEST(PairFindings, DeafAndMuteIsOneFinding) {
  Case c({"a", "b", "c", "d"});
  for (const char* other : {"a", "b", "d"}) {
    c.lost("c", other);
    c.lost(other, "c");
  }
  const auto found = c.bad();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(says(found[0], "passes between node-c and the other 3 nodes, in either direction"))
      << found[0].text();
}

TEST(PairFindings, NothingAnywhereIsOneFinding) {
  Case c({"a", "b", "c"});
  for (const auto& from : c.nodes) {
    for (const auto& to : c.nodes) {
      if (from != to) c.lost(from, to);
    }
  }
  const auto found = c.bad();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].node_id(), "");
  EXPECT_TRUE(says(found[0], "passes between any of the 3 nodes"));
}

TEST(PairFindings, TwoNodesAreAPair) {
  Case c({"a", "b"});
  c.lost("a", "b");
  const auto found = c.bad();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].peer_id(), "a");
}

TEST(PairFindings, WhoWasNotExaminedIsNotBlamed) {
  Case c({"a", "b", "c"});
  c.lost("c", "a");
  c.lost("c", "b");
  c.lost("b", "a");
  // c did not begin.
  auto found = c.pairs->conclude({"a", "b"}, {"a", "b"});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].peer_id(), "b");
  // b has no tunnel, which was said.
  c.pairs->exclude("b");
  found = c.pairs->conclude({"a", "b"}, {"a", "b"});
  EXPECT_TRUE(found.empty());
}

// Which is told of the addresses: no security group is to blame.
TEST(PairFindings, NothingIsSaidOfPairsOfTwoFamilies) {
  Case c({"a", "b", "c", "d"});
  c.pairs->set_v6({"d"});
  for (const char* id : {"a", "b", "c"}) {
    for (const char* check : {"vxlan", "mtu", "esp"}) {
      c.lost("d", id, check);
      c.lost(id, "d", check);
    }
  }
  const auto found = c.pairs->conclude(c.nodes, c.nodes);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].text(),
            "UDP port 4789 of each of 4 nodes is reached by every other node, in both directions, "
            "as far as their data paths are of one family");
  EXPECT_EQ(found[1].verdict(), Verdict::GOOD);
  // Who hears none of those that it could hear is deaf.
  c.lost("a", "b");
  c.lost("c", "b");
  const auto bad = c.bad();
  ASSERT_EQ(bad.size(), 1u);
  EXPECT_EQ(bad[0].node_id(), "b");
  EXPECT_TRUE(says(bad[0],
                   "that the other 2 nodes with addresses of its family send arrives at "
                   "node-b, while what it sends arrives"))
      << bad[0].text();
}

TEST(PairFindings, OneNodeOfEachFamilyHasNoWayToJudge) {
  Case c({"a", "b"});
  c.pairs->set_v6({"b"});
  c.lost("a", "b");
  EXPECT_TRUE(c.pairs->conclude(c.nodes, c.nodes).empty());
}

TEST(PairFindings, LargeFramesAreAMatterOfTheirOwn) {
  Case c({"a", "b", "c"});
  c.lost("a", "b", "mtu");
  const auto found = c.pairs->conclude(c.nodes, c.nodes);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].verdict(), Verdict::GOOD);
  EXPECT_EQ(found[0].check(), "vxlan");
  EXPECT_EQ(found[1].verdict(), Verdict::BAD);
  EXPECT_EQ(found[1].check(), "mtu");
  EXPECT_TRUE(says(found[1], "nothing that node-a sends arrives at node-b: the way carries less "))
      << found[1].text();
}

TEST(PairFindings, EncryptedNetworksAreTriedByThoseThatHaveOne) {
  Case c({"a", "b", "c"});
  v1::NetworkFinding tried;
  tried.set_check("esp");
  for (const char* id : {"a", "b"}) EXPECT_TRUE(c.pairs->add(id, tried));
  // c has no such network.
  c.lost("c", "a", "esp");
  c.lost("c", "b", "esp");
  auto found = c.pairs->conclude(c.nodes, c.nodes);
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[2].verdict(), Verdict::GOOD);
  EXPECT_EQ(found[2].check(), "encryption");
  c.lost("a", "b", "esp");
  found = c.bad();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].check(), "encryption");
  EXPECT_TRUE(says(found[0], "allow IP protocol 50 between the nodes")) << found[0].text();
}

TEST(PairFindings, ManyPairsAreCounted) {
  std::vector<std::string> ids;
  for (int i = 0; i < 30; ++i) ids.push_back("n" + std::to_string(100 + i));
  Case c(ids);
  // Each misses two others: nobody is deaf or mute.
  for (size_t i = 0; i < ids.size(); ++i) c.lost(ids[i], ids[(i + 2) % ids.size()]);
  const auto found = c.bad();
  ASSERT_EQ(found.size(), PairFindings::kPairsMax + 1);
  EXPECT_EQ(found.back().text(), "the same between 10 more pairs of nodes");
}

TEST(PairFindings, OtherChecksAreNotPairs) {
  Case c({"a", "b"});
  v1::NetworkFinding finding;
  finding.set_check("dns");
  EXPECT_FALSE(c.pairs->add("a", finding));
  finding.set_check("vxlan");
  EXPECT_FALSE(c.pairs->add("a", finding)) << "of the node itself";
}

}  // namespace
}  // namespace muster::manager::examiner
