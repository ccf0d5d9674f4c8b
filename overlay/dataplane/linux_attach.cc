// LinuxNetwork: containers come and go.
#include <algorithm>
#include <mutex>

#include "overlay/dataplane/container/container_namespace.h"
#include "overlay/dataplane/kernel/links.h"
#include "overlay/dataplane/kernel/sysctl.h"
#include "overlay/dataplane/linux_network_impl.h"
#include "overlay/ipam/mtu.h"

namespace muster::overlay {
namespace {

// When what a container left is looked after again.
constexpr Duration kLingerTime = 2s;

}  // namespace

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

// What this node cannot do for the network: a container would be alone in it as soon as there are
// members elsewhere, whether or not there are any yet.
Status LinuxNetwork::check_network(const v1::Network& network) {
  if (!is_overlay(network)) return ok_status();
  const v1::NetworkSpec& spec = network.spec();
  std::lock_guard lock(overlay_mutex_);
  if (const std::string& why = segments_.vxlan_trouble(); !why.empty()) {
    note_limits();
    return failed_precondition("network {} cannot be entered on this node: {}",
                               spec.annotations().name(), why);
  }
  if (!is_encrypted(spec)) return ok_status();
  const auto self = Ip::parse(node_.data_path_addr);
  const std::string& why = esp_.trouble(self && self->v6);
  if (why.empty()) return ok_status();
  return failed_precondition("network {} is encrypted, which this node cannot do: {}",
                             spec.annotations().name(), why);
}

Status LinuxNetwork::attach_links(const ContainerNetworkRequest& request, AttachPlan& plan) {
  for (const ContainerLink& link : request.links) MUSTER_TRY(check_network(link.network));
  MUSTER_ASSIGN(Inside inside, prepare_namespace(pins_, request, plan));
  MUSTER_TRY(expect_links(plan));
  MUSTER_TRY(make_segment_links(plan, inside.ns.get()));
  MUSTER_TRY(make_host_links(request, plan, inside.ns.get()));
  MUSTER_TRY(configure_inside(inside.socket, plan));
  if (plan.links.empty()) return ok_status();
  MUSTER_TRY(upkeep_.attach(request.container_id, plan));
  std::lock_guard lock(overlay_mutex_);
  return clients_.attach(request.container_id, pins_.path(request.container_id));
}

Result<std::string> LinuxNetwork::attach(const ContainerNetworkRequest& asked) {
  const ContainerNetworkRequest request = kernel_has_ipv6() ? asked : without_ipv6(asked);
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
  const auto entering = enter(request.container_id);
  {
    std::lock_guard lock(mutex_);
    remember(request.container_id, addresses);
  }
  // What has changed meanwhile for those that were there.
  Status done = fit_links(request.container_id, plan);
  if (done.ok()) done = lead_to_subnets_of(request.container_id);
  if (done.ok()) done = lead_in_bridges(request.container_id, plan);
  if (!done.ok()) {
    (void)detach(request.container_id);
    return fail(done.with_context("cannot make the container's network"));
  }
  return pins_.path(request.container_id);
}

Status LinuxNetwork::detach(const std::string& container_id) {
  upkeep_.detach(container_id);
  {
    // Before the namespace is gone: repair() would look for it.
    std::lock_guard lock(overlay_mutex_);
    clients_.detach(container_id);
  }
  // Takes some milliseconds in which nobody else needs to wait.
  MUSTER_TRY(pins_.remove(container_id));
  std::vector<HostEnd> left;
  // Nobody comes here a second time: what can be done is done, and the first failure told.
  Status outcome;
  const auto note = [&](const Status& status) {
    if (!status.ok() && outcome.ok()) outcome = status.with_context("network of " + container_id);
  };
  std::lock_guard overlay_lock(overlay_mutex_);
  std::lock_guard lock(mutex_);
  for (const std::string& end : host_ends(container_id)) {
    attached_.erase(end);
    const std::string network_id = segments_.network_of(end);
    if (network_id.empty() && !bridges_.has_port(end) && !gateway_.has(end)) continue;
    left.push_back({end, network_id});
    if (!network_id.empty()) note(segments_.release(end));
    note(bridges_.release(end));
  }
  // The interfaces go with their namespace, which the kernel clears away in the background and in
  // batches; deleting each here would cost 20 ms. Later is looked whether a process still held it.
  // Only then may addresses towards the node be given to others.
  if (!left.empty()) {
    sweeper_.strand().after(kLingerTime, [this, left] { delete_lingering(left); });
  }
  const auto addresses = addresses_.extract(container_id);
  if (!addresses.empty()) ports_.forget_addresses(addresses.mapped());
  return outcome;
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

}  // namespace muster::overlay
