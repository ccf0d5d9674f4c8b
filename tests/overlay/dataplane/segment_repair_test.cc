#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/overlay/dataplane/segment_host.h"

namespace muster::overlay::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// ---------------------------------------------------------------- repair

TEST_F(SegmentsTest, DriftIsMendedAndSaid) {
  two_containers();
  struct Case {
    std::string harm;
    std::vector<std::string> said;
  };
  const std::string veth = host(1).veth(11);
  const Case cases[] = {
      {"bridge fdb del 02:42:0a:01:00:0c dev vx0 self",
       {"the tunnel had no entry for 02:42:0a:01:00:0c on node 192.168.50.2"}},
      {"bridge fdb append 00:00:00:00:00:00 dev vx0 dst 192.168.50.2 self permanent; bridge fdb "
       "append 00:00:00:00:00:00 dev vx0 dst 192.168.50.3 self permanent",
       {"the tunnel led 00:00:00:00:00:00 to 192.168.50.2 and 192.168.50.3, where it is not"}},
      {"bridge fdb replace 02:42:0a:01:00:0c dev vx0 dst 192.168.50.3 self permanent",
       {"the tunnel led 02:42:0a:01:00:0c to 192.168.50.3 instead of 192.168.50.2"}},
      {"bridge fdb append 02:42:0a:01:00:63 dev vx0 dst 192.168.50.3 self permanent",
       {"the tunnel led 02:42:0a:01:00:63 to 192.168.50.3, where it is not"}},
      {"bridge fdb del 02:42:0a:01:00:0c dev vx0 master",
       {"the bridge had no entry that leads 02:42:0a:01:00:0c to the tunnel"}},
      {"bridge fdb replace 02:42:0a:01:00:0c dev " + veth + " master static",
       {"the bridge had no entry that leads 02:42:0a:01:00:0c to the tunnel"}},
      {"ip neigh del 10.1.0.12 dev br0", {"neighbour 10.1.0.12 at 02:42:0a:01:00:0c was missing"}},
      {"ip neigh replace fd10::12 lladdr 02:42:0a:01:00:0d dev br0 nud permanent",
       {"neighbour fd10::12 was at 02:42:0a:01:00:0d instead of 02:42:0a:01:00:0c"}},
      {"ip neigh add 10.1.0.77 lladdr 02:42:0a:01:00:0d dev br0 nud permanent",
       {"neighbour 10.1.0.77 at 02:42:0a:01:00:0d was one too many"}},
      {"ip link set vx0 mtu 1500", {"the tunnel's MTU was 1500, now 1450"}},
      {"ip link set br0 mtu 1400", {"the bridge's MTU was 1400, now 1450"}},
      {"ip link set " + veth + " mtu 1300",
       {"the MTU of interface " + veth + " was 1300, now 1450"}},
      {"ip link set " + veth + " nomaster", {"interface " + veth + " was not in the bridge"}},
      {"ip link set vx0 down", {"the tunnel was down"}},
      {"ip link set vx0 nomaster",
       {"the tunnel was not in the bridge",
        "the bridge had no entry that leads 02:42:0a:01:00:0c to the tunnel"}},
      {"bridge link set dev vx0 flood on",
       {"the bridge flooded to the tunnel, learnt from it or asked through it"}},
      {"bridge link set dev vx0 neigh_suppress off",
       {"the bridge flooded to the tunnel, learnt from it or asked through it"}},
      {"ip link set vx0 type vxlan learning", {"the tunnel's learning was 1, now 0"}},
      {"ip link set vx0 type vxlan ttl 7 tos 0x10 df set",
       {"the tunnel's ttl was 7, now 0", "the tunnel's tos was 16, now 0",
        "the tunnel's df was 1, now 0"}},
      {"ip link set vx0 type vxlan remote 192.168.50.3", {"the tunnel's remote was 1, now 0"}},
      {"ip link del vx0", {"the tunnel was missing"}},
      {"sysctl -qw net.ipv6.conf.br0.disable_ipv6=1",
       {"net.ipv6.conf.br0.disable_ipv6 was 1, now 0",
        "neighbour fd10::12 at 02:42:0a:01:00:0c was missing"}},
      {"ip link set br0 down",
       {"the bridge was down", "neighbour 10.1.0.12 at 02:42:0a:01:00:0c was missing",
        "neighbour fd10::12 at 02:42:0a:01:00:0c was missing"}},
      {"ip link del br0",
       {"the bridge was missing", "interface " + veth + " was not in the bridge",
        "the tunnel was not in the bridge",
        "the bridge had no entry that leads 02:42:0a:01:00:0c to the tunnel",
        "neighbour 10.1.0.12 at 02:42:0a:01:00:0c was missing",
        "neighbour fd10::12 at 02:42:0a:01:00:0c was missing"}},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(box_.run(host(1).segment("web"), c.harm + " 2>&1"), "") << c.harm;
    std::vector<std::string> expected;
    for (const std::string& sentence : c.said) expected.push_back("network web: " + sentence);
    EXPECT_EQ(host(1).repair(), expected) << c.harm;
    EXPECT_TRUE(pings(c1_, "10.1.0.12")) << c.harm;
    EXPECT_TRUE(pings(c1_, "fd10::12")) << c.harm;
    EXPECT_THAT(host(1).repair(), IsEmpty()) << c.harm;
  }
}

// What the kernel changes on a device that is there needs no other one, which would lose packets.
TEST_F(SegmentsTest, ATunnelIsMendedAsItStandsWhereTheKernelCan) {
  two_containers();
  const std::string segment = host(1).segment("web");
  const std::string index = "ip -o link show vx0 | cut -d: -f1; bridge fdb show dev vx0";
  const std::string was = box_.run(segment, index);
  box_.run(segment, "ip link set vx0 type vxlan learning ttl 7");
  EXPECT_EQ(host(1).repair().size(), 2u);
  EXPECT_EQ(box_.run(segment, index), was);
}

// What the kernel changes on no device that is there.
TEST_F(SegmentsTest, ATunnelOfAnotherKindIsMadeAnewWithItsEntries) {
  two_containers();
  const std::string segment = host(1).segment("web");
  const std::string right = box_.run(segment, "ip -d link show vx0 | grep -o 'vxlan .*'");
  ASSERT_THAT(right, HasSubstr(" udpcsum"));
  const struct {
    std::string options;
    std::vector<std::string> said;
  } cases[] = {
      {"nolearning noudpcsum", {"network web: the tunnel's udpcsum was 0, now 1"}},
      {"learning udpcsum proxy",
       {"network web: the tunnel's learning was 1, now 0",
        "network web: the tunnel's proxy was 1, now 0"}},
      {"nolearning udpcsum srcport 5000 6000 gbp", {}},
      {"nolearning udpcsum dev u0", {"network web: the tunnel's dev was 1, now 0"}},
  };
  for (const auto& c : cases) {
    box_.run(segment, "ip link del vx0");
    EXPECT_EQ(box_.run(host(1).path,
                       fmt::format("ip link add vx0 mtu 1450 netns {} type vxlan id 4097 local "
                                   "192.168.50.1 dstport 4789 {} 2>&1",
                                   segment, c.options)),
              "");
    box_.run(segment,
             "ip link set vx0 master br0 up; bridge link set dev vx0 learning off flood off "
             "mcast_flood off bcast_flood off neigh_suppress on");
    EXPECT_NE(box_.run(segment, "ip -d link show vx0 | grep -o 'vxlan .*'"), right);
    const auto said = host(1).repair();
    if (c.said.empty()) {
      EXPECT_EQ(said.size(), 2u) << c.options;
    } else {
      EXPECT_EQ(said, c.said) << c.options;
    }
    EXPECT_EQ(box_.run(segment, "ip -d link show vx0 | grep -o 'vxlan .*'"), right) << c.options;
    EXPECT_TRUE(pings(c1_, "10.1.0.12")) << c.options;
    EXPECT_THAT(host(1).repair(), IsEmpty()) << c.options;
  }
}

TEST_F(SegmentsTest, AWholeTableThatIsFlushedIsOneTrouble) {
  std::vector<v1::NetworkEndpoint> many;
  for (int i = 20; i < 60; ++i) many.push_back(endpoint(fmt::format("t{}", i), i, 2));
  host(1).attach(net_, 11);
  ASSERT_TRUE(host(1).step(net_, many, {}, true).ok());
  box_.run(host(1).segment("web"), "ip link set vx0 nomaster; ip link set vx0 master br0");
  const auto said = host(1).repair();
  ASSERT_EQ(said.size(), 6u) << said.front();
  EXPECT_THAT(said.back(), HasSubstr("36 more entries of the bridge were missing"));
  EXPECT_THAT(host(1).repair(), IsEmpty());
}

TEST_F(SegmentsTest, FramesOfContainersAreKeptFromTheHostsFirewall) {
  const std::string file = "/proc/sys/net/bridge/bridge-nf-call-iptables";
  if (box_.run("", "test -e " + file + " && echo yes") != "yes") {
    box_.run("", "modprobe br_netfilter");
  }
  ASSERT_EQ(box_.run("", "test -e " + file + " && echo yes"), "yes") << "needs br_netfilter";
  two_containers();
  EXPECT_EQ(box_.run(host(1).segment("web"), "cat " + file), "0");
  box_.run(host(1).segment("web"), "echo 1 > " + file);
  EXPECT_THAT(host(1).repair(),
              ElementsAre("network web: net.bridge.bridge-nf-call-iptables was 1, now 0"));
  EXPECT_EQ(box_.run(host(1).segment("web"), "cat " + file), "0");
  // The ingress network's is the mesh's.
  auto ingress = overlay_network("ingress", 4099);
  ingress.mutable_spec()->set_ingress(true);
  ASSERT_TRUE(host(1).segments->acquire(ingress, "mi"));
  ASSERT_TRUE(host(1).step(ingress, {}, {}, true).ok());
  for (const char* value : {"0", "1"}) {
    box_.run(host(1).segment("ingress"), fmt::format("echo {} > {}", value, file));
    EXPECT_THAT(host(1).repair(), IsEmpty());
    EXPECT_EQ(box_.run(host(1).segment("ingress"), "cat " + file), value);
  }
}

TEST_F(SegmentsTest, APinThatWasRemovedIsMadeAgain) {
  two_containers();
  const std::string pin = host(1).segment("web");
  box_.run("", fmt::format("umount -l {0}; rm {0}", pin));
  EXPECT_THAT(host(1).repair(),
              ElementsAre("network web: the namespace was no longer held by " + pin));
  host(1).restart();
  EXPECT_TRUE(host(1).segments->has_port(host(1).veth(11)));
}

// ---------------------------------------------------------------- trouble

TEST_F(SegmentsTest, AVniThatSomebodyElseUsesIsNamed) {
  host(1).attach(net_, 11);
  box_.run(host(1).path, "ip link add theirs type vxlan id 4097 dstport 4789 local 192.168.50.1");
  const std::string why =
      "network web: another program or instance on this node uses VNI 4097 on UDP port 4789";
  const Status refused = host(1).step(net_, {endpoint("t2", 12, 2)}, {}, true);
  EXPECT_EQ(refused.message(), why);
  EXPECT_EQ(refused.code(), StatusCode::kAlreadyExists);
  // A container that would reach nobody is not made; said once, not every ten seconds.
  EXPECT_EQ(host(1).segments->acquire(net_, "m2").error().message(), why);
  EXPECT_FALSE(host(1).segments->has_port("m2"));
  // That is no repair, and told as long as it lasts.
  for (int round = 0; round < 2; ++round) {
    EXPECT_THAT(host(1).repair(), IsEmpty());
    EXPECT_THAT(host(1).segments->troubles(),
                ElementsAre("network web is not as it should be here: another program or instance "
                            "on this node uses VNI 4097 on UDP port 4789"));
  }
  box_.run(host(1).path, "ip link del theirs");
  EXPECT_THAT(host(1).repair(), IsEmpty());
  EXPECT_THAT(host(1).segments->troubles(), IsEmpty());
  EXPECT_EQ(box_.run(host(1).segment("web"), "bridge fdb show dev vx0 | grep -c 'dst 192'"), "1");
}

TEST_F(SegmentsTest, APortThatSomebodyElseUsesIsNamed) {
  host(1).attach(net_, 11);
  box_.start(host(1).path, "exec socat -u UDP4-RECVFROM:4789,fork -");
  box_.run(host(1).path,
           "for i in $(seq 200); do ss -Hlun sport = :4789 | grep -q . && exit; busybox usleep "
           "10000; done");
  EXPECT_EQ(host(1).step(net_, {endpoint("t2", 12, 2)}, {}, true).message(),
            "network web: UDP port 4789 is in use by another program on this node");
  EXPECT_EQ(box_.run(host(1).segment("web"), "ip -o link show type vxlan"), "");
  host(1).set_node("192.168.50.1", 4790);
  EXPECT_THAT(box_.run(host(1).segment("web"), "ip -d link show vx0"), HasSubstr("dstport 4790"));
}

TEST_F(SegmentsTest, AnImpossibleMtuOrAMissingVniIsRefused) {
  auto bad = overlay_network("bad", 5000);
  auto* option = bad.mutable_spec()->add_driver_options();
  option->set_key("com.docker.network.driver.mtu");
  option->set_value("12");
  EXPECT_THAT(host(1).segments->acquire(bad, "m1").error().message(),
              HasSubstr("MTU \"12\" is not a number"));
  EXPECT_EQ(host(1).pins(), "");
  const auto early = overlay_network("early", 0);
  ASSERT_TRUE(host(1).step(early, {endpoint("t2", 12, 2)}, {}, true).ok());
  EXPECT_EQ(host(1).segments->acquire(early, "m1").error().message(),
            "network early: it has no VNI yet");
  EXPECT_EQ(host(1).pins(), "");
}

}  // namespace
}  // namespace muster::overlay::testing
