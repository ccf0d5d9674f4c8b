#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <map>

#include "overlay/dataplane/host/local_ranges.h"
#include "tests/overlay/dataplane/node_network_test.h"

namespace muster::overlay::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class NetworkTest : public NodeNetworkTest {
 protected:
  v1::Network a_ = bridge_network("net-a", "10.50.0.0/24", "10.50.0.1");
};

TEST_F(NetworkTest, AContainerGetsItsInterface) {
  auto r = request("c1", a_, "10.50.0.2/24");
  auto* sysctl = &r.sysctls.emplace_back();
  sysctl->set_key("net.core.somaxconn");
  sysctl->set_value("77");
  const std::string ns = attach(r);
  const std::string addresses = box_.run(ns, "ip -o addr");
  EXPECT_THAT(addresses, HasSubstr("eth0    inet 10.50.0.2/24 brd 10.50.0.255"));
  EXPECT_THAT(addresses, HasSubstr("inet 127.0.0.1/8"));
  EXPECT_THAT(addresses, Not(HasSubstr("fe80")));
  EXPECT_THAT(box_.run(ns, "ip link show eth0"), HasSubstr("02:42:0a:32:00:02"));
  EXPECT_THAT(box_.run(ns, "ip route"), HasSubstr("default via 10.50.0.1 dev eth0"));
  EXPECT_EQ(box_.run(ns, "cat /proc/sys/net/core/somaxconn"), "77");
  EXPECT_EQ(box_.run(ns, "busybox ping -c1 -W2 10.50.0.1 >/dev/null && echo yes"), "yes");
  // Once more changes nothing.
  EXPECT_EQ(attach(r), ns);
  EXPECT_EQ(box_.run(ns, "ip -o addr"), addresses);
}

TEST_F(NetworkTest, NoLinksMeansLoopbackAlone) {
  const std::string ns = attach({"c1", {}, {}, {}});
  EXPECT_EQ(box_.run(ns, "ls /sys/class/net >/dev/null; ip -o link | wc -l"), "1");
  EXPECT_EQ(box_.run(ns, "busybox ping -c1 -W2 127.0.0.1 >/dev/null && echo yes"), "yes");
}

TEST_F(NetworkTest, DetachLeavesNothing) {
  attach(request("c1", a_, "10.50.0.2/24"));
  attach(request("c2", a_, "10.50.0.3/24"));
  ASSERT_TRUE(net_->detach("c1").ok());
  EXPECT_EQ(box_.run("", "ip -o link show type bridge | wc -l"), "1");
  ASSERT_TRUE(net_->detach("c2").ok());
  ASSERT_TRUE(net_->detach("c2").ok());
  EXPECT_EQ(box_.run("", "ip -o link show type bridge | wc -l"), "0");
  EXPECT_EQ(box_.run("",
                     "for i in $(seq 400); do ip -o link show type veth | grep -q ' mv' || "
                     "break; busybox usleep 10000; done; ip -o link | grep -c ' mv'"),
            "0");
  EXPECT_EQ(box_.run("", "ls " + box_.dir() + "/n1/netns | wc -l"), "0");
  EXPECT_THAT(box_.run("", "nft list table inet muster_n1"), Not(HasSubstr("10.50")));
  ASSERT_TRUE(net_->teardown().ok());
  EXPECT_EQ(box_.run("", "nft list tables"), "");
}

TEST_F(NetworkTest, TwoNetworksTheFirstOutwardHoldsTheRoute) {
  const auto internal = bridge_network("net-i", "10.51.0.0/24", "10.51.0.1", true);
  ContainerNetworkRequest r{
      "c1",
      {{internal, {"10.51.0.2/24"}, ""}, {a_, {"10.50.0.2/24"}, "02:00:00:00:00:09"}},
      {},
      {}};
  const std::string ns = attach(r);
  EXPECT_THAT(box_.run(ns, "ip route"), HasSubstr("default via 10.50.0.1 dev eth1"));
  EXPECT_THAT(box_.run(ns, "ip link show eth1"), HasSubstr("02:00:00:00:00:09"));
}

TEST_F(NetworkTest, ABridgeGetsTheSubnetsThatItsNetworkHasGot) {
  for (const bool internal : {false, true}) {
    const int n = internal ? 7 : 6;
    const auto address = [n](int subnet, int host) {
      return fmt::format("10.{}{}.0.{}", n, subnet, host);
    };
    v1::Network network =
        bridge_network(fmt::format("net-{}", n), address(0, 0) + "/24", address(0, 1), internal);
    const std::string old_id = fmt::format("old{}", n);
    const std::string new_id = fmt::format("new{}", n);
    const std::string old_one = attach(request(old_id, network, address(0, 2) + "/24"));
    v1::IpamPool& pool = *network.mutable_state()->add_pools();
    pool.set_subnet(address(1, 0) + "/24");
    pool.set_gateway(address(1, 1));
    const std::string new_one = attach(request(new_id, network, address(1, 2) + "/24"));
    box_.serve(old_one, 8080, "old");
    box_.serve(new_one, 8080, "new");
    EXPECT_EQ(box_.ask(new_one, address(0, 2), 8080), "old") << internal;
    EXPECT_EQ(box_.ask(old_one, address(1, 2), 8080), "new") << internal;
    EXPECT_THAT(box_.run(old_one, "ip route"), HasSubstr(address(1, 0) + "/24 dev eth0"));
    const std::string way = box_.run(new_one, "ip route show default");
    EXPECT_EQ(way.substr(0, way.find(" dev")), internal ? "" : "default via " + address(1, 1));
    box_.serve(box_.outside(), 9000 + n, "outside");
    EXPECT_EQ(box_.ask(new_one, "192.0.2.2", 9000 + n), internal ? "" : "outside");
    // A successor finds both, and what is of an older word takes nothing away.
    net_.reset();
    net_ = box_.make_network();
    ASSERT_NE(net_, nullptr);
    network.mutable_state()->mutable_pools()->RemoveLast();
    attach(request(fmt::format("late{}", n), network, address(0, 3) + "/24"));
    EXPECT_EQ(box_.ask(new_one, address(0, 2), 8080), "old") << internal;
    EXPECT_EQ(box_.ask(new_one, "192.0.2.2", 9000 + n), internal ? "" : "outside");
    for (const std::string& id : {old_id, new_id, fmt::format("late{}", n)}) {
      ASSERT_TRUE(net_->detach(id).ok());
    }
    EXPECT_THAT(box_.run("", "nft list table inet muster_n1"), Not(HasSubstr(address(1, 0))));
  }
}

TEST_F(NetworkTest, WayOutIsMasqueradedAndInternalHasNone) {
  const std::string ns = attach(request("c1", a_, "10.50.0.2/24"));
  const std::string shut = attach(
      request("c2", bridge_network("net-i", "10.51.0.0/24", "10.51.0.1", true), "10.51.0.2/24"));
  box_.start(box_.outside(),
             "exec socat -t20 TCP4-LISTEN:7000,fork,reuseaddr SYSTEM:'echo $SOCAT_PEERADDR'");
  box_.run(box_.outside(),
           "for i in $(seq 200); do ss -Hltn sport = :7000 | grep -q . && exit; "
           "busybox usleep 10000; done");
  EXPECT_EQ(box_.ask(ns, "192.0.2.2", 7000), "192.0.2.1");
  box_.run(shut, "ip route add default via 10.51.0.1");
  EXPECT_EQ(box_.ask(shut, "192.0.2.2", 7000), "");
}

TEST_F(NetworkTest, NetworksDoNotSeeEachOther) {
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  const std::string c2 = attach(request("c2", a_, "10.50.0.3/24"));
  const std::string c3 =
      attach(request("c3", bridge_network("net-b", "10.51.0.0/24", "10.51.0.1"), "10.51.0.2/24"));
  box_.serve(c1, 8080, "one");
  EXPECT_EQ(box_.ask(c2, "10.50.0.2", 8080), "one");
  EXPECT_EQ(box_.ask(c3, "10.50.0.2", 8080), "");
  EXPECT_EQ(box_.ask("", "10.50.0.2", 8080), "one");
  // Nor does the outside reach a container but through a published port.
  box_.run(box_.outside(), "ip route add 10.50.0.0/24 via 192.0.2.1");
  EXPECT_EQ(box_.ask(box_.outside(), "10.50.0.2", 8080), "");
}

TEST_F(NetworkTest, PublishedPortIsReachedFromEverywhereAndSpread) {
  std::vector<std::string> backends;
  std::string first;
  for (int i = 2; i <= 4; ++i) {
    const std::string ip = fmt::format("10.50.0.{}", i);
    const std::string ns = attach(request(fmt::format("c{}", i), a_, ip + "/24"));
    box_.serve(ns, 8080, ip);
    backends.push_back(ip);
    if (first.empty()) first = ns;
  }
  const std::string other =
      attach(request("c9", bridge_network("net-b", "10.51.0.0/24", "10.51.0.1"), "10.51.0.2/24"));
  ASSERT_TRUE(net_->set_published_ports({published(80, 8080, backends)}, nullptr).ok());
  struct From {
    std::string netns;
    const char* address;
  };
  for (const From& from : {From{box_.outside(), "192.0.2.1"}, From{"", "127.0.0.1"},
                           From{"", "192.0.2.1"}, From{"", "10.50.0.1"}, From{first, "192.0.2.1"},
                           From{first, "10.50.0.1"}, From{other, "192.0.2.1"}}) {
    std::map<std::string, int> answers;
    for (int i = 0; i < 6; ++i) ++answers[box_.ask(from.netns, from.address, 80)];
    EXPECT_EQ(answers,
              (std::map<std::string, int>{{"10.50.0.2", 2}, {"10.50.0.3", 2}, {"10.50.0.4", 2}}))
        << from.netns << " to " << from.address;
  }
  ASSERT_TRUE(net_->set_published_ports({}, nullptr).ok());
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "");
}

TEST_F(NetworkTest, LoopbackAddressesFromOutsideAreDropped) {
  attach(request("c1", a_, "10.50.0.2/24"));
  ASSERT_TRUE(net_->set_published_ports({published(80, 8080, {"10.50.0.2"})}, nullptr).ok());
  box_.serve("", 9000, "host-secret");
  box_.run("", "sysctl -qw net.ipv4.conf.up0.route_localnet=1");
  box_.run(box_.outside(),
           "sysctl -qw net.ipv4.conf.all.route_localnet=1; ip route add 127.0.0.9 "
           "via 192.0.2.1; ip rule add pref 0 to 127.0.0.9 lookup main");
  box_.run(box_.outside(), "ip rule del pref 0 lookup local; ip rule add pref 9 lookup local");
  EXPECT_EQ(box_.ask(box_.outside(), "127.0.0.9", 9000), "");
}

TEST_F(NetworkTest, UdpFollowsAReplacedBackend) {
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  const std::string c2 = attach(request("c2", a_, "10.50.0.3/24"));
  for (const auto& [ns, text] : {std::pair{c1, "one"}, std::pair{c2, "two"}}) {
    box_.start(
        ns, fmt::format("exec socat -t20 UDP4-RECVFROM:5353,fork SYSTEM:'read x; echo {}'", text));
    box_.run(ns,
             "for i in $(seq 200); do ss -Hlun sport = :5353 | grep -q . && exit; "
             "busybox usleep 10000; done");
  }
  const auto ask = [&] {
    return box_.run(box_.outside(),
                    "echo hi | timeout 3 socat -T1 - UDP:192.0.2.1:53,sourceport=5555");
  };
  using v1::PortConfig;
  ASSERT_TRUE(
      net_->set_published_ports({published(53, 5353, {"10.50.0.2"}, PortConfig::UDP)}, nullptr)
          .ok());
  std::string answer;
  for (int i = 0; i < 5 && answer.empty(); ++i) answer = ask();
  EXPECT_EQ(answer, "one");
  ASSERT_TRUE(
      net_->set_published_ports({published(53, 5353, {"10.50.0.3"}, PortConfig::UDP)}, nullptr)
          .ok());
  // The same client port: a stale entry would lead it to the first.
  // (Which is cleared in the background.)
  for (int i = 0; i < 5 && answer != "two"; ++i) answer = ask();
  EXPECT_EQ(answer, "two");
}

TEST_F(NetworkTest, ARunningConnectionSurvivesUpdatesUntilItsContainerGoes) {
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  attach(request("c2", a_, "10.50.0.3/24"));
  box_.start(c1, "exec socat TCP4-LISTEN:8080,fork,reuseaddr EXEC:cat");
  box_.run(c1,
           "for i in $(seq 200); do ss -Hltn sport = :8080 | grep -q . && exit; busybox usleep "
           "10000; done");
  ASSERT_TRUE(net_->set_published_ports({published(80, 8080, {"10.50.0.2"})}, nullptr).ok());
  const std::string fifo = box_.dir() + "/fifo";
  const std::string out = box_.dir() + "/out";
  box_.run("", "mkfifo " + fifo);
  box_.start(box_.outside(), fmt::format("exec socat - TCP:192.0.2.1:80 <>{} >{}", fifo, out));
  const auto say = [&](const std::string& word) {
    return box_.run("", fmt::format("echo {0} > {1}; for i in $(seq 2000); do grep -q {0} {2} && "
                                    "echo heard && exit; busybox usleep 10000; done",
                                    word, fifo, out));
  };
  EXPECT_EQ(say("first"), "heard");
  ASSERT_TRUE(net_->set_published_ports({published(80, 8080, {"10.50.0.3"})}, nullptr).ok());
  EXPECT_EQ(say("second"), "heard");
  EXPECT_THAT(box_.run("", "cat /proc/net/nf_conntrack 2>/dev/null || echo ESTABLISHED"),
              HasSubstr("ESTABLISHED"));
  ASSERT_TRUE(net_->detach("c1").ok());
  EXPECT_THAT(box_.run("",
                       "for i in $(seq 100); do grep -qs 'src=10.50.0.2 dst=192.0.2.2' "
                       "/proc/net/nf_conntrack || break; busybox usleep 10000; done; cat "
                       "/proc/net/nf_conntrack 2>/dev/null"),
              Not(HasSubstr("src=10.50.0.2 dst=192.0.2.2")));
}

TEST_F(NetworkTest, APortOfAHostProcessIsReportedAndOthersWork) {
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  box_.serve(c1, 8080, "one");
  box_.start("", "exec socat -t20 TCP4-LISTEN:80,bind=127.0.0.1,fork SYSTEM:'echo host'");
  box_.run("",
           "for i in $(seq 200); do ss -Hltn sport = :80 | grep -q . && exit; busybox usleep "
           "10000; done");
  std::vector<v1::PortConfig> conflicts;
  const Status status = net_->set_published_ports(
      {published(80, 8080, {"10.50.0.2"}), published(81, 8080, {"10.50.0.2"})}, &conflicts);
  EXPECT_EQ(status.code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(status.message(), "port 80/tcp is in use on this node");
  ASSERT_EQ(conflicts.size(), 1u);
  EXPECT_EQ(conflicts[0].published_port(), 80u);
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 81), "one");
  EXPECT_EQ(box_.ask("", "127.0.0.1", 80), "host");
  // And a process that comes later is told.
  EXPECT_THAT(box_.run("", "socat -u TCP4-LISTEN:81,reuseaddr - 2>&1"), HasSubstr("in use"));
}

TEST_F(NetworkTest, ReservedHostPortsAreDistinctAndPublishable) {
  const auto p1 = net_->reserve_host_port(v1::PortConfig::TCP);
  const auto p2 = net_->reserve_host_port(v1::PortConfig::TCP);
  ASSERT_TRUE(p1 && p2);
  EXPECT_NE(*p1, *p2);
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  box_.serve(c1, 8080, "one");
  ASSERT_TRUE(net_->set_published_ports({published(*p1, 8080, {"10.50.0.2"})}, nullptr).ok());
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", static_cast<int>(*p1)), "one");
}

TEST_F(NetworkTest, RestartKeepsEverythingAndGoesOn) {
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  const std::string c2 = attach(request("c2", a_, "10.50.0.3/24"));
  box_.serve(c1, 8080, "one");
  box_.serve(c2, 8080, "two");
  ASSERT_TRUE(net_->set_published_ports({published(80, 8080, {"10.50.0.2"})}, nullptr).ok());
  net_.reset();
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "one");
  net_ = box_.make_network();
  ASSERT_NE(net_, nullptr) << box_.error();
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "one");
  EXPECT_EQ(attach(request("c1", a_, "10.50.0.2/24")), c1);
  ASSERT_TRUE(net_->set_published_ports({published(80, 8080, {"10.50.0.3"})}, nullptr).ok());
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "two");
  ASSERT_TRUE(net_->detach("c1").ok());
  ASSERT_TRUE(net_->detach("c2").ok());
  EXPECT_EQ(box_.run("", "ip -o link show type bridge | wc -l"), "0");
}

TEST_F(NetworkTest, FlushedRulesComeBack) {
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  box_.serve(c1, 8080, "one");
  ASSERT_TRUE(net_->set_published_ports({published(80, 8080, {"10.50.0.2"})}, nullptr).ok());
  box_.run("", "nft flush ruleset");
  const Status again = net_->set_published_ports(
      {published(80, 8080, {"10.50.0.2"}), published(81, 8080, {"10.50.0.2"})}, nullptr);
  ASSERT_TRUE(again.ok()) << again.message();
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "one");
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 81), "one");
}

TEST_F(NetworkTest, GarbageOfTheDeadGoesTheLivingStay) {
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  attach(request("c2", bridge_network("net-b", "10.51.0.0/24", "10.51.0.1"), "10.51.0.2/24"));
  box_.run("", "touch " + box_.dir() + "/n1/netns/half-made");
  net_.reset();
  net_ = box_.make_network();
  ASSERT_TRUE(net_->collect_garbage({"c1"}).ok());
  EXPECT_EQ(box_.run("", "ls " + box_.dir() + "/n1/netns"), "c1");
  EXPECT_EQ(box_.run("", "ip -o link show type bridge | wc -l"), "1");
  EXPECT_EQ(box_.run(c1, "busybox ping -c1 -W2 10.50.0.1 >/dev/null && echo yes"), "yes");
}

TEST_F(NetworkTest, TwoInstancesNeverMeet) {
  auto second = box_.make_network("n2");
  ASSERT_NE(second, nullptr) << box_.error();
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  auto b = bridge_network("net-a", "10.60.0.0/24", "10.60.0.1");
  const auto c2 = second->attach(request("c1", b, "10.60.0.2/24"));
  ASSERT_TRUE(c2) << c2.error().message();
  EXPECT_NE(c1, *c2);
  box_.serve(c1, 8080, "one");
  box_.serve(*c2, 8080, "two");
  ASSERT_TRUE(net_->set_published_ports({published(80, 8080, {"10.50.0.2"})}, nullptr).ok());
  std::vector<v1::PortConfig> conflicts;
  EXPECT_FALSE(
      second
          ->set_published_ports(
              {published(80, 8080, {"10.60.0.2"}), published(90, 8080, {"10.60.0.2"})}, &conflicts)
          .ok());
  EXPECT_EQ(conflicts.size(), 1u);
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "one");
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 90), "two");
  ASSERT_TRUE(second->teardown().ok());
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "one");
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 90), "");
}

TEST_F(NetworkTest, DualStack) {
  auto n = bridge_network("net-6", "10.50.0.0/24", "10.50.0.1");
  auto* pool = n.mutable_state()->add_pools();
  pool->set_subnet("fd50::/64");
  pool->set_gateway("fd50::1");
  ContainerNetworkRequest r{"c1", {{n, {"10.50.0.2/24", "fd50::2/64"}, ""}}, {}, {}};
  const std::string ns = attach(r);
  box_.serve(ns, 8080, "six");
  box_.run("", "ip addr add 2001:db8::1/64 dev up0 nodad");
  box_.run(box_.outside(), "ip addr add 2001:db8::2/64 dev eth0 nodad");
  ASSERT_TRUE(
      net_->set_published_ports({published(80, 8080, {"10.50.0.2", "fd50::2"})}, nullptr).ok());
  EXPECT_EQ(box_.ask(box_.outside(), "2001:db8::1", 80), "six");
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "six");
  EXPECT_THAT(box_.run(ns, "ip -6 route"), HasSubstr("default via fd50::1"));
}

TEST_F(NetworkTest, ErrorsSayWhat) {
  auto no_address = request("c1", a_, "10.50.0.2/24");
  no_address.links[0].addresses.clear();
  EXPECT_THAT(net_->attach(no_address).error().message(),
              HasSubstr("no address was given out in network net-a"));
  auto bad = request("c1", a_, "10.50.0.2/24");
  bad.sysctls.emplace_back().set_key("kernel.panic");
  EXPECT_THAT(net_->attach(bad).error().message(),
              HasSubstr("sysctl kernel.panic is not of the network"));
  EXPECT_THAT(net_->attach(request("../x", a_, "10.50.0.2/24")).error().message(),
              HasSubstr("is not a container id"));
  auto mtu = bridge_network("net-m", "10.50.0.0/24", "10.50.0.1");
  auto* option = mtu.mutable_spec()->add_driver_options();
  option->set_key("com.docker.network.driver.mtu");
  option->set_value("12");
  EXPECT_THAT(net_->attach(request("c1", mtu, "10.50.0.2/24")).error().message(),
              HasSubstr("MTU \"12\" is not a number"));
  EXPECT_EQ(box_.run("", "ls " + box_.dir() + "/n1/netns | wc -l"), "0");
  EXPECT_EQ(box_.run("", "ip -o link show type bridge | wc -l"), "0");
}

TEST_F(NetworkTest, WhatTheHostReachesByItself) {
  attach(request("c1", a_, "10.50.0.2/24"));
  box_.run(
      "",
      "ip route add 10.60.0.0/16 via 192.0.2.2 && ip route add 10.60.7.0/24 via 192.0.2.2 && "
      "ip route add 10.70.0.0/16 via 192.0.2.2 table 77 && ip route add default via 192.0.2.2 && "
      "ip route add blackhole 10.80.0.0/16 && ip -6 route add fd77::/48 dev lo && "
      // Addresses that no route but the kernel's own leads to: keepalived's, a cloud's, one within
      // a range that is known anyhow, and what is every host's.
      "ip addr add 10.95.0.1/32 dev lo && ip addr add 10.96.0.1/32 dev up0 && "
      "ip addr add 10.60.1.1/32 dev lo && ip addr add 127.0.0.2/8 dev lo && "
      "ip -6 addr add fd78::1/128 dev lo && ip -6 addr add fe80::77/64 dev lo");
  const auto ranges = local_ranges("n1", {*Ip::parse("10.90.0.53"), *Ip::parse("127.0.0.53")});
  ASSERT_TRUE(ranges) << ranges.error().message();
  std::vector<std::string> texts;
  for (const Prefix& range : ranges->all()) texts.push_back(range.str());
  EXPECT_THAT(texts, ElementsAre("10.60.0.0/16", "10.70.0.0/16", "10.90.0.53/32", "10.95.0.1/32",
                                 "10.96.0.1/32", "192.0.2.0/24", "fd77::/48", "fd78::1/128"));
  // Another instance's networks are somebody else's.
  const auto others = local_ranges("n2", {});
  ASSERT_TRUE(others) << others.error().message();
  EXPECT_NE(others->overlap(*Prefix::parse("10.50.0.0/24")), nullptr);
}

TEST_F(NetworkTest, Figures) {
  constexpr int kContainers = 60;
  using Clock = std::chrono::steady_clock;
  const auto us = [](Clock::duration d) {
    return std::chrono::duration_cast<std::chrono::microseconds>(d).count();
  };
  std::vector<std::string> backends;
  const auto start = Clock::now();
  for (int i = 0; i < kContainers; ++i) {
    backends.push_back(fmt::format("10.50.0.{}", i + 2));
    attach(request(fmt::format("c{}", i), a_, backends.back() + "/24"));
  }
  const auto attached = Clock::now();
  std::vector<std::string> twenty(backends.begin(), backends.begin() + 20);
  ASSERT_TRUE(net_->set_published_ports({published(80, 8080, twenty)}, nullptr).ok());
  const auto set = Clock::now();
  constexpr int kUpdates = 20;
  for (int i = 0; i < kUpdates; ++i) {
    twenty[static_cast<size_t>(i)] = backends[static_cast<size_t>(i) + 30];
    ASSERT_TRUE(net_->set_published_ports({published(80, 8080, twenty)}, nullptr).ok());
  }
  const auto updated = Clock::now();
  for (int i = 0; i < kContainers; ++i) ASSERT_TRUE(net_->detach(fmt::format("c{}", i)).ok());
  const auto detached = Clock::now();
  std::printf(
      "attach %ld us, first publish of 20 backends %ld us, one replaced %ld us, detach %ld "
      "us each\n",
      us(attached - start) / kContainers, us(set - attached), us(updated - set) / kUpdates,
      us(detached - updated) / kContainers);
  RecordProperty("attach_us", static_cast<int>(us(attached - start) / kContainers));
}

}  // namespace
}  // namespace muster::overlay::testing
