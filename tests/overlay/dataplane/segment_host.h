#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <sched.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "overlay/dataplane/esp/esp_tunnels.h"
#include "overlay/dataplane/kernel/links.h"
#include "overlay/dataplane/kernel/nft.h"
#include "overlay/dataplane/segment/segments.h"
#include "tests/overlay/dataplane/sandbox.h"

namespace muster::overlay::testing {

inline v1::Network overlay_network(const std::string& id, uint32_t vni) {
  v1::Network n;
  n.set_id(id);
  n.mutable_spec()->mutable_annotations()->set_name(id);
  n.mutable_spec()->set_driver("overlay");
  n.mutable_state()->set_vni(vni);
  return n;
}

inline v1::NetworkEndpoint endpoint(const std::string& task, int number, int node) {
  v1::NetworkEndpoint e;
  e.set_task_id(task);
  e.set_node_id(fmt::format("node{}", node));
  e.set_data_path_addr(fmt::format("192.168.50.{}", node));
  e.add_addresses(fmt::format("10.1.0.{}", number));
  e.add_addresses(fmt::format("fd10::{}", number));
  e.set_state(v1::ENDPOINT_READY);
  return e;
}

// A node: a namespace of its own on the underlay, 192.168.50.N and fd50::N at "u0".
class Host {
 public:
  Host(Sandbox& box, int number)
      : box_(box),
        number_(number),
        hosts_(box.dir() + "/hosts/netns"),
        pins_(fmt::format("{}/n{}/netns", box.dir(), number)),
        containers_(fmt::format("{}/c{}/netns", box.dir(), number)),
        names_(fmt::format("n{}", number)) {
    for (NamespaceDir* dir : {&hosts_, &pins_, &containers_}) {
      EXPECT_TRUE(dir->prepare().ok());
    }
    path = enter(hosts_, fmt::format("h{}", number), &rtnl_);
    box.run("", fmt::format("ip link add w{0} type veth peer name u0 netns {1} && "
                            "ip link set w{0} master under up",
                            number, path));
    box.run(path, fmt::format("sysctl -qw net.ipv6.conf.all.accept_dad=0; ip link set lo up; "
                              "ip addr add 192.168.50.{0}/24 dev u0; ip link set u0 up; "
                              "ip addr add fd50::{0}/64 dev u0 nodad",
                              number));
    restart();
    set_node(fmt::format("192.168.50.{}", number));
  }

  // As after kill -9: what is known is gone.
  void restart() {
    segments.reset();
    truths = {};
    if (esp) {
      esp.emplace(names_, *nft_, esp_options, null_log());
      here([&] { return esp->scan(); });
    }
    segments.emplace(names_, pins_, *rtnl_, null_log(), esp ? &*esp : nullptr);
    const Status scanned = segments->scan();
    EXPECT_TRUE(scanned.ok()) << scanned.message();
  }
  // From now on it encrypts what is to be encrypted.
  void encrypt() {
    here([&]() -> Status {
      MUSTER_ASSIGN(nft_, LibNft::make());
      return ok_status();
    });
    esp.emplace(names_, *nft_, esp_options, null_log());
    const LocalNode node = node_;
    restart();
    set_node(node.data_path_addr, node.data_path_port);
  }
  void set_keys(const Encryption& encryption) {
    here([&] { return esp->set_encryption(encryption); });
  }
  // In the host's namespace.
  void here(const std::function<Status()>& work) {
    const Status done = on_own_thread([&]() -> Status {
      const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
      if (setns(fd.get(), CLONE_NEWNET) != 0) return errno_status(errno, "setns");
      return work();
    });
    EXPECT_TRUE(done.ok()) << done.message();
  }
  void set_node(const std::string& address, uint32_t port = 4789) {
    node_ = {fmt::format("node{}", number_), address, port};
    follow();
    const Status set = segments->set_local_node(node_, truths);
    EXPECT_TRUE(set.ok()) << set.message();
  }

  // A container with the addresses of endpoint `number`; its namespace's path.
  std::string attach(const v1::Network& network, int number) {
    const std::string id = fmt::format("c{}", number);
    const auto place = segments->acquire(network, names_.veth(id, 0));
    EXPECT_TRUE(place) << place.error().message();
    if (!place) return "";
    std::optional<NetlinkSocket> inside;
    const std::string ns = enter(containers_, id, &inside);
    const UniqueFd fd(open(ns.c_str(), O_RDONLY | O_CLOEXEC));
    const Status made = place->inside->run(
        new_veth({names_.veth(id, 0), place->bridge_index, place->mtu, "eth0", 2,
                  mac_of(*Ip::parse(fmt::format("10.1.0.{}", number))), fd.get()}));
    EXPECT_TRUE(made.ok()) << made.message();
    box_.run(ns, fmt::format("ip link set lo up; ip link set eth0 up; ip addr add 10.1.0.{0}/16 "
                             "dev eth0; ip addr add fd10::{0}/64 dev eth0 nodad",
                             number));
    // The kernel opens the port when it comes to it.
    box_.run(segment(network.id()),
             fmt::format("for i in $(seq 200); do bridge link show dev {} | grep -q 'state "
                         "forwarding' && exit; busybox usleep 10000; done",
                         names_.veth(id, 0)));
    return ns;
  }
  void detach(int number) {
    const std::string id = fmt::format("c{}", number);
    EXPECT_TRUE(containers_.remove(id).ok());
    const Status gone = segments->release(names_.veth(id, 0));
    EXPECT_TRUE(gone.ok()) << gone.message();
  }
  std::string veth(int number) const { return names_.veth(fmt::format("c{}", number), 0); }

  Status step(const v1::Network& network, const std::vector<v1::NetworkEndpoint>& endpoints,
              const std::vector<std::string>& removed = {}, bool complete = false) {
    NetworkStep s{network.id(), complete, {}};
    *s.feed.mutable_network() = network;
    for (const auto& e : endpoints) *s.feed.add_endpoints() = e;
    for (const auto& r : removed) s.feed.add_removed_task_ids(r);
    return apply(s);
  }
  Status apply(const NetworkStep& s) {
    const NetworkDifference difference = truths.apply(s);
    follow();
    return segments->apply(*truths.find(s.network_id), difference);
  }
  std::vector<std::string> repair() {
    std::vector<std::string> said;
    if (esp) {
      here([&] {
        esp->repair(segments->tunnel_vnis(), said);
        return ok_status();
      });
    }
    segments->repair(said);
    return said;
  }
  // The path of the network's namespace.
  std::string segment(const std::string& network_id) const {
    return pins_.path(Segments::pin(network_id));
  }
  std::string pins() { return box_.run("", fmt::format("ls {}/n{}/netns", box_.dir(), number_)); }

  std::string path;
  NetworkTruths truths;
  EspOptions esp_options;
  std::optional<EspTunnels> esp;
  std::optional<Segments> segments;

 private:
  void follow() {
    if (esp) here([&] { return esp->set_use(esp_use(truths, node_)); });
  }
  static std::string enter(NamespaceDir& dir, const std::string& name,
                           std::optional<NetlinkSocket>* socket) {
    const Status entered = on_own_thread([&]() -> Status {
      bool created = false;
      MUSTER_TRY(dir.enter(name, &created));
      MUSTER_ASSIGN(*socket, NetlinkSocket::open(NETLINK_ROUTE));
      return ok_status();
    });
    EXPECT_TRUE(entered.ok()) << entered.message();
    return dir.path(name);
  }

  Sandbox& box_;
  int number_;
  NamespaceDir hosts_, pins_, containers_;
  Names names_;
  std::optional<NetlinkSocket> rtnl_;
  std::unique_ptr<LibNft> nft_;
  LocalNode node_;
};

class SegmentsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(box_.ok()) << box_.error();
    box_.run("", "ip link add under type bridge mcast_snooping 0 && ip link set under up");
    for (int i = 1; i <= 3; ++i) hosts_.push_back(std::make_unique<Host>(box_, i));
  }
  Host& host(int number) { return *hosts_[static_cast<size_t>(number - 1)]; }
  // To every node.
  void step(const std::vector<v1::NetworkEndpoint>& endpoints,
            const std::vector<std::string>& removed = {}, bool complete = false) {
    for (auto& h : hosts_) {
      const Status done = h->step(net_, endpoints, removed, complete);
      EXPECT_TRUE(done.ok()) << done.message();
    }
  }
  // At the first try.
  bool pings(const std::string& ns, const std::string& address) {
    const char* family = address.find(':') == std::string::npos ? "-4" : "-6";
    return box_.run(ns, fmt::format("busybox ping {} -c1 -W2 {} >/dev/null 2>&1 && echo yes",
                                    family, address)) == "yes";
  }
  // How many pieces the namespace has cut IPv4 packets into.
  std::string fragments(const std::string& ns) {
    return box_.run(ns, "awk '/^Ip: [0-9]/ {print $20}' /proc/net/snmp");
  }
  // Two containers, on nodes 1 and 2.
  void two_containers() {
    c1_ = host(1).attach(net_, 11);
    c2_ = host(2).attach(net_, 12);
    step({endpoint("t1", 11, 1), endpoint("t2", 12, 2)}, {}, true);
  }

  Sandbox box_;
  std::vector<std::unique_ptr<Host>> hosts_;
  v1::Network net_ = overlay_network("web", 4097);
  std::string c1_, c2_;
};

}  // namespace muster::overlay::testing
