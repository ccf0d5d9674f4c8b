#include "overlay/dataplane/host/gateway_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::overlay {
namespace {

RangeSet ranges(const std::vector<std::string>& texts) {
  std::vector<Prefix> out;
  for (const std::string& text : texts) out.push_back(*Prefix::parse(text));
  return RangeSet(out);
}

std::string proposed(const std::vector<std::string>& avoid) {
  const auto subnet = GatewayPool("n1").propose(ranges(avoid));
  return subnet ? subnet->str() : "none";
}

TEST(GatewayPool, ASubnetLiesWhereNothingElseIs) {
  EXPECT_EQ(proposed({}), "172.18.0.0/20");
  EXPECT_EQ(proposed({"172.18.0.0/20"}), "172.18.16.0/20");
  EXPECT_EQ(proposed({"172.18.17.3/32", "172.18.5.0/24"}), "172.18.32.0/20");
  EXPECT_EQ(proposed({"172.18.0.0/15"}), "172.20.0.0/20");
  EXPECT_EQ(proposed({"172.16.0.0/12"}), "192.168.240.0/20");
  EXPECT_EQ(proposed({"172.16.0.0/12", "192.168.0.0/16"}), "100.127.240.0/20");
  EXPECT_EQ(proposed({"172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"}), "10.255.240.0/20");
}

TEST(GatewayPool, WhatDockerAndTheDefaultVpcUseComesLast) {
  const std::vector<std::string> rest = {"172.18.0.0/15", "172.20.0.0/14", "172.24.0.0/14",
                                         "172.28.0.0/15", "172.30.0.0/16", "192.168.0.0/16",
                                         "100.64.0.0/10", "10.0.0.0/8"};
  auto avoid = rest;
  EXPECT_EQ(proposed(avoid), "172.16.0.0/20");
  avoid.push_back("172.16.0.0/16");
  EXPECT_EQ(proposed(avoid), "172.31.0.0/20");
  avoid.push_back("172.31.0.0/16");
  EXPECT_EQ(proposed(avoid), "172.17.0.0/20");
  avoid.push_back("172.17.0.0/16");
  EXPECT_EQ(proposed(avoid), "none");
}

TEST(GatewayPool, ASmallerOneWhereNoLargeOneFits) {
  std::vector<std::string> avoid = {"172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"};
  // One host in each /20 of 10.0.0.0/8.
  for (uint32_t i = 0; i < 4096; ++i)
    avoid.push_back(Ip::v4((10u << 24) + (i << 12)).str() + "/32");
  EXPECT_EQ(proposed(avoid), "10.255.255.0/24");
}

TEST(GatewayPool, AddressesComeBackAsLateAsCanBe) {
  GatewayPool pool("n1");
  EXPECT_FALSE(pool.take({}));
  ASSERT_TRUE(pool.add(*Prefix::parse("172.18.0.0/29")).ok());
  const auto first = pool.take({});
  ASSERT_TRUE(first);
  EXPECT_EQ(first->address.str(), "172.18.0.2");
  EXPECT_EQ(first->gateway.str(), "172.18.0.1");
  pool.put_back(first->address);
  pool.hold(*Ip::parse("172.18.0.4"));
  pool.hold(*Ip::parse("172.18.0.4"));
  pool.hold(*Ip::parse("10.0.0.1"));
  std::vector<std::string> given;
  while (const auto place = pool.take({})) given.push_back(place->address.str());
  EXPECT_THAT(given,
              ::testing::ElementsAre("172.18.0.5", "172.18.0.6", "172.18.0.2", "172.18.0.3"));
}

TEST(GatewayPool, AContainerGetsNoAddressThatItsNetworksOverlap) {
  GatewayPool pool("n1");
  ASSERT_TRUE(pool.add(*Prefix::parse("172.18.0.0/20")).ok());
  EXPECT_FALSE(pool.take(ranges({"172.18.1.0/24"})));
  EXPECT_EQ(pool.propose(ranges({"172.18.1.0/24"}))->str(), "172.18.16.0/20");
  ASSERT_TRUE(pool.add(*Prefix::parse("172.18.16.0/20")).ok());
  EXPECT_EQ(pool.take(ranges({"172.18.1.0/24"}))->address.str(), "172.18.16.2");
  EXPECT_EQ(pool.take({})->address.str(), "172.18.0.2");
}

TEST(GatewayPool, IPv6FollowsFromIPv4) {
  const GatewayPool one("n1"), same("n1"), other("n2");
  EXPECT_EQ(one.subnet_v6(), same.subnet_v6());
  EXPECT_NE(one.subnet_v6(), other.subnet_v6());
  EXPECT_EQ(one.subnet_v6().length, 64);
  EXPECT_TRUE(Prefix::parse("fd00::/8")->contains(one.subnet_v6()));
  const Ip six = one.to_v6(*Ip::parse("172.18.0.5"));
  EXPECT_TRUE(one.subnet_v6().contains(six));
  EXPECT_TRUE(six.str().ends_with("::ac12:5")) << six.str();
  EXPECT_TRUE(one.gateway_v6().str().ends_with("::1"));
}

}  // namespace
}  // namespace muster::overlay
