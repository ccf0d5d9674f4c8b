// The hosts of mesh_test.cc.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <sched.h>
#include <unistd.h>

#include <future>

#include "overlay/dataplane/container/mesh_task.h"
#include "overlay/dataplane/host/ruleset.h"
#include "overlay/dataplane/kernel/links.h"
#include "tests/overlay/dataplane/mesh_host.h"

namespace muster::overlay::testing {

MeshNet::MeshNet(Sandbox& sandbox) : box(sandbox) {
  network.set_id("ingress-network");
  network.mutable_spec()->mutable_annotations()->set_name("ingress");
  network.mutable_spec()->set_driver("overlay");
  network.mutable_spec()->set_ingress(true);
  network.mutable_state()->set_vni(4097);
  network.mutable_state()->set_mtu(1450);
  for (const auto& [subnet, gateway] :
       {std::pair{"10.0.0.0/24", "10.0.0.1"}, std::pair{"fd54::/64", "fd54::1"}}) {
    auto* pool = network.mutable_state()->add_pools();
    pool->set_subnet(subnet);
    pool->set_gateway(gateway);
  }
  box.run("",
          "ip link add ul type bridge && ip addr add 192.168.50.254/24 dev ul && "
          "ip addr add fd50::fe/64 dev ul nodad && ip link set ul up && "
          "ip addr add 2001:db8:99::1/64 dev up0 nodad && "
          "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 && "
          // The wire between the nodes is no business of this namespace's rules.
          "sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0");
  box.run(box.outside(),
          "ip addr add 2001:db8:99::2/64 dev eth0 nodad && "
          "ip route add default via 192.0.2.1 && ip -6 route add default via 2001:db8:99::1");
}

void MeshNet::add_node(int i) {
  v1::IngressNode node;
  node.set_node_id(node_id(i));
  node.set_index(static_cast<uint32_t>(i));
  node.add_addresses(inside(i));
  node.add_addresses(fmt::format("fd54::{}", 10 + i));
  node.set_mac(mac_of(*Ip::parse(inside(i))));
  node.set_data_path_addr(underlay(i));
  nodes[node_id(i)] = node;
}

void MeshNet::remove_node(int i) {
  nodes.erase(node_id(i));
}

void MeshNet::add_task(int k, int i) {
  v1::NetworkEndpoint endpoint;
  endpoint.set_task_id(fmt::format("task{}", k));
  endpoint.set_node_id(node_id(i));
  endpoint.add_addresses(task_address(k));
  endpoint.add_addresses(task_address6(k));
  endpoint.set_mac(mac_of(*Ip::parse(task_address(k))));
  endpoint.set_state(v1::ENDPOINT_READY);
  endpoint.set_data_path_addr(underlay(i));
  endpoints[endpoint.task_id()] = endpoint;
}

NetworkStep MeshNet::everything() const {
  NetworkStep step;
  step.network_id = network.id();
  step.complete = true;
  *step.feed.mutable_network() = network;
  for (const auto& [id, node] : nodes) *step.feed.add_ingress_nodes() = node;
  for (const auto& [id, endpoint] : endpoints) *step.feed.add_endpoints() = endpoint;
  return step;
}

MeshHost::MeshHost(MeshNet& net, int number)
    : net_(net), number_(number), ns_(fmt::format("{}/host{}/netns/host", net.box.dir(), number)) {
  net.box.run("", fmt::format("mkdir -p {0}/host{1}/netns && : > {2} && unshare --net={2} true && "
                              "ip link add n{1} type veth peer name eth0 netns {2} && "
                              "ip link set n{1} master ul up",
                              net.box.dir(), number, ns_));
  net.box.run(ns_, fmt::format("sysctl -qw net.ipv6.conf.all.accept_dad=0 "
                               "net.ipv6.conf.default.accept_dad=0; ip link set lo up; "
                               "ip addr add {}/24 dev eth0; ip addr add {}/64 dev eth0 nodad; "
                               "ip link set eth0 up; ip route add default via 192.168.50.254; "
                               "ip -6 route add default via fd50::fe",
                               MeshNet::underlay(number), MeshNet::underlay6(number)));
}

Status MeshHost::in(const std::function<Status()>& work) {
  return on_own_thread([&] {
    const UniqueFd fd(::open(ns_.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd || setns(fd.get(), CLONE_NEWNET) != 0) return internal_error("no namespace {}", ns_);
    return work();
  });
}

Status MeshHost::open() {
  truths_ = {};
  return in([&]() -> Status {
    const std::string instance = fmt::format("n{}", number_);
    names_ = std::make_unique<Names>(instance);
    pins_ = std::make_unique<NamespaceDir>(fmt::format("{}/{}/netns", net_.box.dir(), instance));
    MUSTER_TRY(pins_->prepare());
    MUSTER_ASSIGN(auto rtnl, NetlinkSocket::open(NETLINK_ROUTE));
    rtnl_ = std::make_unique<NetlinkSocket>(std::move(rtnl));
    MUSTER_ASSIGN(nft_, LibNft::make());
    MUSTER_ASSIGN(auto conntrack, FlowSweeper::open_socket());
    sweeper_ = std::make_unique<FlowSweeper>(std::move(conntrack), null_log());
    balancer_ = std::make_unique<NftBalancer>(*nft_, names_->table());
    ports_ = std::make_unique<PublishedPorts>(*balancer_, *sweeper_, null_log());
    if (!nft_->list(names_->table())) {
      MUSTER_TRY(nft_->run(base_ruleset(names_->table(), "mgo*", "mgi*")));
    }
    MUSTER_TRY(balancer_->load());
    segments_ = std::make_unique<Segments>(*names_, *pins_, *rtnl_, null_log());
    MUSTER_TRY(segments_->scan());
    mesh_ = std::make_unique<Mesh>(*names_, *pins_, *rtnl_, *nft_, *segments_, null_log());
    return segments_->set_local_node({MeshNet::node_id(number_), MeshNet::underlay(number_), 4789},
                                     truths_);
  });
}

void MeshHost::close() {
  mesh_.reset();
  segments_.reset();
  ports_.reset();
  balancer_.reset();
  sweeper_.reset();
  nft_.reset();
  rtnl_.reset();
}

Status MeshHost::tell() {
  return tell(net_.everything());
}

Status MeshHost::tell(const NetworkStep& step) {
  return in([&]() -> Status {
    const NetworkDifference difference = truths_.apply(step);
    const NetworkTruth* truth = truths_.find(step.network_id);
    MUSTER_TRY(segments_->apply(*truth, difference));
    return mesh_->apply(*truth, difference, MeshNet::node_id(number_));
  });
}

void MeshHost::settle() {
  std::promise<void> done;
  sweeper_->strand().post([&] { done.set_value(); });
  done.get_future().wait();
}

std::string MeshHost::task(int k, const std::vector<v1::PortConfig>& ports) {
  const std::string id = fmt::format("task{}", k);
  const std::vector<Cidr> addresses = {*Cidr::parse(MeshNet::task_address(k) + "/24"),
                                       *Cidr::parse(MeshNet::task_address6(k) + "/64")};
  const Status made = in([&]() -> Status {
    UniqueFd ns;
    std::unique_ptr<NetlinkSocket> inside;
    MUSTER_TRY(on_own_thread([&]() -> Status {
      bool created = false;
      MUSTER_TRY(pins_->enter(id, &created));
      MUSTER_TRY(set_mesh_task_sysctls());
      MUSTER_ASSIGN(auto socket, NetlinkSocket::open(NETLINK_ROUTE));
      inside = std::make_unique<NetlinkSocket>(std::move(socket));
      ns = UniqueFd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
      return ok_status();
    }));
    const std::string port = names_->veth(id, 0);
    MUSTER_ASSIGN(const auto place, segments_->acquire(net_.network, port));
    MUSTER_TRY(mesh_->expect_task());
    MUSTER_TRY(place.inside->run(new_veth(
        {port, place.bridge_index, place.mtu, "eth0", 0, mac_of(addresses[0].ip), ns.get()})));
    MUSTER_ASSIGN(const auto link, find_link(*inside, "eth0"));
    if (!link) return internal_error("no interface");
    const int index = link->index;
    std::vector<Message> batch;
    batch.push_back(set_up(1));
    for (const Cidr& address : addresses) batch.push_back(add_address(index, address));
    batch.push_back(set_up(index));
    MUSTER_TRY(inside->run(batch));
    MUSTER_ASSIGN(const MeshTask plan, plan_mesh_task(net_.network, addresses, index, ports));
    // Twice: a container that is there is completed.
    MUSTER_TRY(inside->run(mesh_task_requests(plan)));
    return inside->run(mesh_task_requests(plan));
  });
  EXPECT_TRUE(made.ok()) << made.message();
  const std::string path = pins_->path(id);
  net_.box.run(path,
               "ip link add eth1 type dummy && ip addr add 172.30.0.2/24 dev eth1 && "
               "ip addr add fd30::2/64 dev eth1 nodad && ip link set eth1 up && "
               "ip route add default via 172.30.0.1 && ip -6 route add default via fd30::1");
  return path;
}

Status MeshHost::publish(const std::vector<PublishedPort>& ports) {
  return in([&] { return ports_->set(ports, nullptr); });
}

std::vector<std::string> MeshHost::repair() {
  std::vector<std::string> said;
  (void)in([&] {
    mesh_->repair(said);
    return ok_status();
  });
  return said;
}

Status MeshHost::forget() {
  return in([&]() -> Status {
    truths_.forget(net_.network.id());
    MUSTER_TRY(mesh_->forget(net_.network.id()));
    return segments_->forget(net_.network.id());
  });
}

Status MeshHost::remove() {
  return in([&]() -> Status {
    MUSTER_TRY(mesh_->remove());
    return segments_->sweep({});
  });
}

v1::PortConfig mesh_port(v1::PortConfig::Protocol protocol) {
  v1::PortConfig out;
  out.set_protocol(protocol);
  out.set_target_port(8080);
  out.set_published_port(80);
  return out;
}

std::vector<std::string> mesh_backends(const std::vector<int>& tasks) {
  std::vector<std::string> out;
  for (const int k : tasks) {
    out.push_back(MeshNet::task_address(k));
    out.push_back(MeshNet::task_address6(k));
  }
  return out;
}

void serve_clients_address(Sandbox& box, const std::string& ns) {
  for (const char* server :
       {"TCP4-LISTEN:8080,fork,reuseaddr", "TCP6-LISTEN:8080,fork,reuseaddr,ipv6only=1"}) {
    box.start(ns, fmt::format("exec socat -t20 {} SYSTEM:'echo $SOCAT_PEERADDR'", server));
  }
  for (const char* server : {"UDP4-RECVFROM:8080,fork", "UDP6-RECVFROM:8080,fork,ipv6only=1"}) {
    box.start(ns, fmt::format("exec socat -t20 {} SYSTEM:'read x; echo $SOCAT_PEERADDR'", server));
  }
  box.start(ns, "exec socat TCP4-LISTEN:8081,fork,reuseaddr EXEC:cat");
  box.run(ns,
          "for i in $(seq 300); do [ $(ss -Hltun | wc -l) = 5 ] && exit; "
          "busybox usleep 10000; done");
}

}  // namespace muster::overlay::testing
