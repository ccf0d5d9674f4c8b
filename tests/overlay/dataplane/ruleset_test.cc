#include "overlay/dataplane/host/ruleset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <string>
#include <vector>

namespace muster::overlay {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const std::vector<NetworkRules> kNetworks = {{"mb1", false, {"10.0.0.0/24", "fd00::/64"}},
                                             {"mb2", true, {"10.0.1.0/24"}}};

// As "nft -j list table" has the sets of those two networks.
std::string listing(const std::string& bridges = R"("mb1","mb2")",
                    const std::string& internal = R"("mb2")",
                    const std::string& masquerade4 = R"({"prefix":{"addr":"10.0.0.0","len":24}})") {
  const std::string net0 = R"({"prefix":{"addr":"10.0.0.0","len":24}})";
  const std::string net1 = R"({"prefix":{"addr":"10.0.1.0","len":24}})";
  const std::string net6 = R"({"prefix":{"addr":"fd00::","len":64}})";
  const auto set = [](const std::string& name, const std::string& elements) {
    return fmt::format(R"({{"set":{{"name":"{}","elem":[{}]}}}},)", name, elements);
  };
  const auto pair = [](const std::string& a, const std::string& b) {
    return fmt::format(R"({{"concat":[{},{}]}})", a, b);
  };
  return R"({"nftables":[)" + set("bridges", bridges) + set("internal", internal) +
         set("same_network", pair("\"mb1\"", "\"mb1\"") + "," + pair("\"mb2\"", "\"mb2\"")) +
         set("hairpin4", pair(net0, net0) + "," + pair(net1, net1)) +
         set("hairpin6", pair(net6, net6)) + set("masquerade4", masquerade4) +
         set("masquerade6", net6) + set("ports", R"({"concat":["tcp",80]})") +
         R"({"chain":{"name":"forward"}}]})";
}

NetworkRulesRepair repair(const std::string& text) {
  auto out = repair_network_rules("t", text, kNetworks);
  EXPECT_TRUE(out.has_value());
  return out.value_or(NetworkRulesRepair());
}

TEST(NetworkRules, SetsThatAreAsToldNeedNothing) {
  EXPECT_EQ(repair(listing()).differences, 0u);
  EXPECT_THAT(repair(listing()).commands, IsEmpty());
}

TEST(NetworkRules, WhatWasTakenOutIsPutBack) {
  const NetworkRulesRepair lost = repair(listing(R"("mb2")"));
  EXPECT_EQ(lost.differences, 1u);
  EXPECT_EQ(lost.commands, "add element inet t bridges { mb1 }\n");
  const NetworkRulesRepair subnet = repair(listing(R"("mb1","mb2")", R"("mb2")", ""));
  EXPECT_EQ(subnet.commands, "add element inet t masquerade4 { 10.0.0.0/24 }\n");
}

TEST(NetworkRules, WhatWasPutInIsTakenOut) {
  const NetworkRulesRepair strange = repair(listing(R"("mb1","mb2")", R"("mb1","mb2")"));
  EXPECT_EQ(strange.differences, 1u);
  EXPECT_EQ(strange.commands, "delete element inet t internal { mb1 }\n");
}

TEST(NetworkRules, AnEmptyTableGetsAllOfThem) {
  const NetworkRulesRepair all = repair(R"({"nftables":[]})");
  std::string added;
  for (const NetworkRules& network : kNetworks) added += add_network_rules("t", network);
  EXPECT_EQ(all.differences, 10u);
  EXPECT_THAT(all.commands, Not(HasSubstr("delete")));
  EXPECT_EQ(all.commands.size(), added.size());
}

// Nothing is changed by what cannot be read.
TEST(NetworkRules, AListingThatIsNoneIsAnError) {
  EXPECT_FALSE(repair_network_rules("t", "{", kNetworks));
  EXPECT_FALSE(repair_network_rules("t", "[]", kNetworks));
}

// A single address is listed without its length, others with cleared bits.
TEST(NetworkRules, SubnetsAreAsNftablesListsThem) {
  EXPECT_THAT(add_network_rules("t", {"mb1", false, {"10.0.0.7/32"}}),
              HasSubstr("masquerade4 { 10.0.0.7 }"));
  EXPECT_THAT(add_network_rules("t", {"mb1", false, {"10.0.0.7/24"}}),
              HasSubstr("masquerade4 { 10.0.0.0/24 }"));
}

}  // namespace
}  // namespace muster::overlay
