#include "deploy/lab/cuts.h"

#include <gmock/gmock.h>

namespace muster::deploy::lab {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

LabPlan plan() {
  LabWish wish;
  wish.managers = 3;
  wish.workers = 2;
  return make_plan(wish, overlay::Prefix::parse("10.220.0.0/24").value());
}

constexpr std::string_view kNothing =
    "add table inet muster_lab\n"
    "delete table inet muster_lab\n";

TEST(Group, IsNodesWithCommas) {
  EXPECT_THAT(*parse_group(plan(), "worker1"), ElementsAre("worker1"));
  EXPECT_THAT(*parse_group(plan(), "manager2,worker1,manager2"),
              ElementsAre("manager2", "worker1"));
  EXPECT_THAT(*parse_group(plan(), "registry"), ElementsAre("registry"));
}

TEST(Group, NamesTheNodeThereIsNot) {
  for (const char* text : {"manager4", "manager1,manager4"}) {
    const auto group = parse_group(plan(), text);
    ASSERT_FALSE(group);
    EXPECT_EQ(group.error().message(),
              "lab lab has no node \"manager4\": it has registry, manager1, manager2, manager3, "
              "worker1, worker2");
  }
  EXPECT_FALSE(parse_group(plan(), ""));
  EXPECT_FALSE(parse_group(plan(), "manager1,"));
}

TEST(Group, TheOthersAreAllNodesButTheRegistry) {
  EXPECT_THAT(others(plan(), {"manager1", "worker2"}),
              ElementsAre("manager2", "manager3", "worker1"));
}

TEST(Cuts, GoBothWaysUnlessAskedForOne) {
  Cuts cuts;
  ASSERT_TRUE(add_cuts(cuts, {"manager1"}, {"manager2", "worker1"}, false, Cut::kSilent).ok());
  EXPECT_EQ(cuts.size(), 4u);
  EXPECT_TRUE(cuts.contains({"worker1", "manager1"}));
  EXPECT_FALSE(cuts.contains({"worker1", "manager2"}));
  cuts.clear();
  ASSERT_TRUE(add_cuts(cuts, {"manager1"}, {"manager2"}, true, Cut::kRefuse).ok());
  EXPECT_THAT(cuts,
              ElementsAre(testing::Pair(testing::Pair("manager1", "manager2"), Cut::kRefuse)));
}

TEST(Cuts, TheLastWordOnAPairCounts) {
  Cuts cuts;
  ASSERT_TRUE(add_cuts(cuts, {"manager1"}, {"manager2"}, false, Cut::kSilent).ok());
  ASSERT_TRUE(add_cuts(cuts, {"manager1"}, {"manager2"}, true, Cut::kRefuse).ok());
  EXPECT_EQ((cuts[{"manager1", "manager2"}]), Cut::kRefuse);
  EXPECT_EQ((cuts[{"manager2", "manager1"}]), Cut::kSilent);
}

TEST(Cuts, NobodyIsCutOffFromHimself) {
  Cuts cuts;
  const Status status = add_cuts(cuts, {"manager1", "worker1"}, {"worker1"}, false, Cut::kSilent);
  EXPECT_EQ(status.message(), "worker1 is on both sides: a node cannot be cut off from itself");
  EXPECT_THAT(cuts, IsEmpty());
}

TEST(Cuts, HealBothDirections) {
  Cuts cuts;
  ASSERT_TRUE(add_cuts(cuts, {"manager1"}, {"manager2", "worker1"}, false, Cut::kSilent).ok());
  EXPECT_EQ(heal_cuts(cuts, {"worker1"}, {"manager1"}), 2u);
  EXPECT_EQ(cuts.size(), 2u);
  EXPECT_EQ(heal_cuts(cuts, {"worker1"}, {"manager1"}), 0u);
  EXPECT_EQ(heal_cuts(cuts, {"manager2"}, {"manager1"}), 2u);
  EXPECT_THAT(cuts, IsEmpty());
}

TEST(Cuts, AreDescribedFromANodesSide) {
  Cuts cuts;
  ASSERT_TRUE(add_cuts(cuts, {"manager1"}, {"worker1"}, false, Cut::kSilent).ok());
  ASSERT_TRUE(add_cuts(cuts, {"manager1"}, {"manager2"}, true, Cut::kSilent).ok());
  EXPECT_EQ(describe_cuts(cuts, "manager1"), "manager2 (to it), worker1");
  EXPECT_EQ(describe_cuts(cuts, "manager2"), "manager1 (from it)");
  EXPECT_EQ(describe_cuts(cuts, "worker2"), "");
}

TEST(CutRules, WithoutCutsThereIsNoTable) {
  EXPECT_EQ(cut_rules(plan(), {}, "manager1"), kNothing);
  Cuts cuts;
  ASSERT_TRUE(add_cuts(cuts, {"manager1"}, {"manager2"}, true, Cut::kSilent).ok());
  EXPECT_EQ(cut_rules(plan(), cuts, "manager1"), kNothing);
}

TEST(CutRules, TheReceiverDrops) {
  Cuts cuts;
  ASSERT_TRUE(add_cuts(cuts, {"manager1", "worker2"}, {"manager2"}, true, Cut::kSilent).ok());
  EXPECT_EQ(cut_rules(plan(), cuts, "manager2"),
            std::string(kNothing) +
                "table inet muster_lab {\n"
                "  chain silent {\n"
                "    type filter hook prerouting priority -300; policy accept;\n"
                "    ip saddr { 10.220.0.11, 10.220.0.102 } drop\n"
                "  }\n"
                "}\n");
}

TEST(CutRules, ARefusalPassesTheOtherEnd) {
  Cuts cuts;
  ASSERT_TRUE(add_cuts(cuts, {"manager1"}, {"manager2"}, false, Cut::kRefuse).ok());
  EXPECT_EQ(cut_rules(plan(), cuts, "manager2"),
            std::string(kNothing) +
                "table inet muster_lab {\n"
                "  chain refuse {\n"
                "    tcp flags & rst == rst accept\n"
                "    meta l4proto tcp reject with tcp reset\n"
                "    reject\n"
                "  }\n"
                "  chain refuse_input {\n"
                "    type filter hook input priority -300; policy accept;\n"
                "    ip saddr { 10.220.0.11 } jump refuse\n"
                "  }\n"
                "  chain refuse_forward {\n"
                "    type filter hook forward priority -300; policy accept;\n"
                "    ip saddr { 10.220.0.11 } jump refuse\n"
                "  }\n"
                "}\n");
}

}  // namespace
}  // namespace muster::deploy::lab
