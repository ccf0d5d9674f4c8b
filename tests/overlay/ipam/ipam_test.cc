#include "overlay/ipam/ipam.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <set>

#include "base/rng.h"

namespace muster::overlay {
namespace {

v1::Network network(const std::string& id, const std::string& driver = "overlay") {
  v1::Network n;
  n.set_id(id);
  n.mutable_spec()->mutable_annotations()->set_name(id);
  n.mutable_spec()->set_driver(driver);
  return n;
}

v1::Network with_pool(v1::Network n, const std::string& subnet, const std::string& range = "",
                      const std::string& gateway = "") {
  auto* pool = n.mutable_spec()->add_pools();
  pool->set_subnet(subnet);
  pool->set_ip_range(range);
  pool->set_gateway(gateway);
  return n;
}

Ipam make() {
  return Ipam(SubnetPoolOptions::defaults());
}

std::string one(Ipam& ipam, const std::string& id) {
  const auto got = ipam.take_addresses(id);
  return got ? (*got)[0] : got.error().message();
}

TEST(SerialSet, WrapsBeforeReusing) {
  SerialSet set(5);
  for (uint64_t i = 0; i < 5; ++i) EXPECT_EQ(set.take_next(0, 5), i);
  EXPECT_EQ(set.take_next(0, 5), std::nullopt);
  EXPECT_TRUE(set.put_back(1));
  EXPECT_FALSE(set.put_back(1));
  EXPECT_TRUE(set.put_back(3));
  EXPECT_EQ(set.take_next(0, 5), 1u);
  EXPECT_EQ(set.take_next(0, 5), 3u);
  EXPECT_FALSE(set.take(3));
  EXPECT_FALSE(set.take(5));
}

TEST(SerialSet, CrossesWordsAndBlocks) {
  SerialSet set(uint64_t{1} << 62);
  for (uint64_t i = 0; i < 5000; ++i) ASSERT_EQ(set.take_next(0, set.size()), i);
  set.put_back(4095);
  set.set_cursor(0);
  EXPECT_EQ(set.take_next(0, set.size()), 4095u);
  EXPECT_EQ(set.take_next(0, set.size()), 5000u);
  EXPECT_EQ(set.taken(), 5001u);
}

TEST(AddressPool, RefusesNonsense) {
  struct Case {
    const char* subnet;
    const char* range;
    const char* gateway;
    const char* aux;
    const char* message;
  };
  const Case cases[] = {
      {"10.0.0.0", "", "", "", "\"10.0.0.0\" is not in CIDR form (10.0.0.0/24)"},
      {"10.0.0.0/31", "", "", "",
       "subnet 10.0.0.0/31 is too small, a network needs at least a /30"},
      {"10.0.0.0/24", "10.0.1.0/25", "", "", "ip-range 10.0.1.0/25 is not in subnet 10.0.0.0/24"},
      {"10.0.0.0/24", "10.0.0.0/16", "", "", "ip-range 10.0.0.0/16 is not in subnet 10.0.0.0/24"},
      {"10.0.0.0/24", "", "10.0.1.1", "", "gateway 10.0.1.1 is not in subnet 10.0.0.0/24"},
      {"10.0.0.0/24", "", "10.0.0.0", "", "gateway 10.0.0.0 is reserved for another purpose"},
      {"10.0.0.0/24", "", "10.0.0.7", "10.0.0.7",
       "gateway 10.0.0.7 is reserved for another purpose"},
      {"10.0.0.0/24", "", "", "10.0.9.7",
       "auxiliary address 10.0.9.7 is not in subnet 10.0.0.0/24"},
      {"10.0.0.0/24", "", "", "10.0.0.255",
       "auxiliary address 10.0.0.255 is reserved or named twice"},
  };
  for (const Case& c : cases) {
    v1::IpamPool config;
    config.set_subnet(c.subnet);
    config.set_ip_range(c.range);
    config.set_gateway(c.gateway);
    if (*c.aux) {
      config.add_aux_addresses()->set_value(c.aux);
    }
    const auto pool = AddressPool::make(config);
    ASSERT_FALSE(pool) << c.message;
    EXPECT_EQ(pool.error().message(), c.message);
  }
}

TEST(AddressPool, RangeGatewayAndAuxiliary) {
  v1::IpamPool config;
  config.set_subnet("10.0.0.0/24");
  config.set_ip_range("10.0.0.128/30");
  auto* aux = config.add_aux_addresses();
  aux->set_key("router");
  aux->set_value("10.0.0.1");
  auto pool = AddressPool::make(config);
  ASSERT_TRUE(pool) << pool.error().message();
  EXPECT_EQ(pool->gateway().str(), "10.0.0.2");
  EXPECT_EQ(pool->capacity(), 4u);
  for (const char* want : {"10.0.0.128", "10.0.0.129", "10.0.0.130", "10.0.0.131"}) {
    EXPECT_EQ(pool->take_next()->str(), want);
  }
  EXPECT_EQ(pool->take_next().error().message(),
            "subnet 10.0.0.0/24 has no free address (4 of 4 in use)");
  EXPECT_TRUE(pool->take(*Ip::parse("10.0.0.5")).ok());
  EXPECT_EQ(pool->take(*Ip::parse("10.0.0.5")).message(), "address 10.0.0.5 is in use");
  EXPECT_EQ(pool->take(*Ip::parse("10.0.0.2")).message(), "address 10.0.0.2 is reserved");
  EXPECT_FALSE(pool->put_back(*Ip::parse("10.0.0.2")));
  EXPECT_EQ(pool->free(), 0u);
}

TEST(PortPool, IngressIsUniqueHostIsShared) {
  struct Step {
    const char* owner;
    uint32_t port;
    v1::PortConfig::Mode mode;
    v1::PortConfig::Protocol protocol;
    const char* error;
  };
  const Step steps[] = {
      {"a", 80, v1::PortConfig::INGRESS, v1::PortConfig::TCP, ""},
      {"a", 80, v1::PortConfig::INGRESS, v1::PortConfig::TCP, ""},
      {"b", 80, v1::PortConfig::INGRESS, v1::PortConfig::UDP, ""},
      {"b", 80, v1::PortConfig::INGRESS, v1::PortConfig::TCP,
       "port 80/tcp is already in use by service a as an ingress port"},
      {"b", 80, v1::PortConfig::HOST, v1::PortConfig::TCP,
       "port 80/tcp is already in use by service a as an ingress port"},
      {"b", 81, v1::PortConfig::HOST, v1::PortConfig::TCP, ""},
      {"c", 81, v1::PortConfig::HOST, v1::PortConfig::TCP, ""},
      {"c", 81, v1::PortConfig::INGRESS, v1::PortConfig::TCP,
       "port 81/tcp is already in use by service b as a host-mode port"},
      {"c", 70000, v1::PortConfig::INGRESS, v1::PortConfig::TCP, "port 70000 is above 65535"},
  };
  PortPool pool;
  for (const Step& s : steps) {
    v1::PortConfig port;
    port.set_published_port(s.port);
    port.set_mode(s.mode);
    port.set_protocol(s.protocol);
    EXPECT_EQ(pool.take(port, s.owner).message(), s.error);
  }
}

TEST(PortPool, PlacesOfANodeAreTakenApart) {
  const auto bound = [](const char* bind, v1::PortConfig::Mode mode = v1::PortConfig::INGRESS) {
    v1::PortConfig port;
    port.set_published_port(80);
    port.set_bind(bind);
    port.set_mode(mode);
    return port;
  };
  PortPool pool;
  v1::PortConfig first = bound("10.0.0.5"), second = bound("10.0.0.6"), all = bound("");
  v1::PortConfig interface = bound("eth1"), host = bound("10.0.0.7", v1::PortConfig::HOST);
  EXPECT_TRUE(pool.take(first, "a").ok());
  EXPECT_TRUE(pool.take(second, "b").ok());
  EXPECT_TRUE(pool.take(host, "c").ok());
  EXPECT_EQ(pool.take(first, "b").message(),
            "port 80/tcp is already in use by service a as an ingress port");
  EXPECT_FALSE(pool.take(all, "d").ok());
  EXPECT_FALSE(pool.take(interface, "d").ok());
  // Each is given back by itself.
  EXPECT_FALSE(pool.put_back(all, "a"));
  EXPECT_TRUE(pool.put_back(first, "a"));
  EXPECT_TRUE(pool.put_back(host, "c"));
  // A service moves from one place to all of them.
  EXPECT_TRUE(pool.take(all, "b").ok());
  EXPECT_TRUE(pool.put_back(second, "b"));
  EXPECT_TRUE(pool.holds(all, "b"));
  EXPECT_FALSE(pool.take(second, "d").ok());
}

TEST(PortPool, DynamicPortsAreSerialAndRunOut) {
  PortPool pool;
  v1::PortConfig fixed;
  fixed.set_published_port(30001);
  ASSERT_TRUE(pool.take(fixed, "x").ok());
  v1::PortConfig first;
  ASSERT_TRUE(pool.take(first, "a").ok());
  EXPECT_EQ(first.published_port(), 30000u);
  EXPECT_TRUE(pool.put_back(first, "a"));
  EXPECT_FALSE(pool.put_back(first, "a"));
  v1::PortConfig second;
  ASSERT_TRUE(pool.take(second, "a").ok());
  EXPECT_EQ(second.published_port(), 30002u);
  for (int i = 0; i < 2766; ++i) {
    v1::PortConfig port;
    ASSERT_TRUE(pool.take(port, "a").ok()) << i;
  }
  v1::PortConfig none;
  EXPECT_EQ(pool.take(none, "a").message(), "no tcp port is free between 30000 and 32767");
  v1::PortConfig host;
  host.set_mode(v1::PortConfig::HOST);
  EXPECT_TRUE(pool.take(host, "a").ok());
  EXPECT_EQ(host.published_port(), 0u);
}

TEST(Ipam, NetworksGetSubnetGatewayAndVni) {
  Ipam ipam = make();
  const auto a = ipam.take_network(network("a"));
  ASSERT_TRUE(a);
  EXPECT_EQ(a->pools(0).subnet(), "10.0.0.0/24");
  EXPECT_EQ(a->pools(0).gateway(), "10.0.0.1");
  EXPECT_EQ(a->vni(), 4096u);
  const auto b = ipam.take_network(network("b", "bridge"));
  EXPECT_EQ(b->pools(0).subnet(), "10.0.1.0/24");
  EXPECT_EQ(b->vni(), 0u);
  EXPECT_EQ(ipam.take_network(network("c", "macvlan")).error().message(),
            "network driver \"macvlan\" is not supported");
  EXPECT_FALSE(ipam.take_network(with_pool(network("d"), "10.0.1.0/25")));
  EXPECT_FALSE(ipam.has_network("d"));
  ipam.put_back_network("b");
  EXPECT_TRUE(ipam.take_network(with_pool(network("d"), "10.0.1.0/25", "", "10.0.1.9")));
  EXPECT_EQ(one(ipam, "d"), "10.0.1.1/25");
}

TEST(Ipam, ANetworkThatAllShareIsAsLargeAsThePoolsAllow) {
  struct Case {
    std::vector<const char*> pools;
    int bits;
    std::vector<const char*> avoid;
    const char* want;
    const char* data_path = nullptr;
  };
  const Case cases[] = {
      {{"10.0.0.0/8"}, 24, {}, "10.0.0.0/16"},
      {{"172.20.0.0/16"}, 24, {}, "172.20.0.0/20"},
      {{"172.20.0.0/16"}, 18, {}, "172.20.0.0/18"},  // nor smaller than the others
      {{"172.20.0.0/22"}, 26, {}, "172.20.0.0/26"},
      {{"10.0.0.0/24"}, 24, {}, "10.0.0.0/24"},
      // Half of it is somebody else's, in pieces.
      {{"10.0.0.0/14"}, 24, {"10.0.1.0/24", "10.1.0.0/24", "10.2.0.0/15"}, "10.0.64.0/18"},
      {{"10.0.0.0/8", "172.16.0.0/12"}, 24, {"10.0.0.0/8"}, "172.16.0.0/16"},
      // Beside the VPC, or within it where there is nothing else.
      {{"10.0.0.0/8"}, 24, {"10.0.0.0/24"}, "10.1.0.0/16", "10.0.0.9"},
      {{"10.0.0.0/16"}, 24, {"10.0.0.0/24"}, "10.0.16.0/20", "10.0.0.9"},
  };
  for (const Case& c : cases) {
    SubnetPoolOptions options;
    for (const char* pool : c.pools) options.pools.push_back(*Prefix::parse(pool));
    options.mask_bits_v4 = c.bits;
    Ipam ipam(options);
    std::vector<Prefix> avoid;
    for (const char* range : c.avoid) avoid.push_back(*Prefix::parse(range));
    std::vector<Prefix> near;
    if (c.data_path != nullptr) near.push_back(*neighbourhood(*Ip::parse(c.data_path)));
    ipam.avoid(RangeSet(avoid), RangeSet(near));
    const auto state = ipam.take_shared_network(network("in"));
    ASSERT_TRUE(state) << state.error().message();
    EXPECT_EQ(state->pools(0).subnet(), c.want) << c.pools[0];
  }
  Ipam full(SubnetPoolOptions::defaults());
  full.avoid(RangeSet({*Prefix::parse("0.0.0.0/1"), *Prefix::parse("128.0.0.0/1")}));
  EXPECT_EQ(full.take_shared_network(network("in")).error().code(), StatusCode::kResourceExhausted);
}

TEST(Ipam, AFailedNetworkLeavesNothing) {
  Ipam ipam = make();
  auto n = with_pool(with_pool(network("a"), "10.0.0.0/24"), "10.9.0.0/24", "", "10.8.0.1");
  EXPECT_FALSE(ipam.take_network(n));
  const auto b = ipam.take_network(network("b"));
  ASSERT_TRUE(b);
  EXPECT_EQ(b->pools(0).subnet(), "10.0.0.0/24");
}

TEST(Ipam, WantedVni) {
  Ipam ipam = make();
  auto n = network("a");
  auto* option = n.mutable_spec()->add_driver_options();
  option->set_key("com.docker.network.driver.overlay.vxlanid_list");
  option->set_value("4097");
  EXPECT_EQ(ipam.take_network(n)->vni(), 4097u);
  n.set_id("b");
  EXPECT_EQ(ipam.take_network(n).error().message(), "VXLAN id 4097 is in use");
  EXPECT_EQ(ipam.take_network(network("c"))->vni(), 4096u);
  EXPECT_EQ(ipam.take_network(network("d"))->vni(), 4098u);
}

TEST(Ipam, WhoFindsNoVniGetsNothingAtAllUntilOneIsGivenBack) {
  Ipam ipam(SubnetPoolOptions::defaults(), Ipam::kVniFirst + 1);
  EXPECT_EQ(ipam.take_network(network("a"))->vni(), 4096u);
  EXPECT_EQ(ipam.take_network(network("b"))->vni(), 4097u);
  for (int i = 0; i < 3; ++i) {
    const auto refused = ipam.take_network(network("c"));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().message(), "no VXLAN id is free: all from 4096 to 4097 are in use");
    EXPECT_EQ(refused.error().code(), StatusCode::kResourceExhausted);
    EXPECT_FALSE(ipam.has_network("c"));
  }
  // The subnet that it had by then is nobody's, and those that need no VNI get theirs.
  EXPECT_EQ(ipam.take_network(network("d", "bridge"))->pools(0).subnet(), "10.0.2.0/24");
  ipam.put_back_network("a");
  EXPECT_EQ(ipam.take_network(network("c"))->vni(), 4096u);
}

TEST(Ipam, DualStackAndStatic) {
  Ipam ipam = make();
  auto n = network("a");
  n.mutable_spec()->set_ipv6(true);
  ASSERT_TRUE(ipam.take_network(n));
  EXPECT_EQ(*ipam.take_addresses("a"),
            (std::vector<std::string>{"10.0.0.2/24", "fd6d:7573:7465::2/64"}));
  EXPECT_EQ(*ipam.take_addresses("a", {"fd6d:7573:7465::99"}),
            (std::vector<std::string>{"fd6d:7573:7465::99/64", "10.0.0.3/24"}));
  EXPECT_FALSE(ipam.take_addresses("a", {"10.0.0.77", "fd6d:7573:7465::99"}));
  EXPECT_EQ((*ipam.take_addresses("a", {"10.0.0.77"}))[0], "10.0.0.77/24");
  EXPECT_EQ(ipam.take_addresses("a", {"10.3.0.1"}).error().message(),
            "address 10.3.0.1 is in no subnet of the network");
  EXPECT_EQ(*ipam.take_virtual_ip("a"), "10.0.0.4/24");
}

TEST(Ipam, SecondSubnetGrowsANetwork) {
  Ipam ipam = make();
  ASSERT_TRUE(ipam.take_network(with_pool(with_pool(network("a"), "10.0.0.0/30"), "10.0.9.0/29")));
  EXPECT_EQ(ipam.free_addresses("a"), 6u);
  EXPECT_EQ(one(ipam, "a"), "10.0.0.2/30");
  EXPECT_EQ(one(ipam, "a"), "10.0.9.2/29");
}

TEST(Ipam, RestoreContinuesBehindTheHighestAddress) {
  Ipam before = make();
  v1::Network n = network("a");
  *n.mutable_state() = *before.take_network(n);
  Ipam after = make();
  ASSERT_TRUE(after.restore_network(n).ok());
  ASSERT_TRUE(after.restore_network(n).ok());
  ASSERT_TRUE(after.restore_address("a", "10.0.0.9/24").ok());
  ASSERT_TRUE(after.restore_address("a", "10.0.0.4/24").ok());
  EXPECT_FALSE(after.restore_address("a", "10.0.0.4/24").ok());
  EXPECT_EQ(one(after, "a"), "10.0.0.10/24");
  EXPECT_EQ(after.take_network(network("b"))->vni(), 4097u);
}

// Whatever the order of takes and returns: no address is held twice, none leaves its subnet, the
// count of free ones is right, and a rebuild from what is held agrees.
TEST(IpamProperty, NeverTwiceNeverOutside) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SeededRng rng(seed);
    Ipam ipam = make();
    v1::Network n = with_pool(network("a"), seed % 2 ? "10.7.0.0/26" : "10.7.0.0/22",
                              seed % 3 ? "" : "10.7.0.32/27");
    *n.mutable_state() = *ipam.take_network(n);
    const Prefix subnet = *Prefix::parse(n.state().pools(0).subnet());
    const uint64_t capacity = ipam.free_addresses("a");
    std::vector<std::string> held;
    std::set<std::string> unique;
    for (int step = 0; step < 2000; ++step) {
      if (!held.empty() && rng.below(100) < 45) {
        const size_t i = rng.below(held.size());
        ASSERT_TRUE(ipam.put_back_address("a", held[i]));
        ASSERT_FALSE(ipam.put_back_address("a", held[i]));
        unique.erase(held[i]);
        held.erase(held.begin() + static_cast<std::ptrdiff_t>(i));
      } else if (auto got = ipam.take_addresses("a")) {
        const std::string& cidr = got->front();
        ASSERT_TRUE(unique.insert(cidr).second) << cidr;
        ASSERT_TRUE(subnet.contains(Cidr::parse(cidr)->ip));
        ASSERT_NE(Cidr::parse(cidr)->ip.str(), n.state().pools(0).gateway());
        held.push_back(cidr);
      } else {
        ASSERT_EQ(held.size(), capacity);
      }
      ASSERT_EQ(ipam.free_addresses("a"), capacity - held.size());
    }
    Ipam rebuilt = make();
    ASSERT_TRUE(rebuilt.restore_network(n).ok());
    for (const auto& cidr : held) ASSERT_TRUE(rebuilt.restore_address("a", cidr).ok());
    ASSERT_EQ(rebuilt.free_addresses("a"), ipam.free_addresses("a"));
  }
}

TEST(IpamFigures, HundredThousandAddresses) {
  Ipam ipam = make();
  v1::Network n = with_pool(network("a"), "10.64.0.0/14");
  *n.mutable_state() = *ipam.take_network(n);
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::string> held;
  for (int i = 0; i < 100'000; ++i) held.push_back(one(ipam, "a"));
  const auto took = std::chrono::steady_clock::now();
  Ipam rebuilt = make();
  ASSERT_TRUE(rebuilt.restore_network(n).ok());
  for (const auto& cidr : held) ASSERT_TRUE(rebuilt.restore_address("a", cidr).ok());
  const auto restored = std::chrono::steady_clock::now();
  const auto ms = [](auto d) {
    return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(d).count());
  };
  RecordProperty("take_100k_ms", ms(took - start));
  RecordProperty("restore_100k_ms", ms(restored - took));
  EXPECT_EQ(std::set<std::string>(held.begin(), held.end()).size(), held.size());
  EXPECT_FALSE(rebuilt.restore_address("a", held.back()).ok());
}

v1::IpamPool pool_of(const std::string& subnet, const std::string& range = "") {
  v1::IpamPool pool;
  pool.set_subnet(subnet);
  pool.set_ip_range(range);
  return pool;
}

TEST(Ipam, ANetworkGrowsWhileItIsInUse) {
  Ipam ipam = make();
  v1::Network n = with_pool(network("a"), "10.9.0.0/29");
  *n.mutable_state() = *ipam.take_network(n);
  ASSERT_TRUE(ipam.take_network(with_pool(network("b"), "10.8.0.0/24")));
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(ipam.take_addresses("a"));
  EXPECT_EQ(one(ipam, "a"),
            "subnet 10.9.0.0/29 has no free address (5 of 5 in use): `network update --subnet` "
            "gives the network another");
  EXPECT_TRUE(Ipam::missing_pools(n).empty());
  *n.mutable_spec()->add_pools() = pool_of("10.9.0.9/29");
  const auto missing = Ipam::missing_pools(n);
  ASSERT_EQ(missing.size(), 1u);
  // All or nothing.
  EXPECT_EQ(ipam.grow_network("a", {missing[0], pool_of("10.8.0.128/25")}).error().message(),
            "subnet 10.8.0.128/25 overlaps 10.8.0.0/24, which another network uses");
  EXPECT_FALSE(ipam.grow_network("a", {pool_of("10.9.0.4/30")}));
  EXPECT_EQ(ipam.free_addresses("a"), 0u);
  const auto given = ipam.grow_network("a", missing);
  ASSERT_TRUE(given) << given.error().message();
  EXPECT_EQ((*given)[0].subnet(), "10.9.0.8/29");
  EXPECT_EQ((*given)[0].gateway(), "10.9.0.9");
  EXPECT_EQ(one(ipam, "a"), "10.9.0.10/29");
  EXPECT_EQ((*ipam.take_addresses("a", {"10.9.0.14"}))[0], "10.9.0.14/29");
  while (ipam.free_addresses("a") != 0) ASSERT_TRUE(ipam.take_addresses("a"));
  EXPECT_EQ(one(ipam, "a"),
            "subnets 10.9.0.0/29, 10.9.0.8/29 have no free address (10 of 10 in use): `network "
            "update --subnet` gives the network another");
  // As stored, it is the same again.
  *n.mutable_state()->add_pools() = (*given)[0];
  EXPECT_TRUE(Ipam::missing_pools(n).empty());
  Ipam again = make();
  ASSERT_TRUE(again.restore_network(n).ok());
  EXPECT_EQ(again.free_addresses("a"), 10u);
  // And undone, the subnet is anybody's.
  again.shrink_network("a", *given);
  EXPECT_EQ(again.free_addresses("a"), 5u);
  EXPECT_TRUE(again.take_network(with_pool(network("c"), "10.9.0.8/29")));
}

// Whatever happens in whatever order: no address twice, none outside of the network's subnets or,
// unless asked for, its ranges, and none that is somebody else's by rule.
TEST(Ipam, WhateverHappensNoAddressIsGivenTwiceOrWrongly) {
  struct Net {
    std::vector<v1::IpamPool> pools;
    std::set<std::string> reserved;
    std::multiset<std::string> held;
  };
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SeededRng rng(seed);
    Ipam ipam = make();
    std::map<std::string, Net> nets;
    const auto note = [](Net& net, const v1::IpamPool& pool) {
      const Prefix subnet = *Prefix::parse(pool.subnet());
      net.pools.push_back(pool);
      net.reserved.insert({pool.gateway(), subnet.first().str(), subnet.last().str()});
      for (const auto& aux : pool.aux_addresses()) net.reserved.insert(aux.value());
    };
    const auto random_pool = [&] {
      // Of few places and sizes, so that they meet.
      const uint64_t at = rng.below(64) * 16;
      v1::IpamPool pool =
          pool_of(fmt::format("10.{}.{}.{}/{}", 5, at / 256, at % 256, 28 - rng.below(2)));
      const Prefix subnet = *Prefix::parse(pool.subnet());
      const auto address = [&](uint64_t offset) {
        return Ip{false, subnet.base.value + offset}.str();
      };
      if (rng.below(3) == 0) pool.set_ip_range(address(8) + "/29");
      if (rng.below(3) == 0) pool.set_gateway(address(1 + rng.below(12)));
      for (uint64_t i = rng.below(3); i > 0; --i) {
        auto* aux = pool.add_aux_addresses();
        aux->set_key(fmt::format("a{}", i));
        aux->set_value(address(1 + rng.below(14)));
      }
      return pool;
    };
    const auto check = [&](Net& net, const std::string& cidr, bool wanted) {
      const Cidr got = *Cidr::parse(cidr);
      ASSERT_FALSE(net.reserved.contains(got.ip.str())) << cidr << " seed " << seed;
      bool inside = false;
      for (const auto& pool : net.pools) {
        if (!Prefix::parse(pool.subnet())->contains(got.ip)) continue;
        const bool ranged = !wanted && !pool.ip_range().empty();
        inside = Prefix::parse(ranged ? pool.ip_range() : pool.subnet())->contains(got.ip);
        ASSERT_EQ(Prefix::parse(pool.subnet())->length, got.length);
      }
      ASSERT_TRUE(inside) << cidr << " seed " << seed;
      net.held.insert(cidr);
      ASSERT_EQ(net.held.count(cidr), 1u) << cidr << " twice, seed " << seed;
    };
    for (int step = 0; step < 600; ++step) {
      const std::string id = fmt::format("n{}", rng.below(4));
      const bool there = nets.contains(id);
      switch (rng.below(8)) {
        case 0: {
          if (there) break;
          v1::Network n = network(id);
          *n.mutable_spec()->add_pools() = random_pool();
          if (const auto state = ipam.take_network(n)) {
            for (const auto& pool : state->pools()) note(nets[id], pool);
          }
          break;
        }
        case 1: {
          const auto grown = ipam.grow_network(id, {random_pool(), random_pool()});
          ASSERT_TRUE(there || !grown);
          if (!grown) break;
          for (const auto& pool : *grown) note(nets[id], pool);
          break;
        }
        case 2: {
          if (rng.below(12) != 0) break;
          ipam.put_back_network(id);
          nets.erase(id);
          break;
        }
        case 3: {
          if (!there || nets[id].held.empty()) break;
          auto& held = nets[id].held;
          const auto gone = std::next(held.begin(), static_cast<ptrdiff_t>(rng.below(held.size())));
          ASSERT_TRUE(ipam.put_back_address(id, *gone));
          held.erase(gone);
          break;
        }
        case 4: {
          if (!there) break;
          const auto& pools = nets[id].pools;
          const Prefix subnet = *Prefix::parse(pools[rng.below(pools.size())].subnet());
          const std::string wanted = Ip{false, subnet.base.value + rng.below(34)}.str();
          const auto got = ipam.take_addresses(id, {wanted});
          if (got) check(nets[id], (*got)[0], true);
          break;
        }
        default: {
          const auto got =
              rng.below(6) == 0 ? ipam.take_virtual_ip(id) : [&]() -> Result<std::string> {
            auto all = ipam.take_addresses(id);
            if (!all) return fail(all.error());
            return (*all)[0];
          }();
          ASSERT_TRUE(there || !got);
          if (got) check(nets[id], *got, false);
        }
      }
      if (testing::Test::HasFatalFailure()) return;
    }
    // No two networks share an address either.
    std::set<std::string> all;
    for (const auto& [id, net] : nets) {
      for (const auto& cidr : net.held) {
        ASSERT_TRUE(all.insert(Cidr::parse(cidr)->ip.str()).second) << cidr;
      }
    }
  }
}

}  // namespace
}  // namespace muster::overlay
