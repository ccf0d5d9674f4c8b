#include "overlay/ipam/ip.h"

#include <gtest/gtest.h>

namespace muster::overlay {
namespace {

TEST(Ip, ParsesAndPrints) {
  for (const char* text : {"0.0.0.0", "10.0.1.5", "255.255.255.255", "::", "::1", "fd00::1:2"}) {
    const auto ip = Ip::parse(text);
    ASSERT_TRUE(ip) << text;
    EXPECT_EQ(ip->str(), text);
  }
  for (const char* text : {"", "10.0.1", "10.0.1.256", "a", "1.2.3.4 ", ":::", "10.0.0.1/24",
                           "00000000000000000000000000000000000000000000000001"}) {
    EXPECT_FALSE(Ip::parse(text)) << text;
  }
}

TEST(Prefix, ClearsHostBits) {
  EXPECT_EQ(Prefix::parse("10.0.1.77/24")->str(), "10.0.1.0/24");
  EXPECT_EQ(Prefix::parse("10.0.1.77/0")->str(), "0.0.0.0/0");
  EXPECT_EQ(Prefix::parse("10.0.1.77/32")->str(), "10.0.1.77/32");
  EXPECT_EQ(Prefix::parse("fd00:1:2:3::9/48")->str(), "fd00:1:2::/48");
  EXPECT_EQ(Prefix::parse("::1/0")->last().str(), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
  for (const char* text :
       {"10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "/8", "::/129", "10.0.0.0/8x"}) {
    EXPECT_FALSE(Prefix::parse(text)) << text;
  }
}

TEST(Prefix, Overlap) {
  struct Case {
    const char* a;
    const char* b;
    bool overlap;
  };
  for (const Case& c :
       {Case{"10.0.0.0/24", "10.0.1.0/24", false}, Case{"10.0.0.0/16", "10.0.1.0/24", true},
        Case{"10.0.1.0/24", "10.0.0.0/16", true}, Case{"0.0.0.0/0", "::/0", false},
        Case{"fd00::/48", "fd00::/64", true}}) {
    EXPECT_EQ(Prefix::parse(c.a)->overlaps(*Prefix::parse(c.b)), c.overlap) << c.a << " " << c.b;
  }
}

TEST(Cidr, KeepsHostBits) {
  EXPECT_EQ(Cidr::parse("10.0.1.77/24")->str(), "10.0.1.77/24");
  EXPECT_EQ(Cidr::parse_lenient("10.0.1.77")->str(), "10.0.1.77/32");
}

TEST(Mac, FollowsTheAddress) {
  EXPECT_EQ(mac_of(*Ip::parse("10.0.1.255")), "02:42:0a:00:01:ff");
  EXPECT_EQ(mac_of(*Ip::parse("fd00::1")).substr(0, 6), "02:42:");
  EXPECT_NE(mac_of(*Ip::parse("fd00::1")), mac_of(*Ip::parse("fd00:1::1")));
}

}  // namespace
}  // namespace muster::overlay
