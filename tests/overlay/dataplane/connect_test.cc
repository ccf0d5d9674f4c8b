#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/unique_fd.h"
#include "overlay/dataplane/container/subnet_routes.h"
#include "overlay/dataplane/kernel/namespaces.h"
#include "tests/overlay/dataplane/node_network_test.h"

// Running containers enter and leave networks, and networks get further subnets, on a real kernel.
namespace muster::overlay::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class ConnectTest : public NodeNetworkTest {
 protected:
  static ContainerLink link(const v1::Network& network, const std::string& cidr, bool by_hand) {
    return {network, {cidr}, "", by_hand};
  }
  void reconnect(ContainerNetworkRequest r) {
    bool left = false;
    const Status done = net_->reconnect(r, &left);
    EXPECT_TRUE(left);
    EXPECT_TRUE(done.ok()) << done.message();
  }
  // What the server of the container with this address says.
  std::string from(const std::string& ns, const std::string& address) {
    return box_.ask(ns, address, 8080);
  }
  std::string interfaces(const std::string& ns) {
    return box_.run(ns,
                    "ip -br -4 addr | awk '$1 != \"lo\" {sub(/@.*/, \"\", $1); print $1, $3}' | "
                    "sort | tr '\n' ' '");
  }
  void tell(const v1::Network& network, const std::string& vip = "",
            const std::vector<std::string>& ready = {}) {
    NetworkStep step{network.id(), true, {}};
    *step.feed.mutable_network() = network;
    if (!vip.empty()) {
      auto& service = *step.feed.add_services();
      service.set_service_id("web");
      service.set_name("web");
      service.add_virtual_ips(vip);
    }
    for (const std::string& address : ready) {
      auto& endpoint = *step.feed.add_endpoints();
      endpoint.set_task_id("task " + address);
      endpoint.set_service_id("web");
      endpoint.add_addresses(address);
      endpoint.set_state(v1::ENDPOINT_READY);
    }
    const Status applied = net_->apply(step);
    EXPECT_TRUE(applied.ok()) << applied.message();
  }
  void restart() {
    net_.reset();
    net_ = box_.make_network();
    ASSERT_NE(net_, nullptr) << box_.error();
    ASSERT_TRUE(net_->collect_garbage({"c1", "c2"}).ok());
  }

  v1::Network a_ = overlay_network("net-a", "10.50.0.0/24", "10.50.0.1");
  v1::Network b_ = overlay_network("net-b", "10.51.0.0/24", "10.51.0.1");
};

TEST_F(ConnectTest, ARunningContainerEntersAndLeavesANetworkWithItsVirtualAddresses) {
  ContainerNetworkRequest r = request("c1", a_, "10.50.0.2/24");
  const std::string one = attach(r);
  const std::string two = attach(request("c2", b_, "10.51.0.2/24"));
  box_.serve(two, 8080, "two");
  tell(a_);
  tell(b_, "10.51.0.200", {"10.51.0.2"});
  EXPECT_EQ(box_.ask(one, "10.51.0.2", 8080), "");
  const std::string before = interfaces(one);
  r.links.push_back(link(b_, "10.51.0.3/24", true));
  reconnect(r);
  EXPECT_THAT(interfaces(one), HasSubstr("eth2 10.51.0.3/24"));
  EXPECT_EQ(box_.ask(one, "10.51.0.2", 8080), "two");
  EXPECT_EQ(box_.ask(one, "10.51.0.200", 8080), "two");
  const std::string during = interfaces(one);
  reconnect(r);
  EXPECT_EQ(interfaces(one), during) << "a second time changes nothing";
  EXPECT_THAT(net_->repair(), IsEmpty());
  // The process dies; the next one knows what belongs where.
  restart();
  EXPECT_EQ(box_.ask(one, "10.51.0.2", 8080), "two");
  reconnect(r);
  EXPECT_EQ(interfaces(one), during);
  tell(a_);
  tell(b_, "10.51.0.200", {"10.51.0.2"});
  r.links.pop_back();
  reconnect(r);
  EXPECT_EQ(interfaces(one), before);
  EXPECT_EQ(box_.ask(one, "10.51.0.200", 8080), "");
  EXPECT_THAT(box_.run(one, "nft list map inet muster_vip services4"),
              Not(HasSubstr("10.51.0.200")));
  EXPECT_THAT(net_->repair(), IsEmpty());
  ASSERT_TRUE(net_->detach("c2").ok());
  EXPECT_EQ(box_.run("", "ls " + box_.dir() + "/n1/netns | grep -c net-net-b"), "0");
  r.links.push_back(link(b_, "10.51.0.3/24", true));
  ASSERT_TRUE(net_->detach("c1").ok());
  EXPECT_EQ(net_->reconnect(r, nullptr).code(), StatusCode::kNotFound);
  ASSERT_TRUE(net_->teardown().ok());
}

TEST_F(ConnectTest, AnInternalContainerGetsOutByANetworkThatLeadsOutAndNoLonger) {
  v1::Network shut = overlay_network("net-s", "10.52.0.0/24", "10.52.0.1", true);
  ContainerNetworkRequest r = request("c1", shut, "10.52.0.2/24");
  const std::string one = attach(r);
  box_.serve(box_.outside(), 8080, "outside");
  EXPECT_EQ(box_.ask(one, "192.0.2.2", 8080), "");
  r.links.push_back(link(b_, "10.51.0.3/24", true));
  reconnect(r);
  EXPECT_EQ(box_.ask(one, "192.0.2.2", 8080), "outside");
  reconnect(r);
  r.links.pop_back();
  reconnect(r);
  EXPECT_EQ(box_.ask(one, "192.0.2.2", 8080), "");
  EXPECT_EQ(interfaces(one), "eth0 10.52.0.2/24 ");
}

TEST_F(ConnectTest, AContainerWithoutIpv6GetsItWithANetworkThatHasIt) {
  v1::Network dual = overlay_network("net-d", "10.53.0.0/24", "10.53.0.1");
  auto* pool = dual.mutable_state()->add_pools();
  pool->set_subnet("fd00:53::/64");
  pool->set_gateway("fd00:53::1");
  dual.mutable_spec()->set_ipv6(true);
  ContainerNetworkRequest r = request("c1", a_, "10.50.0.2/24");
  const std::string one = attach(r);
  ContainerNetworkRequest other = request("c2", dual, "10.53.0.2/24");
  other.links[0].addresses.push_back("fd00:53::2/64");
  const std::string two = attach(other);
  ContainerLink added = link(dual, "10.53.0.3/24", true);
  added.addresses.push_back("fd00:53::3/64");
  r.links.push_back(added);
  box_.serve(one, 8080, "one");
  box_.serve(two, 8080, "two");
  reconnect(r);
  EXPECT_EQ(from(one, "fd00:53::2"), "two");
  EXPECT_EQ(from(two, "10.53.0.3"), "one");
}

TEST_F(ConnectTest, ContainersThatRunReachTheAddressesOfAFurtherSubnet) {
  const std::string one = attach(request("c1", a_, "10.50.0.2/24"));
  tell(a_);
  v1::Network grown = a_;
  auto* pool = grown.mutable_state()->add_pools();
  pool->set_subnet("10.50.9.0/24");
  pool->set_gateway("10.50.9.1");
  tell(grown);
  const std::string two = attach(request("c2", grown, "10.50.9.2/24"));
  box_.serve(one, 8080, "one");
  box_.serve(two, 8080, "two");
  EXPECT_EQ(from(one, "10.50.9.2"), "two");
  EXPECT_EQ(from(two, "10.50.0.2"), "one");
  EXPECT_EQ(box_.run(one, "ip route get 10.50.9.2 | head -1 | tr -s ' ' | sed 's/ uid.*//'"),
            "10.50.9.2 dev eth0 src 10.50.0.2");
  // Made with what the managers had said before.
  const std::string three = attach(request("c3", a_, "10.50.0.3/24"));
  EXPECT_EQ(from(three, "10.50.9.2"), "two");
  ASSERT_TRUE(net_->detach("c3").ok());
  EXPECT_THAT(net_->repair(), IsEmpty());
  box_.run(one, "ip route del 10.50.9.0/24");
  EXPECT_THAT(net_->repair(), Contains("container c1 had no route to a subnet of network net-a"));
  EXPECT_EQ(from(one, "10.50.9.2"), "two");
  // Whoever runs when the process was away.
  restart();
  box_.run(one, "ip route del 10.50.9.0/24");
  tell(grown);
  EXPECT_EQ(from(one, "10.50.9.2"), "two");
}

// A look at the kernel may come between what is told and what is done by it.
TEST_F(ConnectTest, ASubnetThatIsBeingAddedIsNotSaidToHaveBeenLacking) {
  const std::string one = attach(request("c1", a_, "10.50.0.2/24"));
  tell(a_);
  std::atomic<bool> over = false;
  std::vector<std::string> said;
  std::thread looks([&] {
    while (!over) {
      for (std::string& each : net_->repair()) said.push_back(std::move(each));
    }
  });
  v1::Network grown = a_;
  for (int i = 1; i <= 40; ++i) {
    auto* pool = grown.mutable_state()->add_pools();
    pool->set_subnet(fmt::format("10.51.{}.0/24", i));
    pool->set_gateway(fmt::format("10.51.{}.1", i));
    tell(grown);
    attach(request(fmt::format("d{}", i), grown, fmt::format("10.51.{}.2/24", i)));
  }
  over = true;
  looks.join();
  EXPECT_THAT(said, ::testing::IsEmpty());
  EXPECT_THAT(box_.run(one, "ip route show 10.51.40.0/24"), HasSubstr("eth0"));
}

TEST_F(ConnectTest, WhatContainersThatRunSendFitsThroughANetworkWhoseMtuHasBecomeSmaller) {
  const auto with_mtu = [&](uint32_t mtu) {
    v1::Network network = a_;
    network.mutable_state()->set_mtu(mtu);
    return network;
  };
  const auto mtu_of = [&](const std::string& ns, const char* interface) {
    return box_.run(
        ns, fmt::format("ip -o link show {} | sed 's/.*mtu \\([0-9]*\\).*/\\1/'", interface));
  };
  ContainerNetworkRequest both = request("c1", with_mtu(1450), "10.50.0.2/24");
  both.links.push_back(link(b_, "10.51.0.2/24", false));
  const std::string one = attach(both);
  const std::string two = attach(request("c2", with_mtu(1450), "10.50.0.3/24"));
  tell(with_mtu(1450), "10.50.0.200", {"10.50.0.3"});
  tell(b_);
  // Answers a line of any length by its length.
  box_.start(two, "exec socat TCP4-LISTEN:8080,fork SYSTEM:'while read -r l; do echo ${#l}; done'");
  box_.run(two,
           "for i in $(seq 200); do ss -Hltn sport = :8080 | grep -q . && exit; "
           "busybox usleep 10000; done");
  // A connection that runs meanwhile: its whole segments were lost.
  const std::string fifo = box_.dir() + "/fifo", out = box_.dir() + "/out";
  box_.run("", "mkfifo " + fifo);
  box_.start(one, fmt::format("exec socat - TCP:10.50.0.3:8080 <{} >{}", fifo, out));
  box_.start("", fmt::format("exec sleep 60 >{}", fifo));
  const auto say = [&](int length, int lines) {
    box_.run("", fmt::format("head -c {0} /dev/zero | tr '\\0' a >{1}; echo >{1}", length, fifo));
    return box_.run("", fmt::format("for i in $(seq 300); do [ $(wc -l <{0}) -ge {1} ] && break; "
                                    "busybox usleep 10000; done; tail -n1 {0}",
                                    out, lines));
  };
  EXPECT_EQ(say(1390, 1), "1390");
  tell(with_mtu(1300));
  EXPECT_EQ(mtu_of(one, "eth0"), "1300");
  EXPECT_EQ(mtu_of(two, "eth0"), "1300");
  EXPECT_EQ(mtu_of(one, "eth1"), "1450") << "another network's";
  EXPECT_EQ(say(1391, 2), "1391");
  // Made with what the managers had said before.
  const std::string three = attach(request("c3", with_mtu(1450), "10.50.0.4/24"));
  EXPECT_EQ(mtu_of(three, "eth0"), "1300");
  // A larger one is for those that come.
  tell(with_mtu(1400));
  EXPECT_EQ(mtu_of(one, "eth0"), "1300");
  EXPECT_EQ(say(1392, 3), "1392");
  // It became smaller while the process was away.
  restart();
  tell(with_mtu(1280));
  EXPECT_EQ(mtu_of(one, "eth0"), "1280");
  EXPECT_EQ(say(1393, 4), "1393");
}

// A namespace that nobody can open for now.
class LostPin {
 public:
  explicit LostPin(const std::string& path)
      : path_(path), namespace_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    EXPECT_EQ(umount2(path.c_str(), MNT_DETACH), 0);
    EXPECT_EQ(unlink(path.c_str()), 0);
    EXPECT_EQ(symlink(path.c_str(), path.c_str()), 0);
  }
  ~LostPin() {
    EXPECT_EQ(unlink(path_.c_str()), 0);
    const size_t slash = path_.rfind('/');
    NamespaceDir pins(path_.substr(0, slash));
    const Status back = pins.pin(path_.substr(slash + 1), namespace_.get());
    EXPECT_TRUE(back.ok()) << back.message();
  }

 private:
  std::string path_;
  UniqueFd namespace_;
};

TEST_F(ConnectTest, AnMtuThatOneContainerDidNotGetIsTriedAgain) {
  const std::string one = attach(request("c1", a_, "10.50.0.2/24"));
  const std::string two = attach(request("c2", a_, "10.50.0.3/24"));
  tell(a_);
  NetworkStep step{a_.id(), true, {}};
  *step.feed.mutable_network() = a_;
  step.feed.mutable_network()->mutable_state()->set_mtu(1300);
  {
    const LostPin lost(one);
    for (int time = 0; time < 2; ++time) {
      const Status applied = net_->apply(step);
      EXPECT_THAT(applied.message(), HasSubstr("container c1: cannot open"));
    }
  }
  EXPECT_THAT(box_.run(one, "ip link show eth0"), HasSubstr("mtu 1450"));
  EXPECT_THAT(box_.run(two, "ip link show eth0"), HasSubstr("mtu 1300"));
  const Status applied = net_->apply(step);
  EXPECT_TRUE(applied.ok()) << applied.message();
  EXPECT_THAT(box_.run(one, "ip link show eth0"), HasSubstr("mtu 1300"));
}

TEST_F(ConnectTest, NoContainerOfAGrownBridgeKeepsOthersFromStarting) {
  v1::Network network = bridge_network("net-w", "10.66.0.0/24", "10.66.0.1");
  const auto grow = [&](int n) {
    auto* pool = network.mutable_state()->add_pools();
    pool->set_subnet(fmt::format("10.66.{}.0/24", n));
    pool->set_gateway(fmt::format("10.66.{}.1", n));
  };
  const std::string one = attach(request("c1", network, "10.66.0.2/24"));
  const std::string two = attach(request("c2", network, "10.66.0.3/24"));
  box_.run(one, "ip link set eth0 down");
  grow(1);
  attach(request("c3", network, "10.66.1.2/24"));
  EXPECT_THAT(box_.run(two, "ip route"), HasSubstr("10.66.1.0/24 dev eth0"));
  box_.run(one, "ip link set eth0 up");
  net_->repair();
  EXPECT_THAT(box_.run(one, "ip route"), HasSubstr("10.66.1.0/24 dev eth0"));
  grow(2);
  {
    const LostPin lost(one);
    attach(request("c4", network, "10.66.2.2/24"));
  }
  EXPECT_THAT(box_.run(two, "ip route"), HasSubstr("10.66.2.0/24 dev eth0"));
  net_->repair();
  EXPECT_THAT(box_.run(one, "ip route"), HasSubstr("10.66.2.0/24 dev eth0"));
}

TEST(SubnetRoutes, OnlySubnetsWithoutAnAddressOfTheInterfaceNeedOne) {
  v1::Network network;
  const auto routes = [&](std::vector<const char*> addresses) {
    std::vector<Cidr> cidrs;
    for (const char* text : addresses) cidrs.push_back(*Cidr::parse(text));
    std::string out;
    const auto wanted = further_routes(network, cidrs, 3);
    for (const auto& r : *wanted) {
      EXPECT_EQ(r.interface, 3);
      EXPECT_FALSE(r.gateway);
      out += fmt::format("{} from {} ", r.destination.str(), r.source->str());
    }
    return out;
  };
  network.mutable_state()->add_pools()->set_subnet("10.1.0.0/24");
  network.mutable_state()->add_pools()->set_subnet("fd00::/64");
  EXPECT_FALSE(has_further_subnets(network));
  EXPECT_EQ(routes({"10.1.0.2/24", "fd00::2/64"}), "");
  network.mutable_state()->add_pools()->set_subnet("10.2.0.0/24");
  EXPECT_TRUE(has_further_subnets(network));
  EXPECT_EQ(routes({"10.1.0.2/24", "fd00::2/64"}), "10.2.0.0/24 from 10.1.0.2 ");
  EXPECT_EQ(routes({"10.2.0.2/24"}), "10.1.0.0/24 from 10.2.0.2 ");
  EXPECT_EQ(routes({"10.1.0.2/24", "10.2.0.2/24"}), "");
  EXPECT_EQ(routes({"fd00::2/64"}), "");
  network.mutable_state()->add_pools()->set_subnet("fd01::/64");
  EXPECT_EQ(routes({"10.1.0.2/24", "fd00::2/64"}),
            "10.2.0.0/24 from 10.1.0.2 fd01::/64 from fd00::2 ");
}

}  // namespace
}  // namespace muster::overlay::testing
