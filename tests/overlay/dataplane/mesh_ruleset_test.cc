#include "overlay/dataplane/mesh/mesh_ruleset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>

#include "overlay/dataplane/container/mesh_task.h"
#include "overlay/dataplane/kernel/nft_table.h"

namespace muster::overlay {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

v1::IngressNode node(uint32_t index, const std::string& mac) {
  v1::IngressNode n;
  n.set_index(index);
  n.set_mac(mac);
  return n;
}

TEST(MeshMaps, ANodeIsAMarkAndAZone) {
  const MeshMaps maps = mesh_maps(
      {{"a", node(1, "02:42:0a:00:00:02")}, {"b", node(65535, "02:42:0a:00:00:03")}}, nullptr);
  EXPECT_THAT(maps.marks, ElementsAre(std::pair("02:42:0a:00:00:02", "0x4d000001"),
                                      std::pair("02:42:0a:00:00:03", "0x4d00ffff")));
  EXPECT_THAT(maps.zones, ElementsAre(std::pair("02:42:0a:00:00:02", "1"),
                                      std::pair("02:42:0a:00:00:03", "65535")));
  EXPECT_THAT(maps.macs, ElementsAre(std::pair("0x4d000001", "02:42:0a:00:00:02"),
                                     std::pair("0x4d00ffff", "02:42:0a:00:00:03")));
}

TEST(MeshMaps, WhatTheMapsCannotHoldIsTold) {
  std::vector<std::string> left_out;
  const MeshMaps maps = mesh_maps({{"a", node(7, "02:42:0a:00:00:02")},
                                   {"b", node(7, "02:42:0a:00:00:03")},
                                   {"c", node(8, "02:42:0a:00:00:02")},
                                   {"d", node(0, "02:42:0a:00:00:04")},
                                   {"e", node(65536, "02:42:0a:00:00:05")},
                                   {"f", node(9, "")}},
                                  &left_out);
  EXPECT_EQ(maps.marks.size(), 1u);
  EXPECT_EQ(maps.zones.size(), 1u);
  EXPECT_EQ(maps.macs.size(), 1u);
  const std::string lead = "clients that come in by node ";
  const std::string then = " get no answers from tasks of this one: ";
  EXPECT_THAT(left_out, ElementsAre(lead + "b" + then + "another node has its index or MAC",
                                    lead + "c" + then + "another node has its index or MAC",
                                    lead + "d" + then + "its index 0 is not from 1 to 65535",
                                    lead + "e" + then + "its index 65536 is not from 1 to 65535",
                                    lead + "f" + then + "\"\" is no MAC"));
}

TEST(MeshMaps, OnlyWhatDiffersIsExchangedAndDroppedFirst) {
  const MeshMaps one = mesh_maps({{"a", node(1, "02:42:0a:00:00:02")}}, nullptr);
  const MeshMaps two = mesh_maps(
      {{"a", node(1, "02:42:0a:00:00:02")}, {"b", node(2, "02:42:0a:00:00:03")}}, nullptr);
  // The index goes to another node.
  const MeshMaps moved = mesh_maps(
      {{"b", node(2, "02:42:0a:00:00:03")}, {"c", node(1, "02:42:0a:00:00:04")}}, nullptr);
  EXPECT_EQ(exchange_mesh_maps(one, one), "");
  EXPECT_EQ(exchange_mesh_maps(one, two),
            "add element inet mesh marks { 02:42:0a:00:00:03 : 0x4d000002 }\n"
            "add element inet mesh zones { 02:42:0a:00:00:03 : 2 }\n"
            "add element bridge mesh macs { 0x4d000002 : 02:42:0a:00:00:03 }\n");
  EXPECT_EQ(exchange_mesh_maps(two, one),
            "delete element inet mesh marks { 02:42:0a:00:00:03 : 0x4d000002 }\n"
            "delete element inet mesh zones { 02:42:0a:00:00:03 : 2 }\n"
            "delete element bridge mesh macs { 0x4d000002 : 02:42:0a:00:00:03 }\n");
  EXPECT_EQ(exchange_mesh_maps(two, moved),
            "delete element inet mesh marks { 02:42:0a:00:00:02 : 0x4d000001 }\n"
            "delete element inet mesh zones { 02:42:0a:00:00:02 : 1 }\n"
            "delete element bridge mesh macs { 0x4d000001 : 02:42:0a:00:00:02 }\n"
            "add element inet mesh marks { 02:42:0a:00:00:04 : 0x4d000001 }\n"
            "add element inet mesh zones { 02:42:0a:00:00:04 : 1 }\n"
            "add element bridge mesh macs { 0x4d000001 : 02:42:0a:00:00:04 }\n");
}

TEST(MeshMaps, ATableThatIsMadeAnewHasThem) {
  MeshMaps maps;
  maps.marks["02:42:0a:00:00:02"] = "0x4d000001";
  maps.zones["02:42:0a:00:00:02"] = "1";
  maps.macs["0x4d000001"] = "02:42:0a:00:00:02";
  const std::string inet = mesh_inet_table(maps).contents;
  const std::string bridge = mesh_bridge_table(maps).contents;
  EXPECT_EQ(inet + bridge, exchange_mesh_maps({}, maps));
  EXPECT_THAT(inet, HasSubstr("add element inet mesh marks { "));
  EXPECT_THAT(bridge, HasSubstr("add element bridge mesh macs { "));
  EXPECT_EQ(mesh_inet_table({}).contents, "");
}

TEST(MeshMaps, AreReadBackFromListings) {
  const auto read = parse_mesh_maps(
      R"({"nftables": [{"map": {"name": "marks", "elem": [["02:42:0a:00:00:02", 1291845633]]}},
        {"map": {"name": "zones", "elem": [["02:42:0a:00:00:02", 1]]}},
        {"map": {"name": "macs", "elem": [[1, "02:42:0a:00:00:09"]]}},
        {"rule": {"chain": "pre"}}]})",
      R"({"nftables": [{"map": {"name": "macs", "elem": [[1291845633, "02:42:0a:00:00:02"]]}}]})");
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(*read, mesh_maps({{"a", node(1, "02:42:0a:00:00:02")}}, nullptr));
  const auto none = parse_mesh_maps(R"({"nftables": []})", R"({"nftables": []})");
  ASSERT_TRUE(none);
  EXPECT_EQ(*none, MeshMaps());
  EXPECT_FALSE(parse_mesh_maps("no listing", "{}"));
}

TEST(MeshHostTable, TasksThatCallTheNodeAreMasqueraded) {
  const std::string text = mesh_host_table("mesh_n1", "mi1", {"10.0.0.0/24", "fd54::/64"}).commands;
  EXPECT_THAT(text, HasSubstr("add rule inet mesh_n1 post ip saddr 10.0.0.0/24 masquerade\n"));
  EXPECT_THAT(text, HasSubstr("add rule inet mesh_n1 post ip6 saddr fd54::/64 masquerade\n"));
  EXPECT_THAT(text, HasSubstr("add rule inet mesh_n1 input iifname != \"mi1\" accept\n"));
}

TEST(NftTable, HandlesCountsAndElementsAreNotOfTheEssence) {
  const auto essence = [](const char* handle, const char* packets, const char* elem,
                          const char* verdict, const char* more) {
    return table_essence(fmt::format(
        R"({{"nftables": [{{"metainfo": {{"version": "1"}}}},
          {{"table": {{"name": "t", "handle": {0}}}}},
          {{"map": {{"name": "m", "handle": {0}, "elem": [{2}]}}}},
          {{"rule": {{"chain": "c", "handle": {0}, "expr": [
             {{"counter": {{"packets": {1}, "bytes": 9}}}}, {{"{3}": null}}]}}}}{4}]}})",
        handle, packets, elem, verdict, more));
  };
  const auto one = essence("1", "0", "[1, 2]", "drop", "");
  ASSERT_TRUE(one) << one.error().message();
  EXPECT_EQ(*one, *essence("2", "5", "[3, 4]", "drop", ""));
  EXPECT_EQ(*one, *essence("2", "5", "", "drop", R"(, {"chain": {"name": "made_1"}})"));
  EXPECT_NE(*one, *essence("1", "0", "[1, 2]", "accept", ""));
  EXPECT_NE(*one, *essence("1", "0", "[1, 2]", "drop", R"(, {"chain": {"name": "other"}})"));
  EXPECT_FALSE(table_essence("no listing"));
}

TEST(NftTable, TheMarkerTellsWhatMadeItAndWhetherItWasChanged) {
  const auto listing = [](const std::string& marker, const std::string& verdict) {
    return fmt::format(R"({{"nftables": [{{"rule": {{"expr": [{{"{}": null}}]}}}},
                                         {{"chain": {{"name": "{}"}}}}]}})",
                       verdict, marker);
  };
  const auto essence = table_essence(listing("made_", "drop"));
  ASSERT_TRUE(essence);
  const std::string marker = table_marker("commands", *essence);
  EXPECT_TRUE(table_is_as_made(listing(marker, "drop"), "commands"));
  EXPECT_FALSE(table_is_as_made(listing(marker, "accept"), "commands"));
  EXPECT_FALSE(table_is_as_made(listing(marker, "drop"), "others"));
  EXPECT_FALSE(table_is_as_made(listing("chain", "drop"), "commands"));
}

v1::PortConfig port(v1::PortConfig::Protocol protocol, uint32_t target,
                    v1::PortConfig::Mode mode = v1::PortConfig::INGRESS) {
  v1::PortConfig p;
  p.set_protocol(protocol);
  p.set_target_port(target);
  p.set_published_port(target + 1);
  p.set_mode(mode);
  return p;
}

v1::Network ingress(const std::vector<std::string>& subnets) {
  v1::Network n;
  for (const auto& subnet : subnets) n.mutable_state()->add_pools()->set_subnet(subnet);
  return n;
}

TEST(MeshTask, AnswersGoByTheIngressNetwork) {
  const auto plan =
      plan_mesh_task(ingress({"10.0.0.0/24", "10.1.0.0/24"}), {*Cidr::parse("10.0.0.5/24")}, 4,
                     {port(v1::PortConfig::TCP, 80)});
  ASSERT_TRUE(plan) << plan.error().message();
  std::vector<std::string> routes;
  for (const TableRoute& r : plan->routes) {
    EXPECT_EQ(r.table, kMeshTable);
    EXPECT_EQ(r.interface, 4);
    EXPECT_EQ(r.source, *Ip::parse("10.0.0.5"));
    routes.push_back(r.destination.str() + (r.gateway ? " via " + r.gateway->str() : ""));
  }
  EXPECT_THAT(routes, ElementsAre("10.0.0.0/24", "10.1.0.0/24", "0.0.0.0/0 via 169.254.77.1"));
  ASSERT_EQ(plan->neighbours.size(), 1u);
  EXPECT_EQ(plan->neighbours[0].mac, mac_of(plan->neighbours[0].ip));
  EXPECT_THAT(plan->rules, ElementsAre(PolicyRule{74, false, Ip::parse("10.0.0.5").value(), 0, 0,
                                                  kMeshTable, false}));
}

TEST(MeshTask, UdpAndSctpPortsOfTheMeshHaveRulesInBothFamilies) {
  using v1::PortConfig;
  const auto plan = plan_mesh_task(
      ingress({"10.0.0.0/24", "fd54::/64"}),
      {*Cidr::parse("10.0.0.5/24"), *Cidr::parse("fd54::5/64")}, 4,
      {port(PortConfig::UDP, 53), port(PortConfig::UDP, 53), port(PortConfig::SCTP, 36412),
       port(PortConfig::UDP, 99, PortConfig::HOST), port(PortConfig::TCP, 53)});
  ASSERT_TRUE(plan) << plan.error().message();
  const auto by_port = [](bool v6, uint8_t protocol, uint16_t number) {
    return std::vector<PolicyRule>{{75, v6, std::nullopt, protocol, number, RT_TABLE_MAIN, true},
                                   {76, v6, std::nullopt, protocol, number, kMeshTable, false}};
  };
  std::vector<PolicyRule> wanted;
  for (const bool v6 : {false, true}) {
    wanted.push_back({74, v6, *Ip::parse(v6 ? "fd54::5" : "10.0.0.5"), 0, 0, kMeshTable, false});
    for (const auto& rule : by_port(v6, IPPROTO_UDP, 53)) wanted.push_back(rule);
    for (const auto& rule : by_port(v6, IPPROTO_SCTP, 36412)) wanted.push_back(rule);
  }
  EXPECT_EQ(plan->rules, wanted);
  EXPECT_EQ(plan->neighbours.size(), 2u);
  EXPECT_EQ(plan->routes.size(), 4u);
}

TEST(MeshTask, BadSubnetsAreTold) {
  EXPECT_FALSE(plan_mesh_task(ingress({"x"}), {*Cidr::parse("10.0.0.5/24")}, 4, {}));
  const auto none = plan_mesh_task(ingress({"10.0.0.0/24"}), {}, 4, {});
  ASSERT_TRUE(none);
  EXPECT_THAT(none->rules, IsEmpty());
  EXPECT_THAT(mesh_task_requests(*none), IsEmpty());
}

}  // namespace
}  // namespace muster::overlay
