// The routing mesh through NodeNetwork: whole nodes, with containers as the agent makes them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netlink.h>
#include <netinet/in.h>

#include <chrono>
#include <set>
#include <thread>

#include "overlay/dataplane/kernel/conntrack.h"
#include "tests/overlay/dataplane/led_connection.h"
#include "tests/overlay/dataplane/mesh_host.h"

namespace muster::overlay::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using v1::PortConfig;

constexpr const char* kClient = "192.0.2.2";
constexpr const char* kClient6 = "[2001:0db8:0099:0000:0000:0000:0000:0002]";

v1::Network app(bool internal) {
  v1::Network n = bridge_network("app-network", "10.1.0.0/24", "10.1.0.1", internal);
  n.mutable_spec()->set_driver("overlay");
  n.mutable_state()->set_vni(4098);
  n.mutable_state()->set_mtu(1450);
  return n;
}

class MeshNetworkTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(box_.ok()) << box_.error(); }
  void TearDown() override {
    for (size_t i = 0; i < nets_.size(); ++i) close(static_cast<int>(i) + 1);
  }

  void nodes(int n) {
    for (int i = 1; i <= n; ++i) net_.add_node(i);
    for (int i = 1; i <= n; ++i) {
      hosts_.push_back(std::make_unique<MeshHost>(net_, i));
      nets_.push_back(nullptr);
      open(i);
    }
  }
  void open(int i) {
    const Status made = host(i).in([&]() -> Status {
      NodeNetworkOptions options;
      options.instance_id = fmt::format("n{}", i);
      options.run_dir = box_.dir();
      MUSTER_ASSIGN(network(i), make_node_network(options, null_log()));
      return network(i)->set_local_node({MeshNet::node_id(i), MeshNet::underlay(i), 4789});
    });
    ASSERT_TRUE(made.ok()) << made.message();
    tell(i);
  }
  void close(int i) { network(i).reset(); }
  void tell(int i) {
    const Status told = host(i).in([&] { return network(i)->apply(net_.everything()); });
    ASSERT_TRUE(told.ok()) << told.message();
  }
  MeshHost& host(int i) { return *hosts_[static_cast<size_t>(i) - 1]; }
  std::unique_ptr<NodeNetwork>& network(int i) { return nets_[static_cast<size_t>(i) - 1]; }

  std::string attach(int i, const ContainerNetworkRequest& request) {
    std::string path;
    const Status done = host(i).in([&]() -> Status {
      MUSTER_ASSIGN(path, network(i)->attach(request));
      return ok_status();
    });
    EXPECT_TRUE(done.ok()) << done.message();
    return path;
  }
  ContainerNetworkRequest container(int k, bool internal = false) {
    return {fmt::format("task{}", k),
            {{app(internal), {fmt::format("10.1.0.{}/24", 100 + k)}, ""}}};
  }
  // Task k on node i, in its own network and behind it in the ingress network: answers on TCP and
  // UDP 8080 with the client's address.
  std::string task(int k, int i, bool internal = false) {
    net_.add_task(k, i);
    for (size_t n = 1; n <= nets_.size(); ++n) tell(static_cast<int>(n));
    ContainerNetworkRequest r = container(k, internal);
    r.links.push_back(
        {net_.network, {MeshNet::task_address(k) + "/24", MeshNet::task_address6(k) + "/64"}, ""});
    for (const auto protocol : {PortConfig::TCP, PortConfig::UDP}) {
      r.ports.push_back(mesh_port(protocol));
    }
    const std::string ns = attach(i, r);
    serve_clients_address(box_, ns);
    return ns;
  }
  void publish(const std::vector<int>& tasks) {
    const std::vector<std::string> backends = mesh_backends(tasks);
    for (size_t n = 1; n <= nets_.size(); ++n) {
      const int i = static_cast<int>(n);
      const Status set = host(i).in([&] {
        return network(i)->set_published_ports({published(80, 8080, backends, PortConfig::TCP),
                                                published(80, 8080, backends, PortConfig::UDP)},
                                               nullptr);
      });
      ASSERT_TRUE(set.ok()) << set.message();
    }
  }
  std::vector<std::string> repair(int i) {
    std::vector<std::string> said;
    (void)host(i).in([&] {
      said = network(i)->repair();
      return ok_status();
    });
    return said;
  }
  std::string tcp(const std::string& from, const std::string& to) { return box_.ask(from, to, 80); }
  std::string udp(const std::string& from, const std::string& to) {
    const std::string host = to.find(':') == std::string::npos ? to : "[" + to + "]";
    return box_.run(from, ask_by_udp(host + ":80"));
  }
  void expect_client_is_seen_through(int i) {
    EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(i)), kClient) << i;
    EXPECT_EQ(udp(box_.outside(), MeshNet::underlay(i)), kClient) << i;
    EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay6(i)), kClient6) << i;
    EXPECT_EQ(udp(box_.outside(), MeshNet::underlay6(i)), kClient6) << i;
  }

  Sandbox box_;
  MeshNet net_{box_};
  std::vector<std::unique_ptr<MeshHost>> hosts_;
  std::vector<std::unique_ptr<NodeNetwork>> nets_;
};

TEST_F(MeshNetworkTest, EveryNodeAnswersWithTheClientsAddressSeen) {
  nodes(3);
  const std::string ns = task(1, 2);
  publish({1});
  for (int i = 1; i <= 3; ++i) {
    expect_client_is_seen_through(i);
    EXPECT_EQ(tcp(host(i).ns(), "127.0.0.1"), MeshNet::inside(i));
    EXPECT_EQ(udp(host(i).ns(), MeshNet::underlay(i)), MeshNet::inside(i));
    EXPECT_THAT(repair(i), IsEmpty());
  }
  // Its own default route is not of the mesh.
  EXPECT_THAT(box_.run(ns, "ip route get 198.51.100.1"), HasSubstr("dev eth2"));
}

TEST_F(MeshNetworkTest, ContainersOfTheNodeAreClientsLikeOthers) {
  nodes(2);
  const std::string self = task(1, 2);
  publish({1});
  const std::string near = attach(2, container(50));
  const std::string far = attach(1, container(51));
  const auto bridged = [](int k) {
    return request(
        fmt::format("bridged{}", k),
        bridge_network("net-b", fmt::format("10.5{}.0.0/24", k), fmt::format("10.5{}.0.1", k)),
        fmt::format("10.5{}.0.2/24", k));
  };
  const std::string bridge_near = attach(2, bridged(2));
  const std::string bridge_far = attach(1, bridged(1));
  struct From {
    std::string netns;
    int node;
  };
  for (const From& from :
       {From{near, 2}, From{far, 1}, From{bridge_near, 2}, From{bridge_far, 1}, From{self, 2}}) {
    // Its address means something on its own node alone, so the node stands for it.
    EXPECT_EQ(tcp(from.netns, MeshNet::underlay(from.node)), MeshNet::inside(from.node))
        << from.netns;
    EXPECT_EQ(udp(from.netns, MeshNet::underlay(from.node)), MeshNet::inside(from.node))
        << from.netns;
  }
}

TEST_F(MeshNetworkTest, ATaskWithoutAWayOutAnswersStill) {
  nodes(2);
  const std::string ns = task(1, 2, /*internal=*/true);
  publish({1});
  for (int i = 1; i <= 2; ++i) expect_client_is_seen_through(i);
  EXPECT_EQ(box_.run(ns, "ip route show default"), "");
  box_.serve(box_.outside(), 9000, "outside");
  EXPECT_EQ(box_.ask(ns, kClient, 9000), "");
}

TEST_F(MeshNetworkTest, OneNodeAlone) {
  nodes(1);
  task(1, 1);
  publish({1});
  expect_client_is_seen_through(1);
  EXPECT_EQ(tcp(host(1).ns(), "127.0.0.1"), MeshNet::inside(1));
  EXPECT_EQ(box_.run(host(1).ns(), "ss -Hlun sport = :4789 | wc -l"), "0");
}

TEST_F(MeshNetworkTest, ServesWhileTheProcessIsAwayAndAfterwards) {
  nodes(2);
  task(1, 2);
  publish({1});
  for (int i = 1; i <= 2; ++i) close(i);
  for (int i = 1; i <= 2; ++i) expect_client_is_seen_through(i);
  for (int i = 1; i <= 2; ++i) {
    const Status made = host(i).in([&]() -> Status {
      NodeNetworkOptions options;
      options.instance_id = fmt::format("n{}", i);
      options.run_dir = box_.dir();
      MUSTER_ASSIGN(network(i), make_node_network(options, null_log()));
      // As an agent does that has not heard from managers yet.
      return network(i)->collect_garbage({i == 2 ? "task1" : "none"});
    });
    ASSERT_TRUE(made.ok()) << made.message();
  }
  publish({1});
  for (int i = 1; i <= 2; ++i) expect_client_is_seen_through(i);
  for (int i = 1; i <= 2; ++i) {
    const Status local = host(i).in([&] {
      return network(i)->set_local_node({MeshNet::node_id(i), MeshNet::underlay(i), 4789});
    });
    ASSERT_TRUE(local.ok()) << local.message();
    tell(i);
    expect_client_is_seen_through(i);
  }
}

// What published ports led from node 1 to tasks is stale once the task is gone, whoever has the
// task and whoever was there to see it: a client that takes the same port again would meet nobody.
TEST_F(MeshNetworkTest, ConnectionsAreForgottenWithTheTaskTheyWereLedTo) {
  nodes(2);
  for (int k = 1; k <= 4; ++k) net_.add_task(k, 2);
  tell(1);
  const auto server = [](int k) { return Ip::parse(MeshNet::task_address(k)); };
  const auto led = [&](int k, uint16_t port, uint8_t state) {
    return led_connection({*server(k), port, IPPROTO_TCP, state, true});
  };
  std::vector<Message> make;
  for (int k = 1; k <= 4; ++k)
    make.push_back(led(k, static_cast<uint16_t>(2000 + k), TCP_CONNTRACK_ESTABLISHED));
  make.push_back(led(2, 3000, TCP_CONNTRACK_FIN_WAIT));
  const auto conntrack = [&](const std::function<Status(NetlinkSocket&)>& work) {
    const Status done = host(1).in([&]() -> Status {
      MUSTER_ASSIGN(NetlinkSocket socket, NetlinkSocket::open(NETLINK_NETFILTER));
      return work(socket);
    });
    ASSERT_TRUE(done.ok()) << done.message();
  };
  conntrack([&](NetlinkSocket& socket) { return socket.run(make); });
  const auto count = [&] {
    return box_.run(host(1).ns(), "cat /proc/sys/net/netfilter/nf_conntrack_count");
  };
  const auto backends = [&] {
    std::set<Ip> out;
    conntrack([&](NetlinkSocket& socket) -> Status {
      MUSTER_ASSIGN(out, led_backends(socket, {*Prefix::parse("10.0.0.0/24")}));
      return ok_status();
    });
    return out;
  };
  const auto await = [&](const std::function<bool()>& what) {
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (!what() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    return what();
  };
  ASSERT_EQ(backends().size(), 4u);
  const std::string all = count();
  // Seen to have ended.
  net_.endpoints.erase("task1");
  tell(1);
  EXPECT_TRUE(await([&] { return !backends().contains(*server(1)); }));
  // On a node that is down: what the client has begun to end cannot come to its end.
  net_.endpoints["task2"].set_state(v1::ENDPOINT_ABSENT);
  tell(1);
  EXPECT_TRUE(await([&] { return std::stoi(count()) == std::stoi(all) - 2; }))
      << all << " " << count();
  EXPECT_TRUE(backends().contains(*server(2)));
  // While nobody is here.
  close(1);
  net_.endpoints.erase("task3");
  open(1);
  EXPECT_EQ(backends(), (std::set<Ip>{*server(2), *server(4)}));
  const Status forgot = host(1).in([&] { return network(1)->forget_network(net_.network.id()); });
  ASSERT_TRUE(forgot.ok()) << forgot.message();
  EXPECT_EQ(backends(), std::set<Ip>());
}

TEST_F(MeshNetworkTest, TheNodeIsToldWhoItIsAfterTheNetwork) {
  net_.add_node(1);
  hosts_.push_back(std::make_unique<MeshHost>(net_, 1));
  nets_.push_back(nullptr);
  const Status made = host(1).in([&]() -> Status {
    NodeNetworkOptions options;
    options.instance_id = "n1";
    options.run_dir = box_.dir();
    MUSTER_ASSIGN(network(1), make_node_network(options, null_log()));
    MUSTER_TRY(network(1)->apply(net_.everything()));
    return network(1)->set_local_node({MeshNet::node_id(1), MeshNet::underlay(1), 4789});
  });
  ASSERT_TRUE(made.ok()) << made.message();
  task(1, 1);
  publish({1});
  expect_client_is_seen_through(1);
}

TEST_F(MeshNetworkTest, ANetworkThatHasGrownLeadsToAllItsSubnets) {
  nodes(2);
  const std::string old_task = task(1, 2);
  publish({1});
  expect_client_is_seen_through(1);
  v1::IpamPool& pool = *net_.network.mutable_state()->add_pools();
  pool.set_subnet("10.0.9.0/24");
  pool.set_gateway("10.0.9.1");
  // A node and a task with addresses there.
  v1::IngressNode third;
  third.set_node_id(MeshNet::node_id(3));
  third.set_index(3);
  third.add_addresses("10.0.9.13");
  third.set_mac("02:42:0a:00:09:0d");
  third.set_data_path_addr(MeshNet::underlay(3));
  net_.nodes[MeshNet::node_id(3)] = third;
  hosts_.push_back(std::make_unique<MeshHost>(net_, 3));
  nets_.push_back(nullptr);
  open(3);
  net_.add_task(2, 3);
  v1::NetworkEndpoint& endpoint = net_.endpoints["task2"];
  endpoint.clear_addresses();
  endpoint.add_addresses("10.0.9.102");
  endpoint.set_mac(mac_of(*Ip::parse("10.0.9.102")));
  for (int i = 1; i <= 3; ++i) tell(i);
  ContainerNetworkRequest r = container(2);
  r.links.push_back({net_.network, {"10.0.9.102/24"}, ""});
  r.ports.push_back(mesh_port(PortConfig::TCP));
  const std::string new_task = attach(3, r);
  box_.serve(new_task, 8080, "new task");
  publish({1});
  // The container that was there has what one has that is made now.
  EXPECT_THAT(box_.run(old_task, "ip route show table 77"), HasSubstr("10.0.9.0/24 dev eth1"));
  EXPECT_THAT(box_.run(new_task, "ip route show table 77"), HasSubstr("10.0.0.0/24 dev eth1"));
  for (int i = 1; i <= 3; ++i) {
    // By every node to the old task, whose client may be the node of the new subnet itself.
    EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(i)), kClient) << i;
    EXPECT_THAT(repair(i), IsEmpty()) << i;
  }
  EXPECT_EQ(tcp(host(3).ns(), "127.0.0.1"), "10.0.9.13");
  EXPECT_EQ(tcp(host(1).ns(), "127.0.0.1"), MeshNet::inside(1));
  for (int i = 1; i <= 3; ++i) {
    const Status set = host(i).in([&] {
      return network(i)->set_published_ports({published(80, 8080, {"10.0.9.102"})}, nullptr);
    });
    ASSERT_TRUE(set.ok()) << set.message();
    EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(i)), "new task") << i;
    EXPECT_EQ(tcp(host(i).ns(), "127.0.0.1"), "new task") << i;
  }
  // What is taken away comes back, and a successor knows it.
  box_.run(host(1).ns(), "ip route del 10.0.9.0/24");
  EXPECT_THAT(repair(1), Contains(HasSubstr("had no route to 10.0.9.0/24")));
  box_.run(old_task, "ip route flush table 77");
  EXPECT_THAT(repair(2), Contains(HasSubstr("had no route to a subnet of network ingress")));
  close(1);
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(1)), "new task");
  open(1);
  EXPECT_THAT(repair(1), IsEmpty());
  EXPECT_EQ(tcp(box_.outside(), MeshNet::underlay(1)), "new task");
}

TEST_F(MeshNetworkTest, HarmIsMended) {
  nodes(2);
  task(1, 2);
  publish({1});
  box_.run(host(1).ns(), "nft flush ruleset");
  box_.run(host(2).ns(), "ip link del " + Names("n2").mesh());
  EXPECT_THAT(repair(1), Contains(HasSubstr("the host's rules of the routing mesh")));
  EXPECT_THAT(repair(2), Contains(HasSubstr("was missing")));
  for (int i = 1; i <= 2; ++i) {
    EXPECT_THAT(repair(i), IsEmpty());
    expect_client_is_seen_through(i);
  }
}

TEST_F(MeshNetworkTest, TeardownLeavesNothing) {
  nodes(2);
  task(1, 2);
  publish({1});
  for (int i = 1; i <= 2; ++i) {
    const Status gone = host(i).in([&] { return network(i)->teardown(); });
    ASSERT_TRUE(gone.ok()) << gone.message();
    EXPECT_EQ(box_.run(host(i).ns(), "nft list tables"), "");
    EXPECT_EQ(box_.run(host(i).ns(),
                       "for i in $(seq 400); do [ $(ip -o link | wc -l) = 2 ] && break; "
                       "busybox usleep 10000; done; ip -o link | wc -l"),
              "2");  // lo, eth0
    EXPECT_EQ(box_.run("", fmt::format("ls {}/n{} | wc -l", box_.dir(), i)), "0");
  }
}

}  // namespace
}  // namespace muster::overlay::testing
