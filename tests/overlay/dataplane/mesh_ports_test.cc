// Where published ports answer, and whose address tasks see.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/overlay/dataplane/mesh_host.h"

namespace muster::overlay::testing {
namespace {

using v1::PortConfig;

constexpr const char* kClient = "192.0.2.2";
constexpr const char* kClient6 = "[2001:0db8:0099:0000:0000:0000:0000:0002]";

class MeshPortsTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(box_.ok()) << box_.error(); }

  // Nodes 1..n, told of all of them.
  void nodes(int n) {
    for (int i = 1; i <= n; ++i) net_.add_node(i);
    for (int i = 1; i <= n; ++i) {
      hosts_.push_back(std::make_unique<MeshHost>(net_, i));
      const Status opened = host(i).open();
      ASSERT_TRUE(opened.ok()) << opened.message();
    }
    tell_all();
  }
  void tell_all() {
    for (auto& host : hosts_) {
      const Status told = host->tell();
      ASSERT_TRUE(told.ok()) << told.message();
    }
  }
  MeshHost& host(int i) { return *hosts_[static_cast<size_t>(i) - 1]; }

  // Task k on node i: answers on TCP and UDP 8080 with the address the client has for it.
  std::string task(int k, int i) {
    net_.add_task(k, i);
    tell_all();
    const std::string ns =
        host(i).task(k, {mesh_port(PortConfig::TCP), mesh_port(PortConfig::UDP)});
    serve_clients_address(box_, ns);
    return ns;
  }
  // Port 80 of every node leads to these tasks, 81 to their echo, as `options` say.
  void publish(const std::vector<int>& tasks, const std::function<void(PortConfig&)>& options) {
    for (int i = 1; i <= static_cast<int>(hosts_.size()); ++i) {
      EXPECT_EQ(publish_at(i, tasks, options), "");
    }
  }
  std::string publish_at(int i, const std::vector<int>& tasks,
                         const std::function<void(PortConfig&)>& options) {
    const std::vector<std::string> backends = mesh_backends(tasks);
    std::vector<PublishedPort> ports = {published(80, 8080, backends, PortConfig::TCP),
                                        published(80, 8080, backends, PortConfig::UDP),
                                        published(81, 8081, backends, PortConfig::TCP)};
    for (PublishedPort& port : ports) options(port.port);
    return host(i).publish(ports).message();
  }

  std::string tcp(const std::string& from, const std::string& to) { return box_.ask(from, to, 80); }
  std::string udp(const std::string& from, const std::string& to, const std::string& more = "") {
    const std::string host = to.find(':') == std::string::npos ? to : "[" + to + "]";
    return box_.run(from, fmt::format("echo hi | timeout 5 socat -T2 - UDP:{}:80{} 2>/dev/null | "
                                      "head -n1",
                                      host, more));
  }
  // A connection that stays open; say() sends a word and tells whether it came back.
  struct Held {
    std::string fifo;
    std::string out;
  };
  Held hold(const std::string& from, const std::string& to, const std::string& more = "") {
    const Held held{fmt::format("{}/fifo{}", box_.dir(), held_),
                    fmt::format("{}/out{}", box_.dir(), held_)};
    ++held_;
    box_.run("", fmt::format("mkfifo {} && : > {}", held.fifo, held.out));
    box_.start(from, fmt::format("exec socat - TCP:{}:81,connect-timeout=20{} <>{} >{}", to, more,
                                 held.fifo, held.out));
    return held;
  }
  std::string say(const Held& held, const std::string& word) {
    return box_.run(
        "",
        fmt::format("timeout 5 sh -c 'echo {0} > {1}'; for i in $(seq 300); do grep -q {0} {2} && "
                    "echo heard && exit; busybox usleep 10000; done",
                    word, held.fifo, held.out));
  }

  Sandbox box_;
  MeshNet net_{box_};
  std::vector<std::unique_ptr<MeshHost>> hosts_;
  int held_ = 0;
};

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
