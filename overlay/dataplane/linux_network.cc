#include "overlay/dataplane/linux_network.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "overlay/balancer/nft_balancer.h"
#include "overlay/dataplane/bridges.h"
#include "overlay/dataplane/flow_sweeper.h"
#include "overlay/dataplane/links.h"
#include "overlay/dataplane/names.h"
#include "overlay/dataplane/namespaces.h"
#include "overlay/dataplane/netlink.h"
#include "overlay/dataplane/network_truth.h"
#include "overlay/dataplane/nft.h"
#include "overlay/dataplane/published_ports.h"
#include "overlay/dataplane/ruleset.h"
#include "overlay/dataplane/sysctl.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {
namespace {

// More interfaces than this a container cannot have; bounds the search when one is removed.
constexpr size_t kLinksMax = 32;
// Index of the loopback in every fresh namespace, and of our first interface there.
constexpr int kLoopbackIndex = 1;
constexpr int kFirstIndex = 2;
// When what a container left is looked after again.
constexpr Duration kLingerTime = 2s;

// One interface, worked out before anything is touched.
struct LinkPlan {
  VethSpec veth;
  const v1::Network* network = nullptr;
  std::vector<Cidr> addresses;
  std::vector<Ip> default_gateways;
  bool exists = false;
};

class UniqueFd {
 public:
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&&) = delete;
  ~UniqueFd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

// A way into a container's namespace that needs no thread there.
struct Inside {
  NetlinkSocket socket;
  UniqueFd ns;
};

Result<std::vector<LinkPlan>> plan_links(const Names& names,
                                         const ContainerNetworkRequest& request) {
  if (request.links.size() > kLinksMax) {
    return fail(invalid_argument("a container can be in at most {} networks", kLinksMax));
  }
  std::vector<LinkPlan> plans;
  bool have_default = false;
  for (size_t i = 0; i < request.links.size(); ++i) {
    const ContainerLink& link = request.links[i];
    const std::string& name = link.network.spec().annotations().name();
    LinkPlan plan;
    plan.network = &link.network;
    for (const std::string& text : link.addresses) {
      MUSTER_ASSIGN(const Cidr cidr, Cidr::parse(text));
      plan.addresses.push_back(cidr);
    }
    if (plan.addresses.empty()) {
      return fail(failed_precondition("no address was given out in network {}", name));
    }
    MUSTER_ASSIGN(const uint32_t mtu, network_mtu(link.network));
    plan.veth = {names.veth(request.container_id, i),
                 0,
                 mtu,
                 fmt::format("eth{}", i),
                 kFirstIndex + static_cast<int>(i),
                 link.mac.empty() ? mac_of(plan.addresses.front().ip) : link.mac,
                 -1};
    if (!have_default && !link.network.spec().internal()) {
      for (const auto& pool : link.network.state().pools()) {
        MUSTER_ASSIGN(const Prefix subnet, Prefix::parse(pool.subnet()));
        const bool mine = std::any_of(plan.addresses.begin(), plan.addresses.end(),
                                      [&](const Cidr& c) { return subnet.contains(c.ip); });
        if (!mine) continue;
        MUSTER_ASSIGN(const Ip gateway, Ip::parse(pool.gateway()));
        plan.default_gateways.push_back(gateway);
        have_default = true;
      }
    }
    plans.push_back(std::move(plan));
  }
  return plans;
}

// Settings of a fresh namespace; runs inside it. The first two are what Docker gives: containers
// that do not run as root may bind low ports and send pings.
Status set_sysctls(const ContainerNetworkRequest& request, bool v6, bool created) {
  if (created) {
    MUSTER_TRY(write_sysctl("net.ipv4.ip_unprivileged_port_start", "0"));
    MUSTER_TRY(write_sysctl("net.ipv4.ping_group_range", "0 2147483647"));
    // Interfaces without an IPv6 address get none of their own: saves detection of duplicates and
    // keeps applications from trying IPv6 first.
    if (v6) {
      // The allocator sees to it that addresses are unique; probing would cost a second or two in
      // which nothing is sent.
      MUSTER_TRY(write_sysctl("net.ipv6.conf.default.accept_dad", "0"));
      MUSTER_TRY(write_sysctl("net.ipv6.conf.default.dad_transmits", "0"));
    }
    if (!v6 && kernel_has_ipv6()) (void)write_sysctl("net.ipv6.conf.default.disable_ipv6", "1");
  }
  for (const auto& sysctl : request.sysctls) {
    if (!sysctl.key().starts_with("net.") && !sysctl.key().starts_with("net/")) {
      return invalid_argument("sysctl {} is not of the network", sysctl.key());
    }
    MUSTER_TRY(write_sysctl(sysctl.key(), sysctl.value()));
  }
  return ok_status();
}

class LinuxNetwork final : public NodeNetwork {
 public:
  LinuxNetwork(const NodeNetworkOptions& options, NetlinkSocket rtnl, NetlinkSocket conntrack,
               std::unique_ptr<LibNft> nft, Log log)
      : names_(options.instance_id),
        pins_(fmt::format("{}/{}/netns", options.run_dir, options.instance_id)),
        rtnl_(std::move(rtnl)),
        nft_(std::move(nft)),
        log_(log),
        sweeper_(std::move(conntrack), log),
        balancer_(*nft_, names_.table()),
        bridges_(names_, rtnl_, *nft_, log),
        ports_(balancer_, sweeper_, log) {}
  // What waits on the sweeper's thread uses the rest.
  ~LinuxNetwork() override { sweeper_.stop(); }

  Status open() {
    std::lock_guard lock(mutex_);
    return open_locked();
  }

  Result<std::string> attach(const ContainerNetworkRequest& request) override;
  Status detach(const std::string& container_id) override;
  Status set_published_ports(const std::vector<PublishedPort>& ports,
                             std::vector<v1::PortConfig>* conflicts) override;
  Status set_local_node(const LocalNode& node) override;
  Status apply(const NetworkStep& step) override;
  Status forget_network(const std::string& network_id) override;
  std::vector<std::string> repair() override;
  Result<uint32_t> reserve_host_port(v1::PortConfig::Protocol protocol) override {
    std::lock_guard lock(mutex_);
    return ports_.reserve(protocol);
  }
  Status collect_garbage(const std::vector<std::string>& live_container_ids) override;
  Status teardown() override;

 private:
  Status ensure_table();
  Status attach_links(const ContainerNetworkRequest& request, std::vector<LinkPlan>& plans);
  Status make_links(std::vector<LinkPlan>& plans, int namespace_fd);
  Status detach_locked(const std::string& container_id);
  void delete_lingering(const std::vector<std::string>& veths);

  Status open_locked() {
    MUSTER_TRY(pins_.prepare());
    MUSTER_TRY(bridges_.scan());
    MUSTER_TRY(ensure_table());
    torn_down_ = false;
    return ok_status();
  }
  // A node that left a swarm may enter the next one.
  Status reopen() {
    std::lock_guard lock(mutex_);
    return torn_down_ ? open_locked() : ok_status();
  }

  Names names_;
  NamespaceDir pins_;
  std::mutex mutex_;  // guards all that follows; never held while a namespace is made
  NetlinkSocket rtnl_;
  std::unique_ptr<LibNft> nft_;
  Log log_;
  FlowSweeper sweeper_;
  NftBalancer balancer_;
  Bridges bridges_;
  PublishedPorts ports_;
  std::set<std::string> attached_;  // names of veths made or found by attach()
  std::map<std::string, std::vector<std::string>> addresses_;  // by container
  LocalNode node_;
  NetworkTruths truths_;
  bool torn_down_ = false;
};

// Makes our table when it is missing (a first start, a firewall that flushed everything) or of
// another version, and learns what it holds.
Status LinuxNetwork::ensure_table() {
  const auto listing = nft_->list(names_.table());
  if (!listing && listing.error().code() != StatusCode::kNotFound) return listing.error();
  const std::string marker = fmt::format("\"name\": \"{}\"", ruleset_marker());
  if (!listing || listing->find(marker) == std::string::npos) {
    if (Status made = nft_->run(base_ruleset(names_.table())); !made.ok()) {
      return failed_precondition(
          "cannot set up network rules, the kernel needs nftables with NAT "
          "(modules nf_tables, nft_chain_nat, nft_fib_inet): {}",
          made.message());
    }
  }
  MUSTER_TRY(bridges_.restore_rules());
  return balancer_.load();
}

Status LinuxNetwork::make_links(std::vector<LinkPlan>& plans, int namespace_fd) {
  std::lock_guard lock(mutex_);
  // With br_netfilter on, a frame whose destination becomes another port of its bridge is bridged
  // there, not routed; to a container that calls itself through a published port it has to go back
  // where it came from.
  const auto bridged = read_sysctl("net.bridge.bridge-nf-call-iptables");
  const bool hairpin = bridged && *bridged == "1";
  // A second time round, in case somebody else removed a bridge we knew.
  for (const bool again : {false, true}) {
    std::vector<Message> batch;
    std::vector<Message> clean;
    for (LinkPlan& plan : plans) {
      MUSTER_ASSIGN(plan.veth.master, bridges_.acquire(*plan.network, plan.veth.host_name));
      attached_.insert(plan.veth.host_name);
      if (plan.exists) continue;
      plan.veth.namespace_fd = namespace_fd;
      batch.push_back(new_veth(plan.veth));
      if (hairpin) batch.push_back(set_hairpin(plan.veth.host_name));
      clean.push_back(delete_link(plan.veth.host_name));
    }
    const Status made = rtnl_.run(batch);
    if (made.ok() || again) return made;
    // Left by a container of the same name whose namespace is on its way out, or half made.
    MUSTER_TRY(rtnl_.run(clean));
    MUSTER_TRY(bridges_.scan());
  }
  return ok_status();
}

// Makes the container's namespace, or finds the one it has. On a thread of its own.
Status prepare_namespace(NamespaceDir& pins, const ContainerNetworkRequest& request,
                         std::vector<LinkPlan>& plans, std::optional<Inside>& inside) {
  bool created = false;
  MUSTER_TRY(pins.enter(request.container_id, &created));
  const bool v6 = std::any_of(plans.begin(), plans.end(), [](const LinkPlan& p) {
    return std::any_of(p.addresses.begin(), p.addresses.end(),
                       [](const Cidr& c) { return c.ip.v6; });
  });
  MUSTER_TRY(set_sysctls(request, v6, created));
  MUSTER_ASSIGN(NetlinkSocket socket, NetlinkSocket::open(NETLINK_ROUTE));
  UniqueFd fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return errno_status(errno, "cannot open a network namespace");
  for (LinkPlan& plan : plans) {
    if (created) continue;
    MUSTER_ASSIGN(const auto there, find_link(socket, plan.veth.peer_name));
    plan.exists = there.has_value();
    plan.veth.peer_index = there ? there->index : 0;
  }
  inside.emplace(Inside{std::move(socket), std::move(fd)});
  return ok_status();
}

Status configure_inside(NetlinkSocket& inside, std::vector<LinkPlan>& plans) {
  std::vector<Message> batch;
  batch.push_back(set_up(kLoopbackIndex));
  for (LinkPlan& plan : plans) {
    if (plan.veth.peer_index == 0) {
      MUSTER_ASSIGN(const auto there, find_link(inside, plan.veth.peer_name));
      if (!there) return internal_error("interface {} vanished", plan.veth.peer_name);
      plan.veth.peer_index = there->index;
    }
    for (const Cidr& address : plan.addresses) {
      batch.push_back(add_address(plan.veth.peer_index, address));
    }
    batch.push_back(set_up(plan.veth.peer_index));
    for (const Ip& gateway : plan.default_gateways) {
      batch.push_back(add_default_route(plan.veth.peer_index, gateway));
    }
  }
  return inside.run(batch);
}

Status LinuxNetwork::attach_links(const ContainerNetworkRequest& request,
                                  std::vector<LinkPlan>& plans) {
  std::optional<Inside> inside;
  MUSTER_TRY(on_own_thread([&] { return prepare_namespace(pins_, request, plans, inside); }));
  MUSTER_TRY(make_links(plans, inside->ns.get()));
  return configure_inside(inside->socket, plans);
}

Result<std::string> LinuxNetwork::attach(const ContainerNetworkRequest& request) {
  MUSTER_ASSIGN(std::vector<LinkPlan> plans, plan_links(names_, request));
  MUSTER_TRY(reopen());
  if (const Status done = attach_links(request, plans); !done.ok()) {
    (void)detach(request.container_id);
    return fail(done.with_context("cannot make the container's network"));
  }
  std::lock_guard lock(mutex_);
  auto& addresses = addresses_[request.container_id];
  addresses.clear();
  for (const LinkPlan& plan : plans) {
    for (const Cidr& cidr : plan.addresses) addresses.push_back(cidr.ip.str());
  }
  return pins_.path(request.container_id);
}

Status LinuxNetwork::detach_locked(const std::string& container_id) {
  std::vector<std::string> veths;
  for (size_t i = 0; i < kLinksMax; ++i) {
    const std::string veth = names_.veth(container_id, i);
    const bool known =
        std::any_of(bridges_.all().begin(), bridges_.all().end(),
                    [&](const auto& entry) { return entry.second.ports.count(veth) != 0; });
    if (known) veths.push_back(veth);
  }
  for (const std::string& veth : veths) {
    attached_.erase(veth);
    MUSTER_TRY(bridges_.release(veth));
  }
  // The interfaces go with their namespace, which the kernel clears away in the background and in
  // batches; deleting each here would cost 20 ms. Later is looked whether a process still held it.
  if (!veths.empty()) {
    sweeper_.strand().after(kLingerTime, [this, veths] { delete_lingering(veths); });
  }
  const auto addresses = addresses_.extract(container_id);
  if (!addresses.empty()) ports_.forget_addresses(addresses.mapped());
  return ok_status();
}

void LinuxNetwork::delete_lingering(const std::vector<std::string>& veths) {
  std::lock_guard lock(mutex_);
  for (const std::string& veth : veths) {
    // Not if a container of the same name has come meanwhile.
    if (attached_.count(veth) != 0) continue;
    Status gone = rtnl_.run(delete_link(veth));
    if (gone.ok()) gone = bridges_.release(veth);
    if (!gone.ok()) log_->warn("interface {}: {}", veth, gone.message());
  }
}

Status LinuxNetwork::detach(const std::string& container_id) {
  // Takes some milliseconds in which nobody else needs to wait.
  MUSTER_TRY(pins_.remove(container_id));
  std::lock_guard lock(mutex_);
  return detach_locked(container_id).with_context("network of " + container_id);
}

Status LinuxNetwork::set_published_ports(const std::vector<PublishedPort>& ports,
                                         std::vector<v1::PortConfig>* conflicts) {
  MUSTER_TRY(reopen());
  std::lock_guard lock(mutex_);
  Status set = ports_.set(ports, conflicts);
  if (set.code() != StatusCode::kNotFound) return set;
  log_->warn("the network rules of this node were gone and are made anew: {}", set.message());
  MUSTER_TRY(ensure_table());
  return ports_.set(ports, conflicts);
}

Status LinuxNetwork::set_local_node(const LocalNode& node) {
  std::lock_guard lock(mutex_);
  node_ = node;
  return ok_status();
}

Status LinuxNetwork::apply(const NetworkStep& step) {
  std::lock_guard lock(mutex_);
  truths_.apply(step);
  return ok_status();
}

Status LinuxNetwork::forget_network(const std::string& network_id) {
  std::lock_guard lock(mutex_);
  truths_.forget(network_id);
  return ok_status();
}

std::vector<std::string> LinuxNetwork::repair() {
  return {};
}

Status LinuxNetwork::collect_garbage(const std::vector<std::string>& live_container_ids) {
  std::lock_guard lock(mutex_);
  const std::set<std::string> live(live_container_ids.begin(), live_container_ids.end());
  MUSTER_ASSIGN(const auto pinned, pins_.list());
  for (const std::string& name : pinned) {
    if (live.count(name) == 0) MUSTER_TRY(pins_.remove(name));
  }
  std::set<std::string> keep;
  for (const std::string& name : live) {
    for (size_t i = 0; i < kLinksMax; ++i) keep.insert(names_.veth(name, i));
  }
  for (auto it = addresses_.begin(); it != addresses_.end();) {
    it = live.count(it->first) == 0 ? addresses_.erase(it) : std::next(it);
  }
  return bridges_.sweep(keep);
}

Status LinuxNetwork::teardown() {
  (void)set_published_ports({}, nullptr);
  MUSTER_TRY(collect_garbage({}));
  std::lock_guard lock(mutex_);
  MUSTER_TRY(nft_->run(delete_ruleset(names_.table())));
  torn_down_ = true;
  return pins_.remove_directory();
}

}  // namespace

Result<std::unique_ptr<NodeNetwork>> make_node_network(const NodeNetworkOptions& options, Log log) {
  if (options.instance_id.empty() || options.instance_id.find('/') != std::string::npos) {
    return fail(invalid_argument("\"{}\" is not an instance id", options.instance_id));
  }
  if (geteuid() != 0) return fail(permission_denied("container networks need root"));
  MUSTER_ASSIGN(NetlinkSocket rtnl, NetlinkSocket::open(NETLINK_ROUTE));
  MUSTER_ASSIGN(NetlinkSocket conntrack, FlowSweeper::open_socket());
  MUSTER_ASSIGN(auto nft, LibNft::make());
  auto network = std::make_unique<LinuxNetwork>(options, std::move(rtnl), std::move(conntrack),
                                                std::move(nft), std::move(log));
  MUSTER_TRY(network->open());
  return network;
}

}  // namespace muster::overlay
