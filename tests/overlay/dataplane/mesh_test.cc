// Nodes that lead clients to tasks on one another, in the kernel.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/overlay/dataplane/mesh_cluster.h"

namespace muster::overlay::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class MeshTest : public MeshClusterTest {};

TEST_F(MeshTest, TheTaskSeesTheClientThroughEveryNode) {
  nodes(3);
  task(1, 2);
  publish({1});
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(i)), kClient) << i;
    EXPECT_EQ(udp(box_.outside(), MeshNet::underlay(i)), kClient) << i;
    EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay6(i)), kClient6) << i;
    EXPECT_EQ(udp(box_.outside(), MeshNet::underlay6(i)), kClient6) << i;
  }
}

TEST_F(MeshTest, TheNodesOwnClientsReachTasksEverywhere) {
  nodes(2);
  task(1, 2);
  publish({1});
  for (int i = 1; i <= 2; ++i) {
    const std::string seen = MeshNet::inside(i);
    const std::string seen6 = fmt::format("[fd54:0000:0000:0000:0000:0000:0000:00{}]", 10 + i);
    for (const std::string& to : {std::string("127.0.0.1"), MeshNet::underlay(i), seen}) {
      EXPECT_EQ(tcp(host(i).ns(), to), seen) << i << " to " << to;
      EXPECT_EQ(udp(host(i).ns(), to), seen) << i << " to " << to;
    }
    EXPECT_EQ(tcp(host(i).ns(), MeshNet::underlay6(i)), seen6) << i;
    EXPECT_EQ(udp(host(i).ns(), MeshNet::underlay6(i)), seen6) << i;
  }
}

TEST_F(MeshTest, ATaskReachesPublishedPortsAtItsNodesAddress) {
  nodes(2);
  const std::string one = task(1, 1);
  task(2, 2);
  publish({2});
  // The node stands for it: the answer must come back through the same rules.
  EXPECT_EQ(tcp(one, MeshNet::inside(1)), MeshNet::inside(1));
  // And a task that is its own backend.
  publish({1});
  EXPECT_EQ(tcp(one, MeshNet::inside(1)), MeshNet::inside(1));
}

TEST_F(MeshTest, OneClientPortThroughTwoNodesAtOnce) {
  nodes(3);
  const std::string ns = task(1, 3);
  box_.start(ns, "exec socat TCP6-LISTEN:8081,fork,reuseaddr,ipv6only=1 EXEC:cat");
  box_.run(ns,
           "for i in $(seq 300); do [ $(ss -Hltn | wc -l) = 4 ] && exit; "
           "busybox usleep 10000; done");
  publish({1});
  struct Family {
    std::string (*address)(int node);
    const char* client;
  };
  for (const Family& family :
       {Family{MeshNet::underlay, kClient}, Family{MeshNet::underlay6, kClient6}}) {
    SCOPED_TRACE(family.client);
    const std::string same = ",sourceport=40001,reuseaddr";
    const auto held = [&](int node) {
      const std::string to = family.address(node);
      return hold(box_.outside(), to.find(':') == std::string::npos ? to : "[" + to + "]", same);
    };
    const Held first = held(1);
    ASSERT_EQ(say(first, "one"), "heard");
    const Held second = held(2);
    ASSERT_EQ(say(second, "two"), "heard");
    const Held third = held(3);
    ASSERT_EQ(say(third, "three"), "heard");
    EXPECT_EQ(say(first, "again"), "heard");
    EXPECT_EQ(say(second, "again"), "heard");
    for (int round = 0; round < 2; ++round) {
      for (int i = 1; i <= 3; ++i) {
        EXPECT_EQ(udp(box_.outside(), family.address(i), ",sourceport=40002"), family.client) << i;
      }
    }
  }
}

TEST_F(MeshTest, MuchDataBothWaysAndASmallPathBeyondTheNode) {
  nodes(2);
  const std::string ns = task(1, 2);
  publish({1});
  box_.start(ns, "exec socat -U TCP4-LISTEN:8082,fork,reuseaddr EXEC:'head -c 3000000 /dev/zero'");
  box_.start(ns,
             "exec socat -U TCP6-LISTEN:8082,fork,reuseaddr,ipv6only=1 "
             "EXEC:'head -c 3000000 /dev/zero'");
  box_.start(ns, "exec socat TCP4-LISTEN:8083,fork,reuseaddr SYSTEM:'wc -c'");
  box_.run(ns,
           "for i in $(seq 300); do [ $(ss -Hltn | wc -l) = 6 ] && exit; "
           "busybox usleep 10000; done");
  const std::vector<std::string> backends{MeshNet::task_address(1), MeshNet::task_address6(1)};
  ASSERT_TRUE(host(1).publish({published(82, 8082, backends), published(83, 8083, backends)}).ok());
  const auto down = [&](const std::string& to) {
    return box_.run(box_.outside(),
                    fmt::format("timeout 20 socat -u TCP:{}:82 - 2>/dev/null | wc -c", to));
  };
  EXPECT_EQ(down(MeshNet::underlay(1)), "3000000");
  EXPECT_EQ(down("[" + MeshNet::underlay6(1) + "]"), "3000000");
  EXPECT_EQ(box_.run(box_.outside(),
                     fmt::format("head -c 3000000 /dev/zero | timeout 20 socat -t10 - TCP:{}:83",
                                 MeshNet::underlay(1))),
            "3000000");
  // Answers to the task about the path find it although it talks to a gateway that is none.
  box_.run("", "ip link set up0 mtu 1300");
  EXPECT_EQ(down(MeshNet::underlay(1)), "3000000");
  EXPECT_EQ(down("[" + MeshNet::underlay6(1) + "]"), "3000000");
}

TEST_F(MeshTest, AThousandNodesInTheMaps) {
  for (int i = 10; i < 1010; ++i) {
    net_.add_node(i);
    auto& node = net_.nodes[MeshNet::node_id(i)];
    node.clear_addresses();
    node.add_addresses(fmt::format("10.0.{}.{}", 1 + i / 256, i % 256));
    node.set_mac(fmt::format("02:42:0a:00:{:02x}:{:02x}", 1 + i / 256, i % 256));
    node.set_data_path_addr("192.168.50.200");
  }
  nodes(2);
  task(1, 2);
  publish({1});
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(1)), kClient);
  const auto count = [&] {
    return box_.run(host(2).pin(), "nft list map bridge mesh macs | grep -o 0x4d | wc -l") + " " +
           box_.run(host(2).pin(), "nft list map inet mesh zones | grep -o ': [0-9]' | wc -l");
  };
  EXPECT_EQ(count(), "1002 1002");
  for (int i = 10; i < 110; ++i) net_.remove_node(i);
  tell_all();
  EXPECT_EQ(count(), "902 902");
  EXPECT_EQ(udp(box_.outside(), MeshNet::underlay(1)), kClient);
}

TEST_F(MeshTest, ANodeTheTasksNodeIsToldOfLateIsServedStill) {
  net_.add_node(9);  // so that there is a tunnel
  nodes(1);
  task(1, 1);
  publish({1});
  // Comes to be, and clients come in by it before node 1 knows.
  net_.add_node(2);
  hosts_.push_back(std::make_unique<MeshHost>(net_, 2));
  ASSERT_TRUE(host(2).open().ok());
  ASSERT_TRUE(host(2).tell().ok());
  ASSERT_TRUE(host(2).publish({published(81, 8081, {MeshNet::task_address(1)})}).ok());
  const Held early = hold(box_.outside(), MeshNet::underlay(2), "");
  // The task has answered, to nobody.
  const std::string dropped = "nft list table bridge mesh | grep -o 'packets [1-9].* drop'";
  EXPECT_NE(box_.run(host(1).pin(), fmt::format("for i in $(seq 300); do {0} && exit; "
                                                "busybox usleep 10000; done",
                                                dropped)),
            "");
  ASSERT_TRUE(host(1).tell().ok());
  EXPECT_EQ(say(early, "late"), "heard");
}

TEST_F(MeshTest, ConnectionsOutliveTheProcess) {
  nodes(2);
  task(1, 2);
  publish({1});
  const Held held = hold(box_.outside(), MeshNet::underlay(1));
  ASSERT_EQ(say(held, "before"), "heard");
  const auto handles = [&] {
    return box_.run(host(2).pin(), "nft -a list ruleset | grep -v counter") +
           box_.run(host(1).ns(),
                    "nft -a list table inet mesh_muster_n1 | grep -v counter; "
                    "ip -o link show type veth");
  };
  const std::string was = handles();
  EXPECT_THAT(was, HasSubstr("chain made_"));
  for (auto& host : hosts_) host->close();
  EXPECT_EQ(say(held, "meanwhile"), "heard");
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(1)), kClient);
  for (auto& host : hosts_) {
    const Status opened = host->open();
    ASSERT_TRUE(opened.ok()) << opened.message();
  }
  tell_all();
  EXPECT_EQ(handles(), was);
  EXPECT_EQ(say(held, "after"), "heard");
  for (auto& host : hosts_) EXPECT_THAT(host->repair(), IsEmpty());
}

TEST_F(MeshTest, WhatSomebodyElseChangedIsMendedAndTold) {
  nodes(2);
  task(1, 2);
  publish({1});
  const Held held = hold(box_.outside(), MeshNet::underlay(1));
  ASSERT_EQ(say(held, "before"), "heard");
  for (auto& host : hosts_) ASSERT_THAT(host->repair(), IsEmpty());
  struct Harm {
    int host;
    bool inside;  // the ingress network's namespace
    const char* command;
    const char* said;
  };
  const std::string mi = Names("n1").mesh();
  for (const Harm& harm :
       {Harm{2, true, "nft flush chain bridge mesh pre", "rules of the routing mesh"},
        Harm{2, true, "nft delete table inet mesh", "rules of the routing mesh"},
        Harm{2, true, "nft flush map bridge mesh macs", "2 entries of the routing mesh's maps"},
        Harm{2, true, "nft add element inet mesh marks { 02:00:00:00:00:01 : 1 }",
             "1 entries of the routing mesh's maps"},
        Harm{2, true, "sysctl -qw net.bridge.bridge-nf-call-iptables=0",
             "did not pass through connection tracking"},
        Harm{1, false, "nft flush ruleset", "the host's rules of the routing mesh"},
        Harm{1, false, "nft insert rule inet mesh_muster_n1 forward drop",
             "the host's rules of the routing mesh"},
        Harm{1, false, "ip link del MI", "was missing"},
        Harm{1, false, "ip link set MI down", "was down"},
        Harm{1, false, "ip addr del 10.0.0.11/24 dev MI", "lacked address 10.0.0.11/24"},
        Harm{1, false, "ip addr add 10.0.0.77/24 dev MI", "had address 10.0.0.77/24"},
        Harm{1, false, "ip link set MI address 02:00:00:00:00:07", "was another"},
        Harm{1, true, "ip link set MI nomaster", "was in no bridge"},
        Harm{1, false, "sysctl -qw net.ipv4.conf.MI.route_localnet=0", "route_localnet was 0"},
        Harm{1, false, "ip -6 route del local ::1 dev MI table local", "had no route for ::1"}}) {
    std::string command = harm.command;
    if (const size_t at = command.find("MI"); at != std::string::npos) command.replace(at, 2, mi);
    box_.run(harm.inside ? host(harm.host).pin() : host(harm.host).ns(), command);
    EXPECT_THAT(host(harm.host).repair(), Contains(HasSubstr(harm.said))) << command;
    EXPECT_THAT(host(harm.host).repair(), IsEmpty()) << command;
    if (command == "nft flush ruleset") {
      // The published ports' own table is not of the mesh.
      host(1).close();
      ASSERT_TRUE(host(1).open().ok());
      ASSERT_TRUE(host(1).tell().ok());
      publish({1});
    }
    EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(1)), kClient) << command;
    EXPECT_EQ(tcp(host(1).ns(), "127.0.0.1"), MeshNet::inside(1)) << command;
  }
  EXPECT_EQ(say(held, "after"), "heard");
}

TEST_F(MeshTest, TheNetworkIsNoWayIntoTheNode) {
  nodes(2);
  const std::string ns = task(1, 2);
  publish({1});
  box_.serve(host(1).ns(), 9000, "host-secret");
  box_.serve(box_.outside(), 9000, "outside");
  EXPECT_EQ(box_.ask(host(1).ns(), MeshNet::inside(1), 9000), "host-secret");
  EXPECT_EQ(box_.ask(ns, MeshNet::inside(1), 9000), "");
  // Nor through it to anywhere else, nor from elsewhere past the published ports.
  box_.run(ns, fmt::format("ip route add 192.0.2.0/24 via {}", MeshNet::inside(1)));
  EXPECT_EQ(box_.ask(ns, kClient, 9000), "");
  box_.run("", fmt::format("ip route add 10.0.0.0/24 via {}", MeshNet::underlay(1)));
  EXPECT_EQ(box_.ask(box_.outside(), MeshNet::task_address(1), 8080), "");
  // Loopback addresses stay the node's own.
  box_.run(ns,
           fmt::format("sysctl -qw net.ipv4.conf.all.route_localnet=1; ip route add 127.0.0.9 via "
                       "{} dev eth0; ip rule add pref 0 to 127.0.0.9 lookup main; "
                       "ip rule del pref 0 lookup local; ip rule add pref 9 lookup local",
                       MeshNet::inside(1)));
  EXPECT_EQ(box_.ask(ns, "127.0.0.9", 9000), "");
}

TEST_F(MeshTest, NothingIsLeft) {
  nodes(2);
  task(1, 2);
  publish({1});
  ASSERT_EQ(tcp(box_.outside(), MeshNet::underlay(1)), kClient);
  const std::string mi = Names("n2").mesh();
  ASSERT_TRUE(host(2).forget().ok());
  EXPECT_THAT(box_.run(host(2).ns(), "ip -o link"), Not(HasSubstr(mi)));
  EXPECT_THAT(box_.run(host(2).ns(), "nft list tables"), Not(HasSubstr("mesh")));
  // Its task keeps its interface; the network's rules are gone.
  EXPECT_EQ(box_.run(host(2).pin(), "nft list tables"), "");
  EXPECT_EQ(box_.run(host(2).pin(), "sysctl -n net.bridge.bridge-nf-call-iptables"), "0");
  // And comes again.
  ASSERT_TRUE(host(2).tell().ok());
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(1)), kClient);
  EXPECT_EQ(tcp(host(2).ns(), "127.0.0.1"), MeshNet::inside(2));
  ASSERT_TRUE(host(2).remove().ok());
  EXPECT_EQ(box_.run(host(2).ns(), "nft list tables"), "table inet muster_n2");
  EXPECT_THAT(box_.run(host(2).ns(), "ip -o link"), Not(HasSubstr(mi)));
  EXPECT_EQ(box_.run("", fmt::format("ls {}/n2/netns", box_.dir())), "task1");
}

TEST_F(MeshTest, APlaceComesChangesAndGoes) {
  net_.add_node(2);
  nodes(1);
  task(1, 1);
  publish({1});
  const std::string mi = Names("n1").mesh();
  net_.nodes[MeshNet::node_id(1)].set_addresses(0, "10.0.0.50");
  net_.nodes[MeshNet::node_id(1)].set_mac("02:42:0a:00:00:32");
  tell_all();
  EXPECT_THAT(box_.run(host(1).ns(), "ip -o addr show " + mi),
              ::testing::AllOf(HasSubstr("10.0.0.50/24"), Not(HasSubstr("10.0.0.11"))));
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(1)), kClient);
  EXPECT_EQ(tcp(host(1).ns(), "127.0.0.1"), "10.0.0.50");
  net_.remove_node(1);
  tell_all();
  EXPECT_THAT(box_.run(host(1).ns(), "ip -o link"), Not(HasSubstr(mi)));
  net_.add_node(1);
  tell_all();
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(1)), kClient);
  net_.nodes[MeshNet::node_id(1)].set_addresses(0, "10.9.0.1");
  EXPECT_THAT(host(1).tell().message(),
              HasSubstr("this node's address 10.9.0.1 is not of the ingress network"));
}

}  // namespace
}  // namespace muster::overlay::testing
