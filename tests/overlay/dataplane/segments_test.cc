#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <random>
#include <utility>

#include "tests/overlay/dataplane/segment_host.h"

namespace muster::overlay::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_F(SegmentsTest, ContainersOfTwoNodesReachEachOtherWithoutAsking) {
  two_containers();
  const std::string here = host(1).segment("web");
  const std::string there = host(2).segment("web");
  // Whatever comes out of the tunnel.
  box_.run(
      there,
      "nft -f - <<X\ntable netdev t {\nchain c {\ntype filter hook ingress device vx0 priority 0\n"
      "ether type arp counter comment \"asked\"\n"
      "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, "
      "mld2-listener-report, nd-router-solicit } counter comment \"asked\"\n"
      "counter comment \"all\"\n}\n}\nX");
  const std::string c3 = host(1).attach(net_, 13);
  step({endpoint("t3", 13, 1)});
  for (const std::string& from : {c1_, c3}) {
    EXPECT_TRUE(pings(from, "10.1.0.12"));
    EXPECT_TRUE(pings(from, "fd10::12"));
  }
  EXPECT_TRUE(pings(c1_, "10.1.0.13"));
  EXPECT_TRUE(pings(c1_, "fd10::13"));
  EXPECT_TRUE(pings(c2_, "10.1.0.13"));
  // Nobody has this one.
  EXPECT_FALSE(pings(c1_, "10.1.0.99"));
  const auto frames = [&](const std::string& sort) {
    return box_.run(
        there, fmt::format("nft list table netdev t | grep {} | grep -o 'packets [0-9]*'", sort));
  };
  EXPECT_EQ(frames("asked"), "packets 0\npackets 0");
  EXPECT_EQ(frames("all"), "packets 5");
  // A packet of the network's whole MTU goes in one piece.
  EXPECT_EQ(box_.run(c1_, "busybox ping -s 1422 -c1 -W2 10.1.0.12 >/dev/null && echo yes"), "yes");
  EXPECT_EQ(fragments(c1_), "0");
  EXPECT_EQ(fragments(host(1).path), "0");
  EXPECT_THAT(box_.run(here, "ip -o link show vx0"), HasSubstr("mtu 1450"));
  // The outer packets have checksums, which network cards compute and check for the inner ones,
  // too.
  EXPECT_THAT(box_.run(here, "ip -d -o link show vx0"), HasSubstr(" udpcsum "));
  EXPECT_THAT(box_.run(here, "ip -o link show br0"), HasSubstr("mtu 1450"));
  // Nor does it follow a port that is smaller.
  box_.run(here, "ip link add odd mtu 900 type veth peer name even && ip link set odd master br0");
  EXPECT_THAT(box_.run(here, "ip -o link show br0"), HasSubstr("mtu 1450"));
  box_.run(here, "ip link del odd");
  // The bridge is nobody: no address, no socket of the tunnel inside.
  EXPECT_EQ(box_.run(here, "ip -o addr show dev br0; ip -o addr show dev vx0"), "");
  EXPECT_EQ(box_.run(here, "ss -Hlun sport = :4789 | wc -l"), "0");
  EXPECT_EQ(box_.run(host(1).path, "ss -Hlun sport = :4789 | wc -l"), "1");
  EXPECT_THAT(host(1).repair(), IsEmpty());
  EXPECT_THAT(host(2).repair(), IsEmpty());
}

TEST_F(SegmentsTest, TheTunnelComesAndGoesWithMembersElsewhere) {
  host(1).attach(net_, 11);
  const auto tunnels = [&] {
    return box_.run(host(1).segment("web"), "ip -o link show type vxlan | wc -l");
  };
  step({endpoint("t1", 11, 1)}, {}, true);
  EXPECT_EQ(tunnels(), "0");
  // A node that has not said where it is; one that is this one by its address.
  auto unknown = endpoint("t2", 12, 2);
  unknown.clear_data_path_addr();
  auto mine = endpoint("t3", 13, 1);
  mine.set_node_id("former");
  step({unknown, mine});
  EXPECT_EQ(tunnels(), "0");
  auto draining = endpoint("t2", 12, 2);
  draining.set_state(v1::ENDPOINT_DRAINING);
  step({draining});
  EXPECT_EQ(tunnels(), "1");
  step({}, {"t2"});
  EXPECT_EQ(tunnels(), "0");
  EXPECT_EQ(box_.run(host(1).segment("web"), "ip neigh show dev br0; bridge fdb | grep static"),
            "");
  EXPECT_THAT(host(1).repair(), IsEmpty());
}

TEST_F(SegmentsTest, WhatIsToBeEncryptedNeverLeavesInPlainText) {
  net_.mutable_spec()->add_driver_options()->set_key("encrypted");
  host(1).attach(net_, 11);
  const Status refused = host(1).step(net_, {endpoint("t2", 12, 2)}, {}, true);
  EXPECT_THAT(refused.message(), HasSubstr("nothing of it is sent in plain text"));
  EXPECT_EQ(box_.run(host(1).segment("web"), "ip -o link show type vxlan | wc -l"), "0");
}

TEST_F(SegmentsTest, AnAddressThatMovesIsFollowed) {
  two_containers();
  EXPECT_TRUE(pings(c1_, "10.1.0.12"));
  host(2).detach(12);
  host(3).attach(net_, 12);
  step({endpoint("t9", 12, 3)}, {"t2"});
  EXPECT_TRUE(pings(c1_, "10.1.0.12"));
  EXPECT_TRUE(pings(c1_, "fd10::12"));
  EXPECT_EQ(box_.run(host(1).segment("web"), "bridge fdb show dev vx0 | grep -c 'dst 192'"), "1");
  // To the asker's own node.
  host(3).detach(12);
  host(1).attach(net_, 12);
  step({endpoint("t10", 12, 1)}, {"t9"});
  EXPECT_TRUE(pings(c1_, "10.1.0.12"));
  for (auto& h : hosts_) EXPECT_THAT(h->repair(), IsEmpty());
}

TEST_F(SegmentsTest, FramesWithSomebodyElsesAddressTakeNothingAway) {
  two_containers();
  const std::string thief = host(1).attach(net_, 13);
  box_.run(thief,
           "ip link set eth0 down; ip link set eth0 address 02:42:0a:01:00:0c; "
           "ip link set eth0 up; busybox arping -c2 -w2 -U -I eth0 10.1.0.13");
  EXPECT_TRUE(pings(c1_, "10.1.0.12"));
  EXPECT_THAT(host(1).repair(), IsEmpty());
}

TEST_F(SegmentsTest, ARestartChangesNothingUntilManagersTellMore) {
  two_containers();
  const std::string before = box_.run(host(1).segment("web"), "ip -o link; bridge fdb; ip neigh");
  host(1).restart();
  host(1).set_node("192.168.50.1");
  EXPECT_TRUE(host(1).segments->has_port(host(1).veth(11)));
  EXPECT_THAT(host(1).repair(), IsEmpty());
  EXPECT_EQ(box_.run(host(1).segment("web"), "ip -o link; bridge fdb; ip neigh"), before);
  EXPECT_TRUE(pings(c1_, "10.1.0.12"));
  EXPECT_TRUE(host(1).segments->acquire(net_, host(1).veth(11)));
  EXPECT_EQ(box_.run(host(1).segment("web"), "ip -o link; bridge fdb; ip neigh"), before);
  // While it was away one has come and one has gone.
  host(3).attach(net_, 13);
  step({endpoint("t1", 11, 1), endpoint("t3", 13, 3)}, {}, true);
  EXPECT_TRUE(pings(c1_, "10.1.0.13"));
  EXPECT_FALSE(pings(c1_, "10.1.0.12"));
  EXPECT_THAT(host(1).repair(), IsEmpty());
  // Not told of, but at another address: what was there goes on from it.
  host(1).restart();
  box_.run(host(1).path,
           "ip addr del 192.168.50.1/24 dev u0; ip addr add 192.168.50.101/24 dev u0");
  host(1).set_node("192.168.50.101");
  auto moved = endpoint("t1", 11, 1);
  moved.set_data_path_addr("192.168.50.101");
  ASSERT_TRUE(host(3).step(net_, {moved}).ok());
  EXPECT_TRUE(pings(c1_, "10.1.0.13"));
}

TEST_F(SegmentsTest, AHalfMadeSegmentIsCompletedOrCleared) {
  // Killed between two steps: a file that is no mount, and a namespace without a bridge.
  box_.run("", fmt::format("touch {}/n1/netns/net-gone", box_.dir()));
  box_.run("", fmt::format("touch {0}/n1/netns/net-web && unshare --net={0}/n1/netns/net-web true",
                           box_.dir()));
  host(1).restart();
  host(1).set_node("192.168.50.1");
  EXPECT_EQ(host(1).pins(), "net-web");
  two_containers();
  EXPECT_TRUE(pings(c1_, "10.1.0.12"));
}

TEST_F(SegmentsTest, NothingIsLeftBehind) {
  two_containers();
  const auto other = overlay_network("other", 4098);
  ASSERT_TRUE(host(1).step(other, {endpoint("x", 12, 2)}, {}, true).ok());
  ASSERT_TRUE(host(1).segments->acquire(other, "mo"));
  EXPECT_EQ(host(1).pins(), "net-other\nnet-web");
  ASSERT_TRUE(host(1).segments->release("mo").ok());
  EXPECT_EQ(host(1).pins(), "net-web");
  // The network is forgotten: its tunnel goes, containers of the node still talk.
  host(1).attach(net_, 13);
  ASSERT_TRUE(host(1).segments->forget("web").ok());
  EXPECT_TRUE(pings(c1_, "10.1.0.13"));
  EXPECT_FALSE(pings(c1_, "10.1.0.12"));
  EXPECT_EQ(box_.run(host(1).segment("web"), "ip -o link show type vxlan; ip neigh show dev br0"),
            "");
  EXPECT_EQ(box_.run(host(1).path, "ss -Hlun sport = :4789 | wc -l"), "0");
  EXPECT_THAT(host(1).repair(), IsEmpty());
  host(1).detach(11);
  host(1).detach(13);
  EXPECT_EQ(host(1).pins(), "");
  // Known before there is a container: a segment has its entries at once, though the one before it
  // may not be cleared away yet.
  step({endpoint("t1", 11, 1), endpoint("t2", 12, 2)}, {}, true);
  c1_ = host(1).attach(net_, 11);
  EXPECT_TRUE(pings(c1_, "10.1.0.12"));
  // Containers that nobody knows any more.
  ASSERT_TRUE(host(1).segments->sweep({}).ok());
  EXPECT_EQ(host(1).pins(), "");
  EXPECT_EQ(box_.run(host(1).path, "ip -o link show type vxlan; ip -o link show type bridge"), "");
}

TEST_F(SegmentsTest, AGoneNetworkCanBeMadeAgainAtOnce) {
  for (int round = 0; round < 3; ++round) {
    two_containers();
    EXPECT_TRUE(pings(c1_, "10.1.0.12")) << round;
    host(1).detach(11);
    host(2).detach(12);
    EXPECT_EQ(host(1).pins(), "");
  }
}

TEST_F(SegmentsTest, TheMtuFollowsWhatManagersSay) {
  two_containers();
  net_.mutable_state()->set_mtu(1300);
  step({});
  EXPECT_EQ(box_.run(host(1).segment("web"), "ip -o link | grep -c 'mtu 1300'"), "3");
  EXPECT_TRUE(pings(c1_, "10.1.0.12"));
  EXPECT_EQ(host(1).segments->find("web")->mtu, 1300u);
  EXPECT_THAT(host(1).repair(), IsEmpty());
  // Too small for IPv6, and back.
  net_.mutable_state()->set_mtu(1200);
  step({});
  EXPECT_TRUE(pings(c1_, "10.1.0.12"));
  EXPECT_THAT(host(1).repair(), IsEmpty());
  net_.mutable_state()->set_mtu(1280);
  step({});
  EXPECT_TRUE(pings(c1_, "fd10::12"));
  EXPECT_THAT(host(1).repair(), IsEmpty());
}

TEST_F(SegmentsTest, ANodeThatMovesTakesItsTunnelsWithIt) {
  two_containers();
  box_.run(host(1).path,
           "ip addr del 192.168.50.1/24 dev u0; ip addr add 192.168.50.101/24 dev u0");
  host(1).set_node("192.168.50.101");
  auto moved = endpoint("t1", 11, 1);
  moved.set_data_path_addr("192.168.50.101");
  step({moved});
  EXPECT_TRUE(pings(c1_, "10.1.0.12"));
  for (auto& h : hosts_)
    h->set_node(h.get() == hosts_[0].get()   ? "192.168.50.101"
                : h.get() == hosts_[1].get() ? "192.168.50.2"
                                             : "192.168.50.3",
                4800);
  EXPECT_TRUE(pings(c1_, "10.1.0.12"));
  EXPECT_TRUE(pings(c2_, "fd10::11"));
  // In no swarm any more.
  host(1).set_node("");
  EXPECT_EQ(box_.run(host(1).segment("web"), "ip -o link show type vxlan"), "");
  for (auto& h : hosts_) EXPECT_THAT(h->repair(), IsEmpty());
}

TEST_F(SegmentsTest, TheUnderlayMayBeIPv6) {
  const auto six = [](v1::NetworkEndpoint e, int node) {
    e.set_data_path_addr(fmt::format("fd50::{}", node));
    return e;
  };
  net_.mutable_state()->set_mtu(1430);
  for (int i = 1; i <= 2; ++i) host(i).set_node(fmt::format("fd50::{}", i));
  c1_ = host(1).attach(net_, 11);
  c2_ = host(2).attach(net_, 12);
  // One that cannot be reached from here harms nobody.
  step({six(endpoint("t1", 11, 1), 1), six(endpoint("t2", 12, 2), 2), endpoint("t3", 13, 3)}, {},
       true);
  EXPECT_TRUE(pings(c1_, "10.1.0.12"));
  EXPECT_TRUE(pings(c1_, "fd10::12"));
  EXPECT_EQ(box_.run(c1_, "busybox ping -s 1402 -c1 -W2 10.1.0.12 >/dev/null && echo yes"), "yes");
  EXPECT_EQ(fragments(c1_), "0");
  EXPECT_EQ(box_.run(host(1).path, "awk '/FragCreates/ {print $2}' /proc/net/snmp6"), "0");
  EXPECT_THAT(host(1).repair(), IsEmpty());
}

TEST_F(SegmentsTest, NodesThemselvesAreMembersOfTheIngressNetwork) {
  net_.mutable_spec()->set_ingress(true);
  c1_ = host(1).attach(net_, 11);
  c2_ = host(2).attach(net_, 12);
  NetworkStep s{net_.id(), true, {}};
  *s.feed.mutable_network() = net_;
  for (int i = 1; i <= 2; ++i) {
    auto* node = s.feed.add_ingress_nodes();
    node->set_node_id(fmt::format("node{}", i));
    node->add_addresses(fmt::format("10.1.0.{}", 10 + i));
    node->set_mac(mac_of(*Ip::parse(fmt::format("10.1.0.{}", 10 + i))));
    node->set_data_path_addr(fmt::format("192.168.50.{}", i));
  }
  ASSERT_TRUE(host(1).apply(s).ok());
  ASSERT_TRUE(host(2).apply(s).ok());
  EXPECT_TRUE(pings(c1_, "10.1.0.12"));
  NetworkStep gone{net_.id(), false, {}};
  gone.feed.add_removed_ingress_node_ids("node2");
  ASSERT_TRUE(host(1).apply(gone).ok());
  EXPECT_EQ(box_.run(host(1).segment("web"), "ip -o link show type vxlan"), "");
}

TEST_F(SegmentsTest, TheKernelEqualsTheTruthAfterAnySteps) {
  host(1).attach(net_, 11);
  std::mt19937 random(7);
  const auto pick = [&](unsigned n) { return static_cast<int>(random() % n); };
  for (int round = 0; round < 150; ++round) {
    std::vector<v1::NetworkEndpoint> changed;
    std::vector<std::string> removed;
    for (int i = pick(6); i >= 0; --i) {
      const std::string task = fmt::format("t{}", pick(12));
      if (pick(3) == 0) {
        removed.push_back(task);
        continue;
      }
      changed.push_back(endpoint(task, 20 + pick(8), 1 + pick(3)));
      if (pick(4) == 0) changed.back().clear_data_path_addr();
      if (pick(3) == 0) changed.back().set_state(v1::ENDPOINT_DRAINING);
    }
    const int how = pick(20);
    if (how == 0) {
      ASSERT_TRUE(host(1).segments->forget("web").ok());
      host(1).truths.forget("web");
    }
    if (how == 1) {
      host(1).restart();
      host(1).set_node("192.168.50.1");
    }
    ASSERT_TRUE(host(1).step(net_, changed, removed, how < 4).ok()) << round;
    ASSERT_THAT(host(1).repair(), IsEmpty()) << round;
  }
}

// ---------------------------------------------------------------- figures

TEST_F(SegmentsTest, Figures) {
  using Clock = std::chrono::steady_clock;
  const auto ms = [](Clock::duration d) {
    return std::chrono::duration<double, std::milli>(d).count();
  };
  auto at = Clock::now();
  const auto lap = [&] {
    const auto before = std::exchange(at, Clock::now());
    return ms(at - before);
  };
  ASSERT_TRUE(host(1).segments->acquire(net_, "m1"));
  std::printf("namespace and bridge: %.1f ms\n", lap());
  for (const int count : {1000, 10000}) {
    NetworkStep s{net_.id(), true, {}};
    *s.feed.mutable_network() = net_;
    for (int i = 1; i <= count; ++i) {
      auto* e = s.feed.add_endpoints();
      *e = endpoint(fmt::format("task{}", i), 1, 2 + i % 200);
      e->set_node_id(fmt::format("node{}", 2 + i % 200));
      e->set_addresses(0, Ip::v4(0x0a010000u + static_cast<uint32_t>(i)).str());
      e->set_addresses(1, fmt::format("fd10::{:x}", i));
    }
    (void)host(1).segments->forget("web");
    host(1).truths.forget("web");
    const NetworkDifference difference = host(1).truths.apply(s);
    lap();
    ASSERT_TRUE(host(1).segments->apply(*host(1).truths.find("web"), difference).ok());
    const double all = lap();
    auto one = endpoint("task7", 7, 3);
    NetworkStep change{net_.id(), false, {}};
    *change.feed.add_endpoints() = one;
    const NetworkDifference small = host(1).truths.apply(change);
    lap();
    ASSERT_TRUE(host(1).segments->apply(*host(1).truths.find("web"), small).ok());
    const double single = lap();
    const auto said = host(1).repair();
    const double repair = lap();
    EXPECT_THAT(said, IsEmpty());
    std::printf(
        "%d endpoints with two addresses: all %.1f ms, one that moves %.2f ms, repair that "
        "finds nothing %.1f ms\n",
        count, all, single, repair);
    lap();
    ASSERT_TRUE(host(1).segments->release("m1").ok());
    const double gone = lap();
    ASSERT_TRUE(host(1).segments->acquire(net_, "m1"));
    std::printf("its segment goes in %.1f ms and comes in %.1f ms\n", gone, lap());
    RecordProperty(fmt::format("apply_{}_ms", count), static_cast<int>(all));
    EXPECT_LT(all, count * 2.0) << "ms";
  }
}

}  // namespace
}  // namespace muster::overlay::testing
