#include "overlay/dataplane/attach_plan.h"

#include <algorithm>

#include "overlay/dataplane/bridges.h"

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

Result<LinkPlan> plan_link(const Names& names, const ContainerNetworkRequest& request, size_t i) {
  const ContainerLink& link = request.links[i];
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
  plan.veth.host_name = names.veth(request.container_id, i);
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

Result<AttachPlan> plan_attach(const Names& names, const ContainerNetworkRequest& request) {
  if (request.links.size() > kNetworksMax) {
    return fail(invalid_argument("a container can be in at most {} networks", kNetworksMax));
  }
  AttachPlan plan;
  plan.ports = &request.ports;
  bool bridge_out = false;
  bool overlay = false;
  bool overlay_out = false;
  bool ingress_alone = true;
  for (size_t i = 0; i < request.links.size(); ++i) {
    const v1::NetworkSpec& spec = request.links[i].network.spec();
    MUSTER_ASSIGN(LinkPlan link, plan_link(names, request, i));
    plan.v6 = plan.v6 || std::any_of(link.addresses.begin(), link.addresses.end(),
                                     [](const Cidr& c) { return c.ip.v6; });
    ingress_alone = ingress_alone && spec.ingress();
    if (link.home == LinkPlan::Home::kSegment) {
      overlay = true;
      overlay_out = overlay_out || (!spec.internal() && !spec.ingress());
    } else if (!bridge_out && !spec.internal()) {
      bridge_out = true;
      MUSTER_ASSIGN(link.default_gateways, gateways_of(request.links[i].network, link.addresses));
    }
    plan.links.push_back(std::move(link));
  }
  plan.leads_out = overlay && !bridge_out && (overlay_out || ingress_alone);
  if (plan.leads_out || (overlay && request.host_ports)) add_way(names, request, plan);
  return plan;
}

}  // namespace muster::overlay
