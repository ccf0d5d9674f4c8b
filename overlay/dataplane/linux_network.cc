#include "overlay/dataplane/linux_network.h"

#include <linux/netlink.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "overlay/balancer/nft_balancer.h"
#include "overlay/dataplane/attach_plan.h"
#include "overlay/dataplane/bridges.h"
#include "overlay/dataplane/client_balancers.h"
#include "overlay/dataplane/container_namespace.h"
#include "overlay/dataplane/flow_sweeper.h"
#include "overlay/dataplane/gateway.h"
#include "overlay/dataplane/links.h"
#include "overlay/dataplane/local_ranges.h"
#include "overlay/dataplane/mesh.h"
#include "overlay/dataplane/names.h"
#include "overlay/dataplane/namespaces.h"
#include "overlay/dataplane/netlink.h"
#include "overlay/dataplane/network_truth.h"
#include "overlay/dataplane/nft.h"
#include "overlay/dataplane/published_ports.h"
#include "overlay/dataplane/ruleset.h"
#include "overlay/dataplane/segments.h"
#include "overlay/dataplane/sysctl.h"

namespace muster::overlay {
namespace {

// When what a container left is looked after again.
constexpr Duration kLingerTime = 2s;

// The host's end of an interface of a container, and where it is.
struct HostEnd {
  std::string name;
  std::string network_id;  // of the segment it is in; empty: the host's namespace
};

// Two locks, so that work on overlay networks and on the host's own part do not wait for each
// other: overlay_mutex_ comes first where both are held.
class LinuxNetwork final : public NodeNetwork {
 public:
  LinuxNetwork(const NodeNetworkOptions& options, NetlinkSocket rtnl, NetlinkSocket overlay_rtnl,
               NetlinkSocket conntrack, std::unique_ptr<LibNft> nft,
               std::unique_ptr<LibNft> overlay_nft, Log log)
      : names_(options.instance_id),
        pins_(fmt::format("{}/{}/netns", options.run_dir, options.instance_id)),
        log_(log),
        overlay_rtnl_(std::move(overlay_rtnl)),
        segments_(names_, pins_, overlay_rtnl_, log),
        overlay_nft_(std::move(overlay_nft)),
        mesh_(names_, pins_, overlay_rtnl_, *overlay_nft_, segments_, log),
        rtnl_(std::move(rtnl)),
        nft_(std::move(nft)),
        sweeper_(std::move(conntrack), log),
        clients_(sweeper_.strand(), log),
        balancer_(*nft_, names_.table()),
        bridges_(names_, rtnl_, *nft_, log),
        gateway_(
            names_, rtnl_, *nft_,
            [id = options.instance_id, resolvers = options.resolvers] {
              return local_ranges(id, resolvers());
            },
            log),
        ports_(balancer_, sweeper_, log) {}
  // What waits on the sweeper's thread uses the rest.
  ~LinuxNetwork() override { sweeper_.stop(); }

  Status open();

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
  void repair_table(std::vector<std::string>& said);
  Status adopt_containers();
  Status adopt_clients();
  Status apply_mesh(const NetworkDifference& difference);
  Status reach_tasks();
  Status attach_links(const ContainerNetworkRequest& request, AttachPlan& plan);
  Status expect_links(AttachPlan& plan);
  Status make_segment_links(AttachPlan& plan, int namespace_fd);
  Status make_segment_link(LinkPlan& link, int namespace_fd);
  Status make_host_links(const ContainerNetworkRequest& request, AttachPlan& plan,
                         int namespace_fd);
  Status make_bridge_links(AttachPlan& plan, int namespace_fd);
  Status make_way(const std::string& container_id, const AttachPlan& plan, LinkPlan& link,
                  int namespace_fd);
  Result<std::vector<Prefix>> network_ranges(const ContainerNetworkRequest& request);
  void remember(const std::string& container_id, const std::vector<Ip>& addresses);
  std::vector<std::string> host_ends(const std::string& container_id) const;
  void delete_lingering(const std::vector<HostEnd>& ends);
  void delete_lingering_port(const HostEnd& end);
  bool attached(const std::string& end);
  void warn_of_overlap(const v1::Network& network);

  // A node that left a swarm may enter the next one.
  Status reopen();

  Names names_;
  NamespaceDir pins_;
  Log log_;

  std::mutex overlay_mutex_;  // guards the following; never held while a container's namespace is
                              // made
  NetlinkSocket overlay_rtnl_;
  Segments segments_;
  std::unique_ptr<LibNft> overlay_nft_;
  Mesh mesh_;
  LocalNode node_;
  NetworkTruths truths_;

  std::mutex mutex_;  // guards the rest
  NetlinkSocket rtnl_;
  std::unique_ptr<LibNft> nft_;
  FlowSweeper sweeper_;
  ClientBalancers clients_;  // guarded by overlay_mutex_, though it has chores for the sweeper
  NftBalancer balancer_;
  Bridges bridges_;
  Gateway gateway_;
  PublishedPorts ports_;
  std::vector<PublishedPort> ports_told_;
  bool ports_stale_ = false;        // tasks are reached in another way since
  std::set<std::string> attached_;  // names of host's ends made or found by attach()
  std::map<std::string, std::vector<std::string>> addresses_;  // by container
  bool torn_down_ = false;
};

Status LinuxNetwork::open() {
  {
    std::lock_guard lock(overlay_mutex_);
    MUSTER_TRY(pins_.prepare());
    MUSTER_TRY(segments_.scan());
    MUSTER_TRY(mesh_.scan());
    MUSTER_TRY(adopt_clients());
  }
  MUSTER_TRY(reach_tasks());
  std::lock_guard lock(mutex_);
  MUSTER_TRY(bridges_.scan());
  MUSTER_TRY(gateway_.scan());
  MUSTER_TRY(ensure_table());
  MUSTER_TRY(adopt_containers());
  torn_down_ = false;
  return ok_status();
}

Status LinuxNetwork::reopen() {
  {
    std::lock_guard lock(mutex_);
    if (!torn_down_) return ok_status();
  }
  return open();
}

// Makes our table when it is missing (a first start, a firewall that flushed everything) or of
// another version, and learns what it holds.
Status LinuxNetwork::ensure_table() {
  const auto listing = nft_->list(names_.table());
  if (!listing && listing.error().code() != StatusCode::kNotFound) return listing.error();
  const std::string marker = fmt::format("\"name\": \"{}\"", ruleset_marker());
  if (!listing || listing->find(marker) == std::string::npos) {
    const std::string text = base_ruleset(names_.table(), names_.ways_out(), names_.ways_in());
    if (Status made = nft_->run(text); !made.ok()) {
      return failed_precondition(
          "cannot set up network rules, the kernel needs nftables with NAT "
          "(modules nf_tables, nft_chain_nat, nft_fib_inet): {}",
          made.message());
    }
  }
  MUSTER_TRY(bridges_.restore_rules());
  MUSTER_TRY(gateway_.restore_rules());
  return balancer_.load();
}

// Containers of a former process are not attached again; their addresses are in their namespaces.
Status LinuxNetwork::adopt_containers() {
  MUSTER_ASSIGN(const auto pinned, pins_.list());
  std::vector<std::string> containers;
  for (const std::string& name : pinned) {
    if (!Segments::is_pin(name)) containers.push_back(name);
  }
  std::map<std::string, std::vector<Ip>> found;
  MUSTER_TRY(visit_addresses(pins_, containers, [&](const std::string& name, const Ip& ip) {
    found[name].push_back(ip);
  }));
  for (const auto& [name, addresses] : found) remember(name, addresses);
  return ok_status();
}

// What their namespaces have of virtual addresses stays until their networks are told of.
Status LinuxNetwork::adopt_clients() {
  MUSTER_ASSIGN(const auto pinned, pins_.list());
  for (const std::string& name : pinned) {
    if (Segments::is_pin(name)) continue;
    const Status adopted = clients_.adopt(name, pins_.path(name));
    if (!adopted.ok()) log_->warn("container {}: {}", name, adopted.message());
  }
  return ok_status();
}

// Notes what a container has, and how the host reaches it.
void LinuxNetwork::remember(const std::string& container_id, const std::vector<Ip>& addresses) {
  auto& known = addresses_[container_id];
  known.clear();
  for (const Ip& ip : addresses) known.push_back(ip.str());
  const Gateway::Lease* lease = gateway_.find(names_.way_out(container_id));
  if (lease == nullptr) lease = gateway_.find(names_.way_in(container_id));
  if (lease == nullptr) return;
  for (const Ip& ip : addresses) {
    if (!ip.v6) ports_.lead(ip.str(), lease->address.str());
    if (ip.v6 && lease->address_v6) ports_.lead(ip.str(), lease->address_v6->str());
  }
}

// Names under which host's ends of a container may be known.
std::vector<std::string> LinuxNetwork::host_ends(const std::string& container_id) const {
  std::vector<std::string> out = {names_.way_out(container_id), names_.way_in(container_id)};
  for (size_t i = 0; i < kNetworksMax; ++i) out.push_back(names_.veth(container_id, i));
  return out;
}

// From now on nobody takes the container's interfaces for something left behind. Those that a
// former version had put into a bridge of the host are made anew where they belong; containers that
// were running then keep them until they end, for they are not attached again.
Status LinuxNetwork::expect_links(AttachPlan& plan) {
  std::lock_guard lock(mutex_);
  for (LinkPlan& link : plan.links) {
    attached_.insert(link.veth.host_name);
    const bool misplaced =
        link.home == LinkPlan::Home::kSegment && bridges_.has_port(link.veth.host_name);
    // Without its lease a way has no address that anybody knows.
    const bool lost = link.home == LinkPlan::Home::kWay && link.exists &&
                      gateway_.find(link.veth.host_name) == nullptr;
    if (!misplaced && !lost) continue;
    MUSTER_TRY(rtnl_.run(delete_link(link.veth.host_name)));
    MUSTER_TRY(bridges_.release(link.veth.host_name));
    link.exists = false;
    link.veth.peer_index = 0;
  }
  return ok_status();
}

Status LinuxNetwork::make_segment_link(LinkPlan& link, int namespace_fd) {
  // A second time round, in case somebody else removed what we knew.
  for (const bool again : {false, true}) {
    MUSTER_ASSIGN(const Segments::Place place,
                  segments_.acquire(*link.network, link.veth.host_name));
    if (link.network->spec().ingress()) {
      // The task runs all the same; it is this node's rules that are wanting.
      if (Status ready = mesh_.expect_task(); !ready.ok()) log_->warn("{}", ready.message());
    }
    if (link.exists) return ok_status();
    link.veth.master = place.bridge_index;
    link.veth.mtu = place.mtu;
    link.veth.namespace_fd = namespace_fd;
    const Status made = place.inside->run(new_veth(link.veth));
    if (made.ok() || again) return made;
    // Left by a container of the same name whose namespace is on its way out, or half made.
    MUSTER_TRY(place.inside->run(delete_link(link.veth.host_name)));
  }
  return ok_status();
}

Status LinuxNetwork::make_segment_links(AttachPlan& plan, int namespace_fd) {
  std::lock_guard lock(overlay_mutex_);
  for (LinkPlan& link : plan.links) {
    if (link.home != LinkPlan::Home::kSegment) continue;
    MUSTER_TRY(make_segment_link(link, namespace_fd));
  }
  return ok_status();
}

Status LinuxNetwork::make_bridge_links(AttachPlan& plan, int namespace_fd) {
  const auto bridged = [](const LinkPlan& link) { return link.home == LinkPlan::Home::kBridge; };
  if (std::none_of(plan.links.begin(), plan.links.end(), bridged)) return ok_status();
  // With br_netfilter on, a frame whose destination becomes another port of its bridge is bridged
  // there, not routed; to a container that calls itself through a published port it has to go back
  // where it came from.
  const auto filtered = read_sysctl("net.bridge.bridge-nf-call-iptables");
  const bool hairpin = filtered && *filtered == "1";
  // A second time round, in case somebody else removed a bridge we knew.
  for (const bool again : {false, true}) {
    std::vector<Message> batch;
    std::vector<Message> clean;
    for (LinkPlan& link : plan.links) {
      if (!bridged(link)) continue;
      MUSTER_ASSIGN(link.veth.master, bridges_.acquire(*link.network, link.veth.host_name));
      if (link.exists) continue;
      link.veth.namespace_fd = namespace_fd;
      batch.push_back(new_veth(link.veth));
      if (hairpin) batch.push_back(set_hairpin(link.veth.host_name));
      clean.push_back(delete_link(link.veth.host_name));
    }
    const Status made = rtnl_.run(batch);
    if (made.ok() || again) return made;
    // Left by a container of the same name whose namespace is on its way out, or half made.
    MUSTER_TRY(rtnl_.run(clean));
    MUSTER_TRY(bridges_.scan());
  }
  return ok_status();
}

Status LinuxNetwork::make_way(const std::string& container_id, const AttachPlan& plan,
                              LinkPlan& link, int namespace_fd) {
  const Gateway::Lease* lease = gateway_.find(link.veth.host_name);
  if (lease == nullptr) return internal_error("no address for {}", link.veth.host_name);
  link.veth.mtu = lease->mtu;
  link.veth.peer_mac = mac_of(lease->address);
  link.veth.namespace_fd = namespace_fd;
  link.peers.emplace_back(lease->address, lease->gateway);
  if (lease->address_v6) link.peers.emplace_back(*lease->address_v6, lease->gateway_v6);
  if (plan.leads_out) {
    for (const auto& [address, gateway] : link.peers) link.default_gateways.push_back(gateway);
  }
  return gateway_.make(*lease, link.veth, link.exists, container_id);
}

// What a subnet of the node's own must not overlap.
Result<std::vector<Prefix>> LinuxNetwork::network_ranges(const ContainerNetworkRequest& request) {
  std::vector<Prefix> out;
  const auto add = [&](const v1::Network& network) -> Status {
    MUSTER_ASSIGN(const auto subnets, subnets_of(network));
    out.insert(out.end(), subnets.begin(), subnets.end());
    return ok_status();
  };
  for (const ContainerLink& link : request.links) MUSTER_TRY(add(link.network));
  std::lock_guard lock(overlay_mutex_);
  for (const auto& [id, truth] : truths_.all()) MUSTER_TRY(add(truth.network));
  return out;
}

Status LinuxNetwork::make_host_links(const ContainerNetworkRequest& request, AttachPlan& plan,
                                     int namespace_fd) {
  const bool way = !plan.links.empty() && plan.links.back().home == LinkPlan::Home::kWay;
  std::vector<Prefix> ranges;
  if (way) {
    MUSTER_ASSIGN(ranges, network_ranges(request));
  }
  std::lock_guard lock(mutex_);
  MUSTER_TRY(make_bridge_links(plan, namespace_fd));
  if (!way) return ok_status();
  for (const auto& [name, bridge] : bridges_.all()) {
    for (const std::string& text : bridge.rules.subnets) {
      MUSTER_ASSIGN(const Prefix subnet, Prefix::parse(text));
      ranges.push_back(subnet);
    }
  }
  LinkPlan& link = plan.links.back();
  auto lease = gateway_.acquire(link.veth.host_name, plan.v6, ranges);
  if (!lease && lease.error().code() == StatusCode::kNotFound) {
    log_->warn("the network rules of this node were gone and are made anew: {}",
               lease.error().message());
    MUSTER_TRY(ensure_table());
    lease = gateway_.acquire(link.veth.host_name, plan.v6, ranges);
  }
  if (!lease) return lease.error();
  return make_way(request.container_id, plan, link, namespace_fd);
}

Status LinuxNetwork::attach_links(const ContainerNetworkRequest& request, AttachPlan& plan) {
  MUSTER_ASSIGN(Inside inside, prepare_namespace(pins_, request, plan));
  MUSTER_TRY(expect_links(plan));
  MUSTER_TRY(make_segment_links(plan, inside.ns.get()));
  MUSTER_TRY(make_host_links(request, plan, inside.ns.get()));
  MUSTER_TRY(configure_inside(inside.socket, plan));
  if (plan.links.empty()) return ok_status();
  std::lock_guard lock(overlay_mutex_);
  return clients_.attach(request.container_id, pins_.path(request.container_id));
}

Result<std::string> LinuxNetwork::attach(const ContainerNetworkRequest& request) {
  MUSTER_ASSIGN(AttachPlan plan, plan_attach(names_, request));
  MUSTER_TRY(reopen());
  if (const Status done = attach_links(request, plan); !done.ok()) {
    (void)detach(request.container_id);
    return fail(done.with_context("cannot make the container's network"));
  }
  std::vector<Ip> addresses;
  for (const LinkPlan& link : plan.links) {
    for (const Cidr& cidr : link.addresses) addresses.push_back(cidr.ip);
    for (const auto& [address, peer] : link.peers) addresses.push_back(address);
  }
  std::lock_guard lock(mutex_);
  remember(request.container_id, addresses);
  return pins_.path(request.container_id);
}

Status LinuxNetwork::detach(const std::string& container_id) {
  // Takes some milliseconds in which nobody else needs to wait.
  MUSTER_TRY(pins_.remove(container_id));
  std::vector<HostEnd> left;
  const auto context = "network of " + container_id;
  std::lock_guard overlay_lock(overlay_mutex_);
  clients_.detach(container_id);
  std::lock_guard lock(mutex_);
  for (const std::string& end : host_ends(container_id)) {
    attached_.erase(end);
    const std::string network_id = segments_.network_of(end);
    if (network_id.empty() && !bridges_.has_port(end) && !gateway_.has(end)) continue;
    left.push_back({end, network_id});
    if (!network_id.empty()) MUSTER_TRY(segments_.release(end).with_context(context));
    MUSTER_TRY(bridges_.release(end).with_context(context));
  }
  // The interfaces go with their namespace, which the kernel clears away in the background and in
  // batches; deleting each here would cost 20 ms. Later is looked whether a process still held it.
  // Only then may addresses towards the node be given to others.
  if (!left.empty()) {
    sweeper_.strand().after(kLingerTime, [this, left] { delete_lingering(left); });
  }
  const auto addresses = addresses_.extract(container_id);
  if (!addresses.empty()) ports_.forget_addresses(addresses.mapped());
  return ok_status();
}

bool LinuxNetwork::attached(const std::string& end) {
  std::lock_guard lock(mutex_);
  return attached_.contains(end);
}

void LinuxNetwork::delete_lingering_port(const HostEnd& end) {
  std::lock_guard lock(overlay_mutex_);
  if (attached(end.name)) return;
  const auto place = segments_.find(end.network_id);
  // It went with its segment.
  if (!place) return;
  Status gone = place->inside->run(delete_link(end.name));
  if (gone.ok()) gone = segments_.release(end.name);
  if (!gone.ok()) log_->warn("interface {}: {}", end.name, gone.message());
}

void LinuxNetwork::delete_lingering(const std::vector<HostEnd>& ends) {
  // Not if a container of the same name has come meanwhile.
  for (const HostEnd& end : ends) {
    if (!end.network_id.empty()) {
      delete_lingering_port(end);
      continue;
    }
    std::lock_guard lock(mutex_);
    if (attached_.contains(end.name)) continue;
    Status gone = rtnl_.run(delete_link(end.name));
    if (gone.ok()) gone = bridges_.release(end.name);
    if (gone.ok()) gone = gateway_.release(end.name);
    if (!gone.ok()) log_->warn("interface {}: {}", end.name, gone.message());
  }
}

Status LinuxNetwork::set_published_ports(const std::vector<PublishedPort>& ports,
                                         std::vector<v1::PortConfig>* conflicts) {
  MUSTER_TRY(reopen());
  std::lock_guard lock(mutex_);
  ports_told_ = ports;
  Status set = ports_.set(ports, conflicts);
  if (set.code() != StatusCode::kNotFound) return set;
  log_->warn("the network rules of this node were gone and are made anew: {}", set.message());
  MUSTER_TRY(ensure_table());
  return ports_.set(ports, conflicts);
}

Status LinuxNetwork::set_local_node(const LocalNode& node) {
  {
    std::lock_guard lock(overlay_mutex_);
    node_ = node;
    MUSTER_TRY(segments_.set_local_node(node, truths_));
    MUSTER_TRY(apply_mesh({}));
  }
  return reach_tasks();
}

// Once segments have what was told of the ingress network.
Status LinuxNetwork::apply_mesh(const NetworkDifference& difference) {
  for (const auto& [id, truth] : truths_.all()) {
    if (truth.network.spec().ingress()) return mesh_.apply(truth, difference, node_.node_id);
  }
  return ok_status();
}

// Tasks in the ingress network are reached there, those of this node, too: their answers go by it.
Status LinuxNetwork::reach_tasks() {
  std::vector<Prefix> subnets;
  {
    std::lock_guard lock(overlay_mutex_);
    subnets = mesh_.reaches();
  }
  std::lock_guard lock(mutex_);
  ports_stale_ = ports_.reach(subnets) || ports_stale_;
  if (!ports_stale_ || ports_told_.empty()) return ok_status();
  const Status set = ports_.set(ports_told_, nullptr);
  // Ports that are taken have been told.
  if (!set.ok() && set.code() != StatusCode::kAlreadyExists) return set;
  ports_stale_ = false;
  return ok_status();
}

// Subnets of the node's own are chosen when nothing overlaps them. Only containers that are in a
// network which does so now cannot reach a part of it; attach() gives those an address elsewhere.
void LinuxNetwork::warn_of_overlap(const v1::Network& network) {
  const auto subnets = subnets_of(network);
  if (!subnets) return;
  std::lock_guard lock(mutex_);
  for (const Prefix& subnet : *subnets) {
    const Prefix* ours = gateway_.overlap(subnet);
    if (ours == nullptr) continue;
    log_->warn(
        "network {} ({}) overlaps {}, by which containers reach this node; those that enter it get "
        "an address elsewhere",
        network.spec().annotations().name(), subnet.str(), ours->str());
  }
}

Status LinuxNetwork::apply(const NetworkStep& step) {
  MUSTER_TRY(reopen());
  NetworkDifference difference;
  std::optional<v1::Network> news;
  bool ingress = false;
  Status applied;
  {
    std::lock_guard lock(overlay_mutex_);
    difference = truths_.apply(step);
    const NetworkTruth& truth = *truths_.find(step.network_id);
    if (difference.network) news = truth.network;
    applied = segments_.apply(truth, difference);
    ingress = truth.network.spec().ingress();
    if (ingress) {
      const Status mesh = mesh_.apply(truth, difference, node_.node_id);
      if (applied.ok()) applied = mesh;
    }
    // Once other nodes can be reached.
    const Status led = clients_.apply(truth, difference);
    if (applied.ok()) applied = led;
  }
  if (news) warn_of_overlap(*news);
  if (ingress) {
    const Status reached = reach_tasks();
    if (applied.ok()) applied = reached;
  }
  return applied.with_context("network " + step.network_id);
}

Status LinuxNetwork::forget_network(const std::string& network_id) {
  {
    std::lock_guard lock(overlay_mutex_);
    truths_.forget(network_id);
    MUSTER_TRY(mesh_.forget(network_id));
    clients_.forget(network_id);
    MUSTER_TRY(segments_.forget(network_id));
  }
  return reach_tasks();
}

std::vector<std::string> LinuxNetwork::repair() {
  std::vector<std::string> said;
  {
    std::lock_guard lock(overlay_mutex_);
    segments_.repair(said);
    mesh_.repair(said);
    clients_.repair(said);
  }
  (void)reach_tasks();
  std::lock_guard lock(mutex_);
  if (torn_down_) return said;
  gateway_.repair(said);
  repair_table(said);
  return said;
}

void LinuxNetwork::repair_table(std::vector<std::string>& said) {
  const auto listing = nft_->list(names_.table());
  if (listing && listing->find(ruleset_marker()) != std::string::npos) return;
  if (!listing && listing.error().code() != StatusCode::kNotFound) return;
  Status made = ensure_table();
  if (made.ok()) made = ports_.set(ports_told_, nullptr);
  said.push_back(fmt::format("the network rules of this node were gone{}",
                             made.ok() ? "" : ": " + made.message()));
}

Status LinuxNetwork::collect_garbage(const std::vector<std::string>& live_container_ids) {
  const std::set<std::string> live(live_container_ids.begin(), live_container_ids.end());
  MUSTER_ASSIGN(const auto pinned, pins_.list());
  for (const std::string& name : pinned) {
    if (!Segments::is_pin(name) && !live.contains(name)) MUSTER_TRY(pins_.remove(name));
  }
  std::set<std::string> keep = {mesh_.port()};
  for (const std::string& name : live) {
    for (std::string& end : host_ends(name)) keep.insert(std::move(end));
  }
  std::lock_guard overlay_lock(overlay_mutex_);
  for (const std::string& name : pinned) {
    if (!live.contains(name)) clients_.detach(name);
  }
  MUSTER_TRY(segments_.sweep(keep));
  std::lock_guard lock(mutex_);
  std::erase_if(addresses_, [&](const auto& entry) { return !live.contains(entry.first); });
  std::erase_if(attached_, [&](const std::string& end) { return !keep.contains(end); });
  MUSTER_TRY(bridges_.sweep(keep));
  return gateway_.sweep(keep);
}

Status LinuxNetwork::teardown() {
  (void)set_published_ports({}, nullptr);
  MUSTER_TRY(collect_garbage({}));
  std::lock_guard overlay_lock(overlay_mutex_);
  MUSTER_TRY(mesh_.remove());
  for (const auto& [id, truth] : truths_.all()) {
    clients_.forget(id);
    MUSTER_TRY(segments_.forget(id));
  }
  truths_ = {};
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
  MUSTER_ASSIGN(NetlinkSocket overlay_rtnl, NetlinkSocket::open(NETLINK_ROUTE));
  MUSTER_ASSIGN(NetlinkSocket conntrack, FlowSweeper::open_socket());
  MUSTER_ASSIGN(auto nft, LibNft::make());
  MUSTER_ASSIGN(auto overlay_nft, LibNft::make());
  auto network = std::make_unique<LinuxNetwork>(options, std::move(rtnl), std::move(overlay_rtnl),
                                                std::move(conntrack), std::move(nft),
                                                std::move(overlay_nft), std::move(log));
  MUSTER_TRY(network->open());
  return network;
}

}  // namespace muster::overlay
