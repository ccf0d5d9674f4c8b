#include "overlay/ipam/mtu.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace muster::overlay {
namespace {

v1::NetworkSpec spec_of(const std::string& text) {
  v1::NetworkSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec)) << text;
  return spec;
}

v1::Node node(const std::string& address, uint32_t mtu) {
  v1::Node out;
  out.mutable_description()->mutable_data_path()->set_address(address);
  out.mutable_description()->mutable_data_path()->set_mtu(mtu);
  return out;
}

// The figures at 1500 were measured: one more, and packets come in fragments.
TEST(Mtu, WhatADataPathCarries) {
  struct Case {
    const char* spec;
    DataPaths paths;
    uint32_t want;
  };
  const Case cases[] = {
      {"", {0, false}, 1450},
      {"", {0, true}, 1430},
      {"", {1500, false}, 1450},
      {"", {1500, true}, 1430},
      {"", {9001, false}, 8951},
      {"driver: \"overlay\"", {1400, false}, 1350},
      {"ipv6: true", {1300, false}, 1280},
      {"ipv6: true", {1500, true}, 1430},
      {"pools { subnet: \"fd00::/64\" }", {1000, false}, 1280},
      {"", {100, false}, 68},
      {"", {70000, false}, 65535},
      {"driver_options { key: \"encrypted\" }", {1500, false}, 1408},
      {"driver_options { key: \"encrypted\" }", {1500, true}, 1388},
      {"driver_options { key: \"encrypted\" }", {1501, false}, 1408},
      {"driver_options { key: \"encrypted\" }", {1504, false}, 1412},
      {"driver_options { key: \"encrypted\" }", {50, false}, 68},
      {"driver_options { key: \"encrypted\" value: \"true\" }", {1500, false}, 1408},
      {"driver_options { key: \"encrypted\" value: \"false\" }", {1500, false}, 1450},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(carried_mtu(spec_of(c.spec), c.paths), c.want) << c.spec << " " << c.paths.mtu;
    EXPECT_EQ(overlay_mtu(spec_of(c.spec), c.paths), c.want) << c.spec << " " << c.paths.mtu;
  }
}

// What IPv6 needs at least does not fit into every data path: 1,280 and 50 bytes around it, 70 over
// IPv6.
TEST(Mtu, WhatGoesInOnePieceMayBeLessThanIpv6Needs) {
  const v1::NetworkSpec dual = spec_of("ipv6: true");
  EXPECT_EQ(uncut_mtu(dual, {1330, false}), 1280u);
  EXPECT_EQ(uncut_mtu(dual, {1329, false}), 1279u);
  EXPECT_EQ(uncut_mtu(dual, {1350, true}), 1280u);
  EXPECT_EQ(uncut_mtu(dual, {1349, true}), 1279u);
  EXPECT_EQ(carried_mtu(dual, {1349, true}), 1280u);
  EXPECT_EQ(uncut_mtu(spec_of(""), {50, false}), 0u);
  EXPECT_EQ(uncut_mtu(spec_of("driver_options { key: \"encrypted\" }"), {52, false}), 0u);
  EXPECT_EQ(uncut_mtu(spec_of(""), {70000, false}), 65535u);
}

TEST(Mtu, WhatIsAskedForIsKept) {
  const v1::NetworkSpec set =
      spec_of("driver_options { key: \"com.docker.network.driver.mtu\" value: \"8000\" }");
  EXPECT_EQ(overlay_mtu(set, {1500, false}), 8000u);
  EXPECT_EQ(carried_mtu(set, {1500, false}), 1450u);
  EXPECT_EQ(*wanted_mtu(set), 8000u);
  EXPECT_EQ(*wanted_mtu(spec_of("")), 0u);
  // Bridges of the host have their own.
  for (const char* driver : {"bridge", "host", "none"}) {
    EXPECT_EQ(overlay_mtu(spec_of(std::string("driver: \"") + driver + "\""), {9001, false}), 0u);
  }
}

TEST(DataPathTally, TheSmallestOfThoseThatAreKnown) {
  DataPathTally tally;
  EXPECT_EQ(tally.get(), (DataPaths{0, false}));
  const v1::Node a = node("192.0.2.1", 1500), b = node("fd00::1", 9001), c = node("192.0.2.3", 0),
                 d = node("", 500), e = node("192.0.2.4", 1500), alone = node("127.0.0.1", 65536);
  tally.add(alone);
  EXPECT_EQ(tally.get(), (DataPaths{0, false}));
  for (const auto* n : {&a, &b, &c, &d, &e}) tally.add(*n);
  EXPECT_EQ(tally.get(), (DataPaths{1500, true}));
  tally.remove(a);
  EXPECT_EQ(tally.get(), (DataPaths{1500, true}));
  tally.remove(e);
  EXPECT_EQ(tally.get(), (DataPaths{9001, true}));
  tally.remove(b);
  tally.remove(d);
  tally.remove(alone);
  EXPECT_EQ(tally.get(), (DataPaths{0, false}));
}

}  // namespace
}  // namespace muster::overlay
