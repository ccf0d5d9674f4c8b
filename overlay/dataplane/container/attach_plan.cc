#include "overlay/dataplane/container/attach_plan.h"

#include <algorithm>

#include "overlay/dataplane/host/bridges.h"

namespace muster::overlay {
namespace {

// Gateways of the network's subnets that the interface has an address in.
Result<std::vector<Ip>> gateways_of(const v1::Network& network,
                                    const std::vector<Cidr>& addresses) {
  std::vector<Ip> out;
  for (const auto& pool : network.state().pools()) {
    MUSTER_ASSIGN(const Prefix subnet, Prefix::parse(pool.subnet()));
    const bool mine = std::any_of(addresses.begin(), addresses.end(),
                                  [&](const Cidr& c) { return subnet.contains(c.ip); });
    if (!mine) continue;
    MUSTER_ASSIGN(const Ip gateway, Ip::parse(pool.gateway()));
    out.push_back(gateway);
  }
  return out;
}

Result<LinkPlan> plan_link(const Names& names, const std::string& container_id,
                           const ContainerLink& link, size_t i) {
  LinkPlan plan;
  plan.network = &link.network;
  plan.home = is_overlay(link.network) ? LinkPlan::Home::kSegment : LinkPlan::Home::kBridge;
  for (const std::string& text : link.addresses) {
    MUSTER_ASSIGN(const Cidr cidr, Cidr::parse(text));
    plan.addresses.push_back(cidr);
  }
  if (plan.addresses.empty()) {
    return fail(failed_precondition("no address was given out in network {}",
                                    link.network.spec().annotations().name()));
  }
  MUSTER_ASSIGN(plan.veth.mtu, network_mtu(link.network));
  plan.veth.host_name = names.veth(container_id, i);
  plan.veth.peer_name = fmt::format("eth{}", i);
  plan.veth.peer_index = kFirstIndex + static_cast<int>(i);
  plan.veth.peer_mac = link.mac.empty() ? mac_of(plan.addresses.front().ip) : link.mac;
  return plan;
}

void add_way(const Names& names, const ContainerNetworkRequest& request, AttachPlan& plan) {
  LinkPlan way;
  way.home = LinkPlan::Home::kWay;
  way.veth.host_name =
      plan.leads_out ? names.way_out(request.container_id) : names.way_in(request.container_id);
  way.veth.peer_name = fmt::format("eth{}", plan.links.size());
  way.veth.peer_index = kFirstIndex + static_cast<int>(plan.links.size());
  plan.links.push_back(std::move(way));
}

// Whether a container with these links gets out by a way of its own.
bool leads_out(const ContainerNetworkRequest& request, bool by_hand_too) {
  bool overlay = false, overlay_out = false, bridge_out = false, ingress_alone = true;
  for (const ContainerLink& link : request.links) {
    if (link.by_hand && !by_hand_too) continue;
    const v1::NetworkSpec& spec = link.network.spec();
    ingress_alone = ingress_alone && spec.ingress();
    if (!is_overlay(link.network)) {
      bridge_out = bridge_out || !spec.internal();
      continue;
    }
    overlay = true;
    overlay_out = overlay_out || (!spec.internal() && !spec.ingress());
  }
  return overlay && !bridge_out && (overlay_out || ingress_alone);
}

// The lowest number that no interface of the container has.
size_t next_number(const PresentLinks& present, const std::set<size_t>& given) {
  size_t number = 0;
  while (present.numbers.contains(number) || given.contains(number) ||
         present.interfaces.contains(fmt::format("eth{}", number))) {
    ++number;
  }
  return number;
}

}  // namespace

bool is_overlay(const v1::Network& network) {
  return network.spec().driver() != "bridge";
}

Result<std::vector<Prefix>> subnets_of(const v1::Network& network) {
  std::vector<Prefix> out;
  for (const auto& pool : network.state().pools()) {
    MUSTER_ASSIGN(const Prefix subnet, Prefix::parse(pool.subnet()));
    out.push_back(subnet);
  }
  return out;
}

ContainerNetworkRequest without_ipv6(ContainerNetworkRequest request) {
  for (ContainerLink& link : request.links) {
    std::erase_if(link.addresses,
                  [](const std::string& cidr) { return cidr.find(':') != std::string::npos; });
  }
  return request;
}

Result<AttachPlan> plan_attach(const Names& names, const ContainerNetworkRequest& request) {
  if (request.links.size() > kNetworksMax) {
    return fail(invalid_argument("a container can be in at most {} networks", kNetworksMax));
  }
  AttachPlan plan;
  plan.ports = &request.ports;
  bool bridge_out = false;
  bool overlay = false;
  for (size_t i = 0; i < request.links.size(); ++i) {
    const v1::NetworkSpec& spec = request.links[i].network.spec();
    MUSTER_ASSIGN(LinkPlan link, plan_link(names, request.container_id, request.links[i], i));
    plan.v6 = plan.v6 || std::any_of(link.addresses.begin(), link.addresses.end(),
                                     [](const Cidr& c) { return c.ip.v6; });
    if (link.home == LinkPlan::Home::kSegment) {
      overlay = true;
    } else if (!bridge_out && !spec.internal()) {
      bridge_out = true;
      MUSTER_ASSIGN(link.default_gateways, gateways_of(request.links[i].network, link.addresses));
    }
    plan.links.push_back(std::move(link));
  }
  plan.leads_out = leads_out(request, true);
  if (plan.leads_out || (overlay && request.host_ports)) add_way(names, request, plan);
  return plan;
}

Result<ReconnectPlan> plan_reconnect(const Names& names, const ContainerNetworkRequest& request,
                                     const PresentLinks& present) {
  ReconnectPlan out;
  out.make.ports = &request.ports;
  std::set<size_t> given;
  std::set<std::string> wanted;
  for (const ContainerLink& link : request.links) {
    if (!is_overlay(link.network)) continue;  // it was made with them
    wanted.insert(link.network.id());
    const auto has = present.overlays.find(link.network.id());
    const size_t number = has != present.overlays.end() ? has->second : next_number(present, given);
    if (number >= kNetworksMax) {
      return fail(invalid_argument("a container can be in at most {} networks", kNetworksMax));
    }
    given.insert(number);
    MUSTER_ASSIGN(LinkPlan plan, plan_link(names, request.container_id, link, number));
    plan.exists = has != present.overlays.end() && present.interfaces.contains(plan.veth.peer_name);
    plan.veth.peer_index = 0;  // the kernel's choice
    out.make.v6 = out.make.v6 || std::any_of(plan.addresses.begin(), plan.addresses.end(),
                                             [](const Cidr& c) { return c.ip.v6; });
    out.make.links.push_back(std::move(plan));
  }
  for (const auto& [network_id, number] : present.overlays) {
    if (!wanted.contains(network_id)) out.leave.push_back(number);
  }
  // What its service's networks gave it does not go when it is connected to others.
  const bool out_wanted = leads_out(request, true) || leads_out(request, false);
  out.drop_way = !out_wanted && present.way_out && !request.host_ports;
  if (!out_wanted || present.way) return out;
  out.make.leads_out = true;
  LinkPlan way;
  way.home = LinkPlan::Home::kWay;
  way.veth.host_name = names.way_out(request.container_id);
  way.veth.peer_name = fmt::format("eth{}", next_number(present, given));
  out.make.links.push_back(std::move(way));
  return out;
}

}  // namespace muster::overlay
