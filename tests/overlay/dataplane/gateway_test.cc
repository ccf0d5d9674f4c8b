#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>

#include <chrono>
#include <cstdio>
#include <map>

#include "overlay/dataplane/host/local_ranges.h"
#include "overlay/dataplane/kernel/names.h"
#include "overlay/dataplane/vip/client_listing.h"
#include "overlay/dataplane/vip/client_wire.h"
#include "tests/overlay/dataplane/node_network_test.h"

namespace muster::overlay::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Containers of overlay networks on one node: in their networks' namespaces, with a way to the
// node.
class GatewayTest : public NodeNetworkTest {
 protected:
  // Until a shell command prints nothing, four seconds at most; what it prints then.
  std::string await_nothing(const std::string& command) {
    return box_.run("", fmt::format("for i in $(seq 400); do o=$({0}); test -z \"$o\" && exit; "
                                    "busybox usleep 10000; done; {0}",
                                    command));
  }
  std::string ping(const std::string& from, const std::string& to, int seconds = 1) {
    return box_.run(
        from, fmt::format("busybox ping -c1 -W{} {} >/dev/null 2>&1 && echo yes", seconds, to));
  }
  void serve_peer(const std::string& netns, int port) {
    box_.start(netns, fmt::format("exec socat -t20 TCP4-LISTEN:{},fork,reuseaddr,backlog=64 "
                                  "SYSTEM:'echo $SOCAT_PEERADDR'",
                                  port));
    box_.run(netns, fmt::format("for i in $(seq 200); do ss -Hltn sport = :{} | grep -q . && exit; "
                                "busybox usleep 10000; done",
                                port));
  }

  // A port of this node that leads to port 8080 of these; containers by address.
  Status publish(const std::map<std::string, std::string>& containers, uint32_t port = 80) {
    std::vector<std::string> backends;
    for (const auto& [address, container] : containers) backends.push_back(address);
    PublishedPort shown = published(port, 8080, backends);
    shown.containers = containers;
    return net_->set_published_ports({shown}, nullptr);
  }

  v1::Network a_ = overlay_network("net-a", "10.50.0.0/24", "10.50.0.1");
  v1::Network b_ = overlay_network("net-b", "10.51.0.0/24", "10.51.0.1");
};

TEST_F(GatewayTest, AContainerLeadsOutByItsNode) {
  const auto r = request("c1", a_, "10.50.0.2/24");
  const std::string ns = attach(r);
  const std::string addresses = box_.run(ns, "ip -o addr");
  EXPECT_THAT(addresses, HasSubstr("eth0    inet 10.50.0.2/24 brd 10.50.0.255"));
  EXPECT_THAT(addresses, HasSubstr("eth1    inet 172.18.0.2/32"));
  EXPECT_THAT(box_.run(ns, "ip route"), HasSubstr("172.18.0.1 dev eth1"));
  EXPECT_THAT(addresses, Not(HasSubstr("fe80")));
  EXPECT_THAT(box_.run(ns, "ip link show eth0"), HasSubstr("mtu 1450"));
  EXPECT_THAT(box_.run(ns, "ip link show eth1"), HasSubstr("mtu 1500"));
  EXPECT_THAT(box_.run(ns, "ip route"), HasSubstr("default via 172.18.0.1 dev eth1"));
  serve_peer(box_.outside(), 7000);
  EXPECT_EQ(box_.ask(ns, "192.0.2.2", 7000), "192.0.2.1");
  // The overlay network is nothing that the host knows of.
  EXPECT_EQ(box_.run("", "ip -o route get 10.50.0.2 2>/dev/null | grep -c mb"), "0");
  EXPECT_EQ(box_.run("", "ip -o link show type bridge | wc -l"), "1");
  EXPECT_EQ(box_.run("", "ls " + box_.dir() + "/n1/netns"), "c1\nnet-net-a");
  // Once more changes nothing.
  EXPECT_EQ(attach(r), ns);
  EXPECT_EQ(box_.run(ns, "ip -o addr"), addresses);
}

TEST_F(GatewayTest, ContainersMeetInTheirNetworksAlone) {
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  const std::string c2 = attach(request("c2", a_, "10.50.0.3/24"));
  const std::string c3 = attach(request("c3", b_, "10.51.0.2/24"));
  box_.serve(c2, 8080, "two");
  EXPECT_EQ(box_.ask(c1, "10.50.0.3", 8080), "two");
  EXPECT_EQ(box_.ask(c3, "10.50.0.3", 8080), "");
  // Not by the addresses that only the node knows, whatever they try.
  EXPECT_EQ(box_.ask("", "172.18.0.3", 8080), "two");
  for (const std::string& from : {c1, c3}) {
    EXPECT_EQ(box_.ask(from, "172.18.0.3", 8080), "") << from;
  }
  box_.run(c1, "ip route add 10.51.0.0/24 dev eth1; ip route add 172.18.0.3 dev eth1 scope link");
  EXPECT_EQ(box_.ask(c1, "172.18.0.3", 8080), "");
  EXPECT_EQ(ping(c1, "10.51.0.2"), "");
  box_.run(box_.outside(), "ip route add 172.18.0.0/20 via 192.0.2.1");
  EXPECT_EQ(box_.ask(box_.outside(), "172.18.0.3", 8080), "");
}

TEST_F(GatewayTest, NobodySendsWithAnAddressThatIsNotHis) {
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  attach(request("c2", a_, "10.50.0.3/24"));
  box_.start(box_.outside(),
             "exec socat -u UDP4-RECVFROM:7001,fork OPEN:" + box_.dir() + "/got,creat,append");
  box_.run(box_.outside(),
           "for i in $(seq 200); do ss -Hlun sport = :7001 | grep -q . && exit; "
           "busybox usleep 10000; done");
  box_.run(c1, "ip addr add 172.18.0.3/32 dev eth1");
  for (const char* source : {"172.18.0.3", "10.50.0.2", "172.18.0.2"}) {
    box_.run(c1, fmt::format("echo {0} | socat -u - UDP4:192.0.2.2:7001,bind={0}", source));
  }
  EXPECT_EQ(box_.run("", fmt::format("for i in $(seq 200); do test -s {0}/got && break; busybox "
                                     "usleep 10000; done; cat {0}/got",
                                     box_.dir())),
            "172.18.0.2");
}

TEST_F(GatewayTest, PublishedPortsLeadToContainersOfOverlays) {
  std::map<std::string, std::string> backends;
  std::string first;
  for (int i = 2; i <= 4; ++i) {
    const std::string ip = fmt::format("10.50.0.{}", i);
    const std::string ns = attach(request(fmt::format("c{}", i), a_, ip + "/24"));
    box_.serve(ns, 8080, ip);
    backends[ip] = fmt::format("c{}", i);
    if (first.empty()) first = ns;
  }
  const std::string other = attach(request("c9", b_, "10.51.0.2/24"));
  const std::string bridged =
      attach(request("c8", bridge_network("net-c", "10.52.0.0/24", "10.52.0.1"), "10.52.0.2/24"));
  ASSERT_TRUE(publish(backends).ok());
  struct From {
    std::string netns;
    const char* address;
  };
  for (const From& from :
       {From{box_.outside(), "192.0.2.1"}, From{"", "127.0.0.1"}, From{"", "192.0.2.1"},
        From{"", "172.18.0.1"}, From{first, "192.0.2.1"}, From{first, "172.18.0.1"},
        From{other, "192.0.2.1"}, From{other, "172.18.0.1"}, From{bridged, "192.0.2.1"}}) {
    std::map<std::string, int> answers;
    for (int i = 0; i < 6; ++i) ++answers[box_.ask(from.netns, from.address, 80)];
    EXPECT_EQ(answers,
              (std::map<std::string, int>{{"10.50.0.2", 2}, {"10.50.0.3", 2}, {"10.50.0.4", 2}}))
        << from.netns << " to " << from.address;
  }
  ASSERT_TRUE(net_->detach("c2").ok());
  ASSERT_TRUE(publish({{"10.50.0.4", "c4"}}).ok());
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "10.50.0.4");
}

// As with virtual addresses in the container, and on hosts that are real servers of a balancer.
TEST_F(GatewayTest, EachEndAnswersTheOtherThoughItAnswersForItsOwnAddressesOnly) {
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  for (const std::string& ns : {c1, std::string()}) {
    box_.run(ns, "sysctl -qw net.ipv4.conf.all.arp_ignore=1 && ip neigh flush all");
  }
  box_.serve(c1, 8080, "one");
  ASSERT_TRUE(publish({{"10.50.0.2", "c1"}}).ok());
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "one");
  box_.run("", "ip neigh flush all");
  box_.run(c1, "ip neigh flush all");
  serve_peer(box_.outside(), 7000);
  EXPECT_EQ(box_.ask(c1, "192.0.2.2", 7000), "192.0.2.1");
}

TEST_F(GatewayTest, TheClientsAddressIsSeen) {
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  const std::string bridged =
      attach(request("c2", bridge_network("net-c", "10.52.0.0/24", "10.52.0.1"), "10.52.0.2/24"));
  serve_peer(c1, 8080);
  ASSERT_TRUE(publish({{"10.50.0.2", "c1"}}).ok());
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "192.0.2.2");
  EXPECT_EQ(box_.ask(bridged, "192.0.2.1", 80), "10.52.0.2");
}

TEST_F(GatewayTest, AnInternalContainerIsReachedByPortsButGetsNowhere) {
  const auto shut = overlay_network("net-i", "10.53.0.0/24", "10.53.0.1", true);
  const std::string plain = attach(request("c1", shut, "10.53.0.2/24"));
  EXPECT_EQ(box_.run(plain, "ip -o link | wc -l"), "2");
  auto r = request("c2", shut, "10.53.0.3/24");
  r.host_ports = true;
  const std::string ported = attach(r);
  EXPECT_EQ(box_.run(ported, "ip route show default"), "");
  box_.serve(ported, 8080, "shut");
  ASSERT_TRUE(publish({{"10.53.0.3", "c2"}}).ok());
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "shut");
  EXPECT_EQ(box_.ask("", "127.0.0.1", 80), "shut");
  serve_peer(box_.outside(), 7000);
  EXPECT_EQ(box_.ask(ported, "192.0.2.2", 7000), "");
  box_.run(ported, "ip route add default via 172.18.0.1");
  EXPECT_EQ(box_.ask(ported, "192.0.2.2", 7000), "");
}

TEST_F(GatewayTest, ARestartFindsTheWaysAgain) {
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  box_.serve(c1, 8080, "one");
  ASSERT_TRUE(publish({{"10.50.0.2", "c1"}}).ok());
  net_.reset();
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "one");
  net_ = box_.make_network();
  ASSERT_NE(net_, nullptr) << box_.error();
  ASSERT_TRUE(net_->collect_garbage({"c1"}).ok());
  // Though nobody attaches it again.
  ASSERT_TRUE(publish({{"10.50.0.2", "c1"}}, 81).ok());
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 81), "one");
  const std::string c2 = attach(request("c2", a_, "10.50.0.3/24"));
  EXPECT_THAT(box_.run(c2, "ip -o addr"), HasSubstr("172.18.0.3/32"));
  EXPECT_EQ(ping(c2, "10.50.0.2"), "yes");
}

// A network that was made anew with the same subnet while a container is not yet out of the former.
TEST_F(GatewayTest, OfTwoContainersWithOneAddressAPortLeadsToItsOwn) {
  const auto anew = overlay_network("net-n", "10.50.0.0/24", "10.50.0.1");
  box_.serve(attach(request("c1", a_, "10.50.0.2/24")), 8080, "former");
  box_.serve(attach(request("c2", anew, "10.50.0.2/24")), 8080, "new");
  const auto answers = [&] {
    std::string out;
    for (const char* container : {"c1", "c2", "c1"}) {
      EXPECT_TRUE(publish({{"10.50.0.2", container}}).ok());
      out += box_.ask(box_.outside(), "192.0.2.1", 80) + " ";
    }
    return out;
  };
  EXPECT_EQ(answers(), "former new former ");
  net_.reset();
  net_ = box_.make_network();
  EXPECT_EQ(answers(), "former new former ");
  ASSERT_TRUE(net_->detach("c1").ok());
  ASSERT_TRUE(publish({{"10.50.0.2", "c2"}}).ok());
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "new");
  // One of another node that has the address, too, is not here.
  ASSERT_TRUE(net_->set_published_ports({published(80, 8080, {"10.50.0.2"})}, nullptr).ok());
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "");
}

TEST_F(GatewayTest, NothingIsLeft) {
  attach(request("c1", a_, "10.50.0.2/24"));
  attach(request("c2", b_, "10.51.0.2/24"));
  ASSERT_TRUE(net_->detach("c1").ok());
  EXPECT_EQ(box_.run("", "ls " + box_.dir() + "/n1/netns"), "c2\nnet-net-b");
  ASSERT_TRUE(net_->detach("c2").ok());
  EXPECT_EQ(box_.run("", "ls " + box_.dir() + "/n1/netns"), "");
  EXPECT_EQ(await_nothing("ip -o link | grep -v ' lo:\\| up0'"), "");
  EXPECT_EQ(await_nothing("ip route | grep 172; ip -6 route | grep fd"), "");
  EXPECT_EQ(await_nothing("nft list table inet muster_n1 | grep 172.18"), "");
  // And again from nothing.
  attach(request("c1", a_, "10.50.0.2/24"));
  ASSERT_TRUE(net_->teardown().ok());
  EXPECT_EQ(
      box_.run("", "ip -o link | grep -v ' lo:\\| up0'; nft list tables; ls " + box_.dir() + "/n1"),
      "");
}

TEST_F(GatewayTest, GarbageOfTheDeadGoesTheLivingStay) {
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  attach(request("c2", b_, "10.51.0.2/24"));
  net_.reset();
  net_ = box_.make_network();
  ASSERT_TRUE(net_->collect_garbage({"c1"}).ok());
  EXPECT_EQ(box_.run("", "ls " + box_.dir() + "/n1/netns"), "c1\nnet-net-a");
  EXPECT_EQ(box_.run("", "ip -o link | grep -c ' mg'"), "2");
  EXPECT_EQ(ping(c1, "192.0.2.2"), "yes");
  ASSERT_TRUE(net_->collect_garbage({}).ok());
  EXPECT_EQ(box_.run("", "ip -o link | grep -c ' mg'"), "0");
  EXPECT_EQ(box_.run("", "ls " + box_.dir() + "/n1/netns"), "");
}

TEST_F(GatewayTest, SubnetsKeepAwayFromRoutesNetworksAndOtherNodes) {
  box_.run("", "ip route add 172.18.0.0/15 via 192.0.2.2");
  const auto told = overlay_network("net-t", "172.20.0.0/20", "172.20.0.1");
  NetworkStep step{"net-t", true, {}};
  *step.feed.mutable_network() = told;
  ASSERT_TRUE(net_->apply(step).ok());
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  EXPECT_THAT(box_.run(c1, "ip route"), HasSubstr("default via 172.20.16.1"));
  // Another node in this namespace.
  auto second = box_.make_network("n2");
  ASSERT_NE(second, nullptr) << box_.error();
  const auto c2 = second->attach(request("c1", a_, "10.50.0.9/24"));
  ASSERT_TRUE(c2) << c2.error().message();
  EXPECT_THAT(box_.run(*c2, "ip route"), HasSubstr("default via 172.20.0.1"));
  EXPECT_EQ(ping(*c2, "192.0.2.2"), "yes");
  // Same network, but on nodes that nobody has told of each other.
  EXPECT_EQ(ping(*c2, "10.50.0.2"), "");
  // A network that came later: who enters it gets an address elsewhere.
  const std::string c3 = attach(
      request("c3", overlay_network("net-l", "172.20.16.0/24", "172.20.16.1"), "172.20.16.2/24"));
  EXPECT_THAT(box_.run(c3, "ip route"), HasSubstr("default via 172.20.32.1"));
  EXPECT_EQ(ping(c3, "192.0.2.2"), "yes");
  EXPECT_EQ(ping(c1, "192.0.2.2"), "yes");
  ASSERT_TRUE(second->teardown().ok());
  EXPECT_EQ(ping(c1, "192.0.2.2"), "yes");
  const auto ranges = local_ranges("n1", {});
  ASSERT_TRUE(ranges);
  EXPECT_EQ(ranges->overlap(*Prefix::parse("172.20.0.0/14")), nullptr);
}

TEST_F(GatewayTest, DualStack) {
  auto* pool = a_.mutable_state()->add_pools();
  pool->set_subnet("fd50::/64");
  pool->set_gateway("fd50::1");
  ContainerNetworkRequest r{"c1", {{a_, {"10.50.0.2/24", "fd50::2/64"}, ""}}, {}, {}};
  const std::string ns = attach(r);
  box_.serve(ns, 8080, "six");
  box_.run("", "ip addr add 2001:db8::1/64 dev up0 nodad");
  box_.run(box_.outside(), "ip addr add 2001:db8::2/64 dev eth0 nodad");
  box_.serve(box_.outside(), 7000, "out");
  // Before the container itself has said anything by which it would be known.
  ASSERT_TRUE(publish({{"10.50.0.2", "c1"}, {"fd50::2", "c1"}}).ok());
  EXPECT_EQ(box_.ask(box_.outside(), "2001:db8::1", 80), "six");
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "six");
  EXPECT_EQ(box_.ask(ns, "2001:db8::2", 7000), "out");
}

TEST_F(GatewayTest, WithoutIPv6OnTheHostAPortOfTheHostLeadsByIPv4Alone) {
  auto* pool = a_.mutable_state()->add_pools();
  pool->set_subnet("fd50::/64");
  pool->set_gateway("fd50::1");
  box_.run("", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
  ContainerNetworkRequest r{"c1", {{a_, {"10.50.0.2/24", "fd50::2/64"}, ""}}, {}, {}};
  box_.serve(attach(r), 8080, "four");
  ASSERT_TRUE(publish({{"10.50.0.2", "c1"}, {"fd50::2", "c1"}}).ok());
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "four");
  EXPECT_EQ(box_.run("", "ss -Hlnt6 sport = :80"), "") << "nothing is led there";
  PublishedPort six = published(81, 8080, {"10.50.0.2", "fd50::2"});
  six.containers = {{"10.50.0.2", "c1"}, {"fd50::2", "c1"}};
  six.port.set_mode(v1::PortConfig::HOST);
  six.port.set_bind("2001:db8::1");
  ASSERT_TRUE(net_->set_published_ports({six}, nullptr).ok());
  EXPECT_THAT(net_->limitations(), ::testing::Contains(HasSubstr("no address of IPv6")));
}

// The rules are told of a subnet when its route is there already: it goes again when they are gone.
TEST_F(GatewayTest, ASubnetThatTheRulesDoNotTakeIsGivenUp) {
  attach(request("c1", a_, "10.50.0.2/24"));
  EXPECT_EQ(box_.run("", "ip route | grep -c '^172.*/20'"), "1");
  box_.run("", "nft delete table inet muster_n1");
  attach(request("c2", overlay_network("net-c", "172.18.0.0/24", "172.18.0.1"), "172.18.0.2/24"));
  EXPECT_EQ(box_.run("", "ip route | grep -c '^172.*/20'"), "2");
}

TEST_F(GatewayTest, WhatAFormerVersionHadInABridgeIsMadeAnew) {
  const auto old = bridge_network("net-a", "10.50.0.0/24", "10.50.0.1");
  attach(request("c1", old, "10.50.0.2/24"));
  const std::string running = attach(request("c2", old, "10.50.0.3/24"));
  net_.reset();
  net_ = box_.make_network();
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  EXPECT_THAT(box_.run(c1, "ip route"), HasSubstr("default via 172.18.0.1 dev eth1"));
  EXPECT_EQ(ping(c1, "192.0.2.2"), "yes");
  // One that runs stays as it is until it ends.
  EXPECT_EQ(ping(running, "192.0.2.2"), "yes");
  box_.serve(running, 8080, "old");
  ASSERT_TRUE(publish({{"10.50.0.3", "c2"}}).ok());
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "old");
  ASSERT_TRUE(net_->detach("c2").ok());
  EXPECT_EQ(await_nothing("ip -o link | grep ' mb'"), "");
}

TEST_F(GatewayTest, WhatIsMissingIsRepaired) {
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  box_.serve(c1, 8080, "one");
  ASSERT_TRUE(publish({{"10.50.0.2", "c1"}}).ok());
  EXPECT_THAT(net_->repair(), ::testing::IsEmpty());
  const Names names("n1");
  box_.run("", fmt::format("ip link del {}; ip addr flush dev {}; nft flush ruleset",
                           names.gateway_bridge(), names.way_out("c1")));
  EXPECT_EQ(ping(c1, "192.0.2.2"), "");
  EXPECT_THAT(net_->repair(),
              ::testing::UnorderedElementsAre(
                  HasSubstr("was gone"), HasSubstr("the route to 172.18.0.0/20 was gone"),
                  HasSubstr("(172.18.0.2) had lost its address"),
                  HasSubstr("the network rules of this node were gone")));
  // The neighbour may have been asked for in vain a moment ago.
  EXPECT_EQ(ping(c1, "192.0.2.2", 5), "yes");
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "one");
  EXPECT_THAT(net_->repair(), ::testing::IsEmpty());
}

TEST_F(GatewayTest, RoutesOfIpv6AreRepaired) {
  auto* pool = a_.mutable_state()->add_pools();
  pool->set_subnet("fd50::/64");
  pool->set_gateway("fd50::1");
  const std::string ns = attach({"c1", {{a_, {"10.50.0.2/24", "fd50::2/64"}, ""}}, {}, {}});
  EXPECT_THAT(net_->repair(), ::testing::IsEmpty());
  const Names names("n1");
  const auto route = [&](const std::string& device, const char* which) {
    return box_.run("", fmt::format("ip -6 route show dev {} | grep -v '^fe80' | cut -d' ' -f1 | "
                                    "grep {} | sort -u",
                                    device, which));
  };
  const std::string subnet = route(names.gateway_bridge(), "/64");
  ASSERT_NE(subnet, "");
  box_.run("", fmt::format("ip -6 route del {} dev {}", subnet, names.gateway_bridge()));
  EXPECT_THAT(net_->repair(),
              ::testing::ElementsAre(fmt::format("the route to {} was gone", subnet)));
  EXPECT_EQ(route(names.gateway_bridge(), "/64"), subnet);
  const std::string way = names.way_out("c1");
  const std::string peer = route(way, "-v '::1$'");
  ASSERT_NE(peer, "");
  box_.run("", fmt::format("ip -6 route flush {} dev {}", peer, way));
  EXPECT_THAT(net_->repair(),
              ::testing::ElementsAre("the way out of a container (172.18.0.2) had lost its route"));
  EXPECT_EQ(route(way, "-v '::1$'"), peer);
  EXPECT_THAT(net_->repair(), ::testing::IsEmpty());
}

TEST_F(GatewayTest, RulesThatSomebodyElseChangedAreMended) {
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  box_.serve(c1, 8080, "one");
  ASSERT_TRUE(publish({{"10.50.0.2", "c1"}}).ok());
  EXPECT_THAT(net_->repair(), ::testing::IsEmpty());
  const std::string table = "inet " + Names("n1").table();
  // The chain that the port is led to now is the first one that the table's listing names.
  const std::string chain =
      fmt::format("$(nft list table {} | grep -o 'c_tcp_80_[0-9]*' | head -1)", table);
  const char* kRules = "the network rules of this node were changed";
  const char* kPorts = "the rules of 1 published ports were changed";
  const std::pair<std::string, const char*> cases[] = {
      {fmt::format("nft flush chain {} forward", table), kRules},
      {fmt::format("nft insert rule {} prerouting accept", table), kRules},
      {fmt::format("nft add chain {} mine", table), kRules},
      {fmt::format("nft flush map {} ports", table), kPorts},
      {fmt::format("nft flush chain {} {}", table, chain), kPorts},
      {fmt::format("nft insert rule {} {} drop", table, chain), kPorts},
      {fmt::format("nft flush map {} $(echo {} | sed s/^c_/m4_/)", table, chain), kPorts},
      {fmt::format("nft flush set {} bridges", table),
       "1 elements of this node's network rules were not as told"},
      {fmt::format("nft add element {} internal '{{ \"{}\" }}'", table,
                   Names("n1").gateway_bridge()),
       "1 elements of this node's network rules were not as told"},
  };
  auto socket = WireSocket::open(NETLINK_NETFILTER);
  ASSERT_TRUE(socket) << socket.error().message();
  for (const auto& [command, said] : cases) {
    EXPECT_EQ(box_.run("", command + " 2>&1"), "") << command;
    const uint32_t generation = nft_generation(*socket).value_or(0);
    EXPECT_THAT(net_->repair(), ::testing::ElementsAre(said)) << command;
    if (said == kRules) {
      // The table with all that it leads, and what tells that it is so: no packet meets less.
      EXPECT_EQ(nft_generation(*socket).value_or(0), generation + 2) << command;
    }
    EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "one") << command;
    EXPECT_EQ(ping(c1, "192.0.2.2", 5), "yes") << command;
    EXPECT_THAT(net_->repair(), ::testing::IsEmpty()) << command;
  }
  // Another process makes it anew with what it leads, though nobody has told it of anything yet.
  net_.reset();
  box_.run("", fmt::format("nft flush chain {} forward", table));
  net_ = box_.make_network();
  EXPECT_EQ(box_.ask(box_.outside(), "192.0.2.1", 80), "one");
  EXPECT_EQ(ping(c1, "192.0.2.2", 5), "yes");
  // The next one knows the table again, and that it is as it should be.
  net_.reset();
  net_ = box_.make_network();
  attach(request("c1", a_, "10.50.0.2/24"));
  ASSERT_TRUE(publish({{"10.50.0.2", "c1"}}).ok());
  EXPECT_THAT(net_->repair(), ::testing::IsEmpty());
}

TEST_F(GatewayTest, AHostThatNoLongerForwardsDoesSoAgain) {
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  EXPECT_THAT(net_->repair(), ::testing::IsEmpty());
  box_.run("", "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0");
  EXPECT_EQ(ping(c1, "192.0.2.2"), "");
  EXPECT_THAT(net_->repair(), ::testing::ElementsAre("the host no longer forwarded IPv4",
                                                     "the host no longer forwarded IPv6"));
  EXPECT_EQ(ping(c1, "192.0.2.2"), "yes");
  EXPECT_THAT(net_->repair(), ::testing::IsEmpty());
  // With a network of driver bridge alone.
  ASSERT_TRUE(net_->detach("c1").ok());
  attach(request("c2", bridge_network("net-h", "10.52.0.0/24", "10.52.0.1"), "10.52.0.2/24"));
  box_.run("", "sysctl -qw net.ipv4.ip_forward=0");
  EXPECT_THAT(net_->repair(), ::testing::Contains("the host no longer forwarded IPv4"));
  EXPECT_EQ(box_.run("", "sysctl -n net.ipv4.ip_forward"), "1");
}

TEST_F(GatewayTest, TheMtuIsThatOfTheHostsDefaultRoute) {
  box_.run("", "ip link set up0 mtu 9001; ip route add default via 192.0.2.2");
  const std::string c1 = attach(request("c1", a_, "10.50.0.2/24"));
  EXPECT_THAT(box_.run(c1, "ip link show eth1"), HasSubstr("mtu 9001"));
}

TEST_F(GatewayTest, Figures) {
  constexpr int kContainers = 60;
  using Clock = std::chrono::steady_clock;
  const auto us = [](Clock::duration d) {
    return std::chrono::duration_cast<std::chrono::microseconds>(d).count();
  };
  attach(request("first", a_, "10.50.0.200/24"));
  const auto start = Clock::now();
  for (int i = 0; i < kContainers; ++i) {
    attach(request(fmt::format("c{}", i), a_, fmt::format("10.50.0.{}/24", i + 2)));
  }
  const auto attached = Clock::now();
  for (int i = 0; i < kContainers; ++i) ASSERT_TRUE(net_->detach(fmt::format("c{}", i)).ok());
  const auto detached = Clock::now();
  std::printf("on an overlay: attach %ld us, detach %ld us each\n",
              us(attached - start) / kContainers, us(detached - attached) / kContainers);
  RecordProperty("attach_us", static_cast<int>(us(attached - start) / kContainers));
}

}  // namespace
}  // namespace muster::overlay::testing
