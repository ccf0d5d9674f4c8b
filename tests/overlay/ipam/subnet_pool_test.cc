#include "overlay/ipam/subnet_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "base/rng.h"

namespace muster::overlay {
namespace {

TEST(SubnetPool, FirstFitAvoidsUsedAndReserved) {
  SubnetPool pool(SubnetPoolOptions::defaults());
  pool.avoid(RangeSet({*Prefix::parse("10.0.1.64/26"), *Prefix::parse("10.0.4.0/22")}));
  ASSERT_TRUE(pool.take(*Prefix::parse("10.0.2.0/25")).ok());
  EXPECT_EQ(pool.take_next(false)->str(), "10.0.0.0/24");
  EXPECT_EQ(pool.take_next(false)->str(), "10.0.3.0/24");
  EXPECT_EQ(pool.take_next(false)->str(), "10.0.8.0/24");
  EXPECT_EQ(pool.take_next(false, 16)->str(), "10.1.0.0/16");
  EXPECT_TRUE(pool.put_back(*Prefix::parse("10.0.3.0/24")));
  EXPECT_FALSE(pool.put_back(*Prefix::parse("10.0.3.0/24")));
  EXPECT_EQ(pool.take_next(false)->str(), "10.0.3.0/24");
  EXPECT_EQ(pool.take_next(true)->str(), "fd6d:7573:7465::/64");
  EXPECT_EQ(pool.take(*Prefix::parse("10.1.7.0/24")).message(),
            "subnet 10.1.7.0/24 overlaps 10.1.0.0/16, which another network uses");
}

TEST(SubnetPool, WhoReachesAllOfTheFirstPoolGetsSubnetsOfTheNext) {
  SubnetPool pool(SubnetPoolOptions::defaults());
  pool.avoid(RangeSet({*Prefix::parse("10.0.0.0/8"), *Prefix::parse("172.16.0.0/12")}));
  EXPECT_EQ(pool.take_next(false)->str(), "192.168.0.0/24");
  pool.avoid(RangeSet({*Prefix::parse("10.0.0.0/8"), *Prefix::parse("128.0.0.0/1")}));
  EXPECT_EQ(
      pool.take_next(false).error().message(),
      "no free /24 subnet is left in the IPv4 address pools (1 subnet in use; routes of nodes are "
      "kept away from, such as 10.0.0.0/8): name one by --subnet, also from outside of them");
  // The user knows better, and what was given stays.
  EXPECT_TRUE(pool.take(*Prefix::parse("10.7.0.0/24")).ok());
  EXPECT_FALSE(pool.take(*Prefix::parse("192.168.0.0/24")).ok());
}

TEST(SubnetPool, ANeighbourhoodIsThe16OfAPrivateAddress) {
  const auto around = [](const char* address) {
    const auto range = neighbourhood(*Ip::parse(address));
    return range ? range->str() : "";
  };
  EXPECT_EQ(around("10.0.1.77"), "10.0.0.0/16");
  EXPECT_EQ(around("172.31.255.1"), "172.31.0.0/16");
  EXPECT_EQ(around("192.168.7.7"), "192.168.0.0/16");
  EXPECT_EQ(around("100.127.0.1"), "100.127.0.0/16");
  for (const char* other : {"172.32.0.1", "9.255.255.255", "11.0.0.1", "100.128.0.1", "192.0.2.1",
                            "203.0.113.9", "fd00::1", "2001:db8::a00:1"}) {
    EXPECT_EQ(around(other), "") << other;
  }
}

// A host of EC2 in one of three subnets of its VPC: neither of the others is taken for a network.
TEST(SubnetPool, WhereHostsMayBeThatNoRouteTellsOfComesLast) {
  SubnetPool pool(SubnetPoolOptions::defaults());
  const RangeSet vpc({*neighbourhood(*Ip::parse("10.0.1.77"))});
  pool.avoid(RangeSet({*Prefix::parse("10.0.0.0/20")}), vpc);
  EXPECT_EQ(pool.take_next(false)->str(), "10.1.0.0/24");
  EXPECT_EQ(pool.take_next(false, 16)->str(), "10.2.0.0/16");
  // Who asks for one gets it.
  EXPECT_TRUE(pool.take(*Prefix::parse("10.0.32.0/24")).ok());
  // Other pools before it; then itself, but what is known to be taken.
  SubnetPoolOptions options;
  options.pools = {*Prefix::parse("10.0.0.0/19"), *Prefix::parse("172.16.0.0/20")};
  options.mask_bits_v4 = 20;
  SubnetPool small(options);
  small.avoid(RangeSet({*Prefix::parse("10.0.0.0/20")}), vpc);
  EXPECT_EQ(small.take_next(false)->str(), "172.16.0.0/20");
  EXPECT_EQ(small.take_next(false)->str(), "10.0.16.0/20");
  EXPECT_FALSE(small.take_next(false));
}

// Whatever pools, routes and neighbourhoods there are: as many subnets as without neighbourhoods,
// none on a route or on another, and none of a neighbourhood before one elsewhere.
TEST(SubnetPool, NeighbourhoodsChangeTheOrderAlone) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SeededRng rng(seed);
    const auto some = [&](int length_min, int length_max) {
      const int length =
          length_min +
          static_cast<int>(rng.below(static_cast<uint64_t>(length_max - length_min + 1)));
      const Ip ip = Ip::v4(10u << 24 | static_cast<uint32_t>(rng.below(1u << 18)));
      return *Prefix::parse(fmt::format("{}/{}", ip.str(), length));
    };
    std::vector<Prefix> avoid, near;
    for (uint64_t i = rng.below(6); i > 0; --i) avoid.push_back(some(17, 32));
    for (uint64_t i = rng.below(3); i > 0; --i) near.push_back(some(16, 16));
    SubnetPoolOptions options;
    for (uint64_t i = 0; i <= rng.below(3); ++i) {
      const Prefix wanted = some(15, 22);
      const bool lapped = std::any_of(options.pools.begin(), options.pools.end(),
                                      [&](const Prefix& other) { return other.overlaps(wanted); });
      if (!lapped) options.pools.push_back(wanted);
    }
    options.mask_bits_v4 = 21;
    SubnetPool plain(options), shy(options);
    plain.avoid(RangeSet(avoid));
    shy.avoid(RangeSet(avoid), RangeSet(near));
    std::set<std::string> expected, got;
    while (const auto subnet = plain.take_next(false)) expected.insert(subnet->str());
    bool near_began = false;
    while (const auto subnet = shy.take_next(false)) {
      EXPECT_TRUE(got.insert(subnet->str()).second) << seed;
      EXPECT_EQ(RangeSet(avoid).overlap(*subnet), nullptr) << seed;
      const bool is_near = RangeSet(near).overlap(*subnet) != nullptr;
      EXPECT_TRUE(is_near || !near_began) << seed << ": " << subnet->str();
      near_began = near_began || is_near;
    }
    EXPECT_EQ(got, expected) << seed;
  }
}

TEST(RangeSet, FindsWhatOverlapsAndNothingElse) {
  std::vector<Prefix> given;
  for (const char* text : {"10.0.4.0/22", "10.0.0.0/24", "10.0.5.0/24", "10.0.4.0/24", "fd00::/48",
                           "10.0.0.0/24", "192.168.1.7/32"}) {
    given.push_back(*Prefix::parse(text));
  }
  const RangeSet set(given);
  std::vector<std::string> all;
  for (const Prefix& p : set.all()) all.push_back(p.str());
  EXPECT_EQ(
      all, (std::vector<std::string>{"10.0.0.0/24", "10.0.4.0/22", "192.168.1.7/32", "fd00::/48"}));
  const auto overlaps = [&](const char* text) {
    std::string out;
    set.each_overlap(*Prefix::parse(text), [&](const Prefix& p) { out += p.str() + " "; });
    return out;
  };
  EXPECT_EQ(overlaps("10.0.0.0/8"), "10.0.0.0/24 10.0.4.0/22 ");
  EXPECT_EQ(overlaps("10.0.7.128/25"), "10.0.4.0/22 ");
  EXPECT_EQ(overlaps("10.0.4.0/22"), "10.0.4.0/22 ");
  EXPECT_EQ(overlaps("10.0.1.0/24"), "");
  EXPECT_EQ(overlaps("10.0.8.0/24"), "");
  EXPECT_EQ(overlaps("192.168.1.0/24"), "192.168.1.7/32 ");
  EXPECT_EQ(overlaps("fd00::5/128"), "fd00::/48 ");
  EXPECT_EQ(overlaps("fd01::/48"), "");
  // Every prefix of a small space, beside the plain way of looking.
  for (int third = 0; third < 10; ++third) {
    for (int length = 19; length <= 32; ++length) {
      const auto p = Prefix::parse(fmt::format("10.0.{}.0/{}", third, length)).value();
      const auto found = set.overlap(p);
      const bool any = std::any_of(set.all().begin(), set.all().end(),
                                   [&](const Prefix& r) { return r.overlaps(p); });
      EXPECT_EQ(found != nullptr, any) << p.str();
    }
  }
}

TEST(RangeSet, KeepsTheWidestWhenThereAreTooMany) {
  RangeSet set({*Prefix::parse("10.1.0.0/24"), *Prefix::parse("10.2.0.0/16"),
                *Prefix::parse("10.3.0.1/32"), *Prefix::parse("172.16.0.0/12")});
  EXPECT_EQ(set.trim(4), 0u);
  EXPECT_EQ(set.trim(2), 2u);
  EXPECT_EQ(set, RangeSet({*Prefix::parse("172.16.0.0/12"), *Prefix::parse("10.2.0.0/16")}));
  RangeSet both({*Prefix::parse("fd00::/48"), *Prefix::parse("10.1.0.0/24")});
  EXPECT_EQ(both.trim(1), 1u);
  EXPECT_EQ(both, RangeSet({*Prefix::parse("10.1.0.0/24")}));
}

TEST(SubnetPool, NextPoolWhenOneIsFull) {
  SubnetPoolOptions options;
  options.pools = {*Prefix::parse("192.168.0.0/23"), *Prefix::parse("172.16.0.0/24")};
  SubnetPool pool(options);
  EXPECT_EQ(pool.take_next(false)->str(), "192.168.0.0/24");
  EXPECT_EQ(pool.take_next(false)->str(), "192.168.1.0/24");
  EXPECT_EQ(pool.take_next(false)->str(), "172.16.0.0/24");
  EXPECT_EQ(pool.take_next(false).error().message(),
            "no free /24 subnet is left in the IPv4 address pools (3 subnets in use): name "
            "one by --subnet, also from outside of them");
  EXPECT_EQ(pool.take_next(true).error().message(), "no IPv6 address pool is configured");
}

}  // namespace
}  // namespace muster::overlay
