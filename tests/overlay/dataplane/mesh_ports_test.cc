// Where published ports answer, and whose address tasks see.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/overlay/dataplane/mesh_cluster.h"

namespace muster::overlay::testing {
namespace {

using v1::PortConfig;

class MeshPortsTest : public MeshClusterTest {};

void keep(PortConfig&) {}
void masquerade(PortConfig& port) {
  port.set_client_address(PortConfig::MASQUERADE);
}

std::string seen6(int i) {
  return fmt::format("[fd54:0000:0000:0000:0000:0000:0000:00{}]", 10 + i);
}

TEST_F(MeshPortsTest, AMasqueradingPortShowsTheNodeInPlaceOfTheClient) {
  nodes(2);
  task(1, 2);
  publish({1}, masquerade);
  for (int i = 1; i <= 2; ++i) {
    EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(i)), MeshNet::inside(i)) << i;
    EXPECT_EQ(udp(box_.outside(), MeshNet::underlay(i)), MeshNet::inside(i)) << i;
    EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay6(i)), seen6(i)) << i;
    EXPECT_EQ(tcp(host(i).ns(), "127.0.0.1"), MeshNet::inside(i)) << i;
  }
}

TEST_F(MeshPortsTest, AChoiceOfTheClientsAddressIsOfNewFlowsAlone) {
  nodes(2);
  task(1, 2);
  publish({1}, keep);
  const Held before = hold(box_.outside(), MeshNet::underlay(1));
  EXPECT_EQ(say(before, "one"), "heard");
  publish({1}, masquerade);
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(1)), MeshNet::inside(1));
  EXPECT_EQ(say(before, "two"), "heard");
  const Held hidden = hold(box_.outside(), MeshNet::underlay(1));
  EXPECT_EQ(say(hidden, "three"), "heard");
  publish({1}, keep);
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(1)), kClient);
  EXPECT_EQ(say(before, "four"), "heard");
  EXPECT_EQ(say(hidden, "five"), "heard");
}

TEST_F(MeshPortsTest, AProcessThatComesAfterKnowsWhatIsHidden) {
  nodes(2);
  task(1, 2);
  publish({1}, masquerade);
  host(1).close();
  ASSERT_TRUE(host(1).open().ok());
  ASSERT_TRUE(host(1).tell().ok());
  EXPECT_EQ(publish_at(1, {1}, keep), "");
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(1)), kClient);
  EXPECT_EQ(host(1).publish({}).message(), "");
  EXPECT_EQ(box_.run(host(1).ns(), "nft list ruleset | grep -c 'tcp . 80' || true"), "0");
}

TEST_F(MeshPortsTest, APortBoundToAnAddressAnswersThereAndNowhereElse) {
  nodes(2);
  task(1, 2);
  box_.run(host(1).ns(), "ip addr add 192.168.50.101/24 dev eth0");
  publish({1}, [](PortConfig& port) { port.set_bind("192.168.50.101"); });
  EXPECT_EQ(tcp(box_.outside(), "192.168.50.101"), kClient);
  EXPECT_EQ(udp(box_.outside(), "192.168.50.101"), kClient);
  EXPECT_EQ(tcp(host(1).ns(), "192.168.50.101"), MeshNet::inside(1));
  for (int i = 1; i <= 2; ++i) {
    EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(i)), "") << i;
    EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay6(i)), "") << i;
    EXPECT_EQ(tcp(host(i).ns(), "127.0.0.1"), "") << i;
  }
  // The address moves to the other node, which knows the port already.
  box_.run(host(1).ns(), "ip addr del 192.168.50.101/24 dev eth0");
  box_.run(host(2).ns(), "ip addr add 192.168.50.101/24 dev eth0");
  box_.run("", "ip neigh flush dev ul");
  EXPECT_EQ(tcp(box_.outside(), "192.168.50.101"), kClient);
  // And the port to an address of the other family, hiding its clients.
  publish({1}, [](PortConfig& port) {
    port.set_bind("fd50::1");
    masquerade(port);
  });
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay6(1)), seen6(1));
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay6(2)), "");
  EXPECT_EQ(tcp(box_.outside(), "192.168.50.101"), "");
}

TEST_F(MeshPortsTest, APortBoundToAnInterfaceAnswersWhatComesInByIt) {
  nodes(2);
  task(1, 2);
  box_.run(host(1).ns(), "ip link add spare type dummy && ip link set spare up");
  publish({1}, [](PortConfig& port) {
    port.set_bind("eth0");
    masquerade(port);
  });
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(1)), MeshNet::inside(1));
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay6(1)), seen6(1));
  EXPECT_EQ(tcp(host(1).ns(), "127.0.0.1"), "");
  publish({1}, [](PortConfig& port) { port.set_bind("spare"); });
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(1)), "");
  publish({1}, [](PortConfig& port) { port.set_bind("lo"); });
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(1)), "");
  EXPECT_EQ(tcp(host(1).ns(), "127.0.0.1"), MeshNet::inside(1));
  EXPECT_EQ(tcp(host(1).ns(), MeshNet::underlay(1)), MeshNet::inside(1));
}

TEST_F(MeshPortsTest, TwoServicesShareANumberAtDifferentAddresses) {
  nodes(1);
  task(1, 1);
  box_.run(host(1).ns(), "ip addr add 192.168.50.101/24 dev eth0");
  PublishedPort shown = published(80, 8080, mesh_backends({1}), PortConfig::TCP);
  shown.port.set_bind("192.168.50.1");
  PublishedPort hidden = published(80, 8080, mesh_backends({1}), PortConfig::TCP);
  hidden.port.set_bind("192.168.50.101");
  masquerade(hidden.port);
  EXPECT_EQ(host(1).publish({shown, hidden}).message(), "");
  EXPECT_EQ(tcp(box_.outside(), "192.168.50.1"), kClient);
  EXPECT_EQ(tcp(box_.outside(), "192.168.50.101"), MeshNet::inside(1));
}

TEST_F(MeshPortsTest, APortMovesFromAllAddressesToOneAndBack) {
  nodes(1);
  task(1, 1);
  publish({1}, keep);
  publish({1}, [](PortConfig& port) { port.set_bind("192.168.50.1"); });
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(1)), kClient);
  publish({1}, keep);
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay6(1)), kClient6);
}

TEST_F(MeshPortsTest, OnlyAProcessOfTheSamePlaceIsInTheWay) {
  nodes(1);
  task(1, 1);
  box_.run(host(1).ns(), "ip addr add 192.168.50.101/24 dev eth0");
  box_.start(host(1).ns(), "exec socat TCP-LISTEN:80,bind=192.168.50.101,fork PIPE");
  box_.run(host(1).ns(),
           "for i in $(seq 300); do ss -Hltn | grep -q :80 && exit; busybox usleep 10000; done");
  EXPECT_EQ(publish_at(1, {1}, [](PortConfig& port) { port.set_bind("192.168.50.1"); }), "");
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(1)), kClient);
  EXPECT_EQ(publish_at(1, {1}, [](PortConfig& port) { port.set_bind("192.168.50.101"); }),
            "port 80/tcp is in use on this node");
}

// From ::1 nothing can be led elsewhere: whoever listens there is reached, a relay for example.
TEST_F(MeshPortsTest, TheLoopbackOfIPv6IsLeftToRelays) {
  nodes(1);
  task(1, 1);
  publish({1}, keep);
  box_.start(host(1).ns(),
             "exec socat TCP6-LISTEN:80,bind=[::1],ipv6only=1,reuseaddr,reuseport,fork "
             "SYSTEM:'echo relay'");
  box_.run(
      host(1).ns(),
      "for i in $(seq 300); do ss -Hltn | grep -q '::1.:80' && exit; busybox usleep 10000; done");
  EXPECT_EQ(tcp(host(1).ns(), "::1"), "relay");
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay6(1)), kClient6);
}

}  // namespace
}  // namespace muster::overlay::testing
