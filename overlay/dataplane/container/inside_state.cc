#include "overlay/dataplane/container/inside_state.h"

#include <fmt/format.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "overlay/dataplane/container/subnet_routes.h"
#include "overlay/dataplane/host/gateway_links.h"
#include "overlay/dataplane/kernel/links.h"
#include "overlay/dataplane/kernel/wire.h"

namespace muster::overlay {
namespace {

constexpr Prefix kLinkLocal{Ip{true, Uint128{0xfe80} << 112}, 10};

// ---------------------------------------------------------------- listings

Status read_addresses(NetlinkSocket& socket, InsideState& out) {
  Message m(RTM_GETADDR, 0, "list addresses");
  m.header(ifaddrmsg{});
  return socket.query(m, true, [&](nlmsghdr* h) {
    if (h->nlmsg_type != RTM_NEWADDR) return;
    const auto* info = static_cast<const ifaddrmsg*>(nlmsg_data(h));
    const nlattr* local = nlmsg_find_attr(h, sizeof(*info), IFA_LOCAL);
    const nlattr* address = nlmsg_find_attr(h, sizeof(*info), IFA_ADDRESS);
    if (local == nullptr) local = std::exchange(address, nullptr);
    if (local == nullptr) return;
    InsideAddress found{static_cast<int>(info->ifa_index),
                        Cidr{ip_of(info->ifa_family, local), info->ifa_prefixlen}, std::nullopt};
    if (address != nullptr) {
      const Ip peer = ip_of(info->ifa_family, address);
      if (peer != found.cidr.ip) found.peer = peer;
    }
    out.addresses.push_back(found);
  });
}

Status read_routes(NetlinkSocket& socket, InsideState& out) {
  Message m(RTM_GETROUTE, 0, "list routes");
  m.header(rtmsg{});
  return socket.query(m, true, [&](nlmsghdr* h) {
    if (h->nlmsg_type != RTM_NEWROUTE) return;
    const auto* info = static_cast<const rtmsg*>(nlmsg_data(h));
    const bool ip = info->rtm_family == AF_INET || info->rtm_family == AF_INET6;
    if (!ip || (info->rtm_flags & RTM_F_CLONED) != 0 || info->rtm_table == RT_TABLE_LOCAL) return;
    const auto find = [&](int type) { return nlmsg_find_attr(h, sizeof(*info), type); };
    TableRoute route;
    const nlattr* table = find(RTA_TABLE);
    route.table = table != nullptr ? nla_get_u32(table) : info->rtm_table;
    route.destination = {Ip{info->rtm_family == AF_INET6, 0}, info->rtm_dst_len};
    if (const nlattr* to = find(RTA_DST)) route.destination.base = ip_of(info->rtm_family, to);
    if (const nlattr* by = find(RTA_GATEWAY)) route.gateway = ip_of(info->rtm_family, by);
    if (const nlattr* by = find(RTA_OIF)) route.interface = static_cast<int>(nla_get_u32(by));
    if (const nlattr* from = find(RTA_PREFSRC)) route.source = ip_of(info->rtm_family, from);
    out.routes.push_back(
        {route, info->rtm_type == RTN_UNICAST && info->rtm_protocol == RTPROT_STATIC});
  });
}

Status read_rules(NetlinkSocket& socket, InsideState& out) {
  Message m(RTM_GETRULE, 0, "list routing rules");
  m.header(fib_rule_hdr{});
  return socket.query(m, true, [&](nlmsghdr* h) {
    if (h->nlmsg_type != RTM_NEWRULE) return;
    const auto* info = static_cast<const fib_rule_hdr*>(nlmsg_data(h));
    if (info->family != AF_INET && info->family != AF_INET6) return;
    const auto find = [&](int type) { return nlmsg_find_attr(h, sizeof(*info), type); };
    PolicyRule rule;
    rule.v6 = info->family == AF_INET6;
    if (const nlattr* at = find(FRA_PRIORITY)) rule.preference = nla_get_u32(at);
    const nlattr* table = find(FRA_TABLE);
    rule.table = table != nullptr ? nla_get_u32(table) : info->table;
    if (const nlattr* from = find(FRA_SRC)) rule.from = ip_of(info->family, from);
    if (const nlattr* protocol = find(FRA_IP_PROTO)) rule.protocol = nla_get_u8(protocol);
    if (const nlattr* range = find(FRA_SPORT_RANGE)) {
      rule.source_port = static_cast<const fib_rule_port_range*>(nla_data(range))->start;
    }
    const nlattr* least = find(FRA_SUPPRESS_PREFIXLEN);
    rule.no_default = least != nullptr && nla_get_u32(least) == 0;
    out.rules.push_back(rule);
  });
}

Status read_neighbours(NetlinkSocket& socket, InsideState& out) {
  Message m(RTM_GETNEIGH, 0, "list neighbours");
  m.header(ndmsg{});
  return socket.query(m, true, [&](nlmsghdr* h) {
    if (h->nlmsg_type != RTM_NEWNEIGH) return;
    const auto* info = static_cast<const ndmsg*>(nlmsg_data(h));
    const bool ip = info->ndm_family == AF_INET || info->ndm_family == AF_INET6;
    const nlattr* to = nlmsg_find_attr(h, sizeof(*info), NDA_DST);
    const nlattr* mac = nlmsg_find_attr(h, sizeof(*info), NDA_LLADDR);
    if (!ip || (info->ndm_state & NUD_PERMANENT) == 0 || to == nullptr || mac == nullptr) return;
    out.neighbours.push_back({info->ndm_ifindex, {ip_of(info->ndm_family, to), mac_text(mac)}});
  });
}

// ---------------------------------------------------------------- comparing

bool is_default(const TableRoute& route) {
  return route.table == RT_TABLE_MAIN && route.destination.length == 0;
}

bool same_route(const TableRoute& wanted, const TableRoute& found) {
  return wanted.table == found.table && wanted.destination == found.destination &&
         wanted.interface == found.interface && wanted.gateway == found.gateway &&
         (!wanted.source || wanted.source == found.source);
}

// A container that gets out by another way than ours wants it so.
bool has_route(const InsideState& now, const TableRoute& wanted) {
  return std::any_of(now.routes.begin(), now.routes.end(), [&](const InsideRoute& found) {
    return is_default(wanted) ? is_default(found.route) &&
                                    found.route.destination.base.v6 == wanted.destination.base.v6
                              : same_route(wanted, found.route);
  });
}

bool has_address(const InsideState& now, const InsideAddress& wanted) {
  return std::any_of(now.addresses.begin(), now.addresses.end(), [&](const InsideAddress& found) {
    return found.interface == wanted.interface && found.cidr.ip == wanted.cidr.ip &&
           found.cidr.length == wanted.cidr.length && found.peer == wanted.peer;
  });
}

// Nothing for an address that makes no route: a single host's, or the end of a way.
std::optional<Prefix> subnet_of(const InsideAddress& address) {
  if (address.peer || address.cidr.length == address.cidr.ip.bits()) return std::nullopt;
  const auto subnet = Prefix::parse(address.cidr.str());
  return subnet ? std::optional(*subnet) : std::nullopt;
}

bool has_subnet_route(const InsideState& now, const Prefix& subnet, int interface) {
  return std::any_of(now.routes.begin(), now.routes.end(), [&](const InsideRoute& found) {
    const TableRoute& route = found.route;
    return route.table == RT_TABLE_MAIN && route.destination == subnet &&
           route.interface == interface;
  });
}

bool has_neighbour(const InsideState& now, const InsideNeighbour& wanted) {
  return std::any_of(now.neighbours.begin(), now.neighbours.end(), [&](const auto& found) {
    return found.interface == wanted.interface && found.neighbour.ip == wanted.neighbour.ip &&
           found.neighbour.mac == wanted.neighbour.mac;
  });
}

Message request_of(const TableRoute& route) {
  if (is_default(route) && route.gateway) return add_default_route(route.interface, *route.gateway);
  return add_table_route(route);
}

std::string in_words(const TableRoute& route) {
  std::string to = route.destination.length == 0 ? "default route" : "route to ";
  if (route.destination.length != 0) to += route.destination.str();
  return route.table == RT_TABLE_MAIN ? to : fmt::format("{} in table {}", to, route.table);
}

// The addresses of that interface and family.
size_t count_addresses(const InsideState& state, const InsideAddress& like) {
  return static_cast<size_t>(std::count_if(
      state.addresses.begin(), state.addresses.end(), [&](const InsideAddress& other) {
        return other.interface == like.interface && other.cidr.ip.v6 == like.cidr.ip.v6 &&
               !kLinkLocal.contains(other.cidr.ip);
      }));
}

void plan_mesh(const MeshTask& mesh, int index, InsideState& out) {
  for (const TableRoute& route : mesh.routes) out.routes.push_back({route, true});
  for (const MeshNeighbour& n : mesh.neighbours) out.neighbours.push_back({index, n});
  out.rules.insert(out.rules.end(), mesh.rules.begin(), mesh.rules.end());
}

}  // namespace

Result<InsideState> planned_inside(const AttachPlan& plan) {
  InsideState out;
  for (const LinkPlan& link : plan.links) {
    const int index = link.veth.peer_index;
    out.links[index] = {link.veth.peer_name, true};
    for (const Cidr& address : link.addresses) {
      out.addresses.push_back({index, address, std::nullopt});
    }
    for (const auto& [address, peer] : link.peers) {
      out.addresses.push_back(
          {index, {address, address.bits()}, peer.v6 ? std::optional(peer) : std::nullopt});
      out.routes.push_back(
          {{RT_TABLE_MAIN, {peer, peer.bits()}, std::nullopt, index, std::nullopt}, true});
    }
    for (const Ip& gateway : link.default_gateways) {
      const Prefix everything{Ip{gateway.v6, 0}, 0};
      out.routes.push_back({{RT_TABLE_MAIN, everything, gateway, index, std::nullopt}, true});
    }
    if (link.home == LinkPlan::Home::kSegment) {
      MUSTER_ASSIGN(const auto further, further_routes(*link.network, link.addresses, index));
      for (const TableRoute& route : further) out.routes.push_back({route, true});
    }
    if (link.network == nullptr || !link.network->spec().ingress()) continue;
    MUSTER_ASSIGN(const MeshTask mesh,
                  plan_mesh_task(*link.network, link.addresses, index, *plan.ports));
    plan_mesh(mesh, index, out);
  }
  return out;
}

Result<InsideState> read_inside(NetlinkSocket& socket) {
  InsideState out;
  MUSTER_ASSIGN(const auto links, list_links(socket));
  for (const Link& link : links) out.links[link.index] = {link.name, link.up};
  MUSTER_TRY(read_addresses(socket, out));
  MUSTER_TRY(read_routes(socket, out));
  MUSTER_TRY(read_rules(socket, out));
  MUSTER_TRY(read_neighbours(socket, out));
  return out;
}

InsideState ours_of(InsideState found) {
  InsideState out;
  for (const auto& [index, link] : found.links) {
    if (link.name.starts_with("eth")) out.links[index] = link;
  }
  const auto ours = [&](int index) { return out.links.contains(index); };
  for (const InsideAddress& address : found.addresses) {
    if (!ours(address.interface) || kLinkLocal.contains(address.cidr.ip)) continue;
    if (count_addresses(found, address) == 1) out.addresses.push_back(address);
  }
  for (const InsideRoute& route : found.routes) {
    const bool table = route.route.table == RT_TABLE_MAIN || route.route.table == kMeshTable;
    if (route.fixed && table && ours(route.route.interface)) out.routes.push_back(route);
  }
  for (const PolicyRule& rule : found.rules) {
    if (rule.preference >= kMeshRulesFirst && rule.preference <= kMeshRulesLast) {
      out.rules.push_back(rule);
    }
  }
  for (const InsideNeighbour& n : found.neighbours) {
    if (ours(n.interface) && n.neighbour.ip == mesh_gateway(n.neighbour.ip.v6)) {
      out.neighbours.push_back(n);
    }
  }
  return out;
}

InsideMending mend_inside(const InsideState& wanted, const InsideState& now) {
  InsideMending out;
  const auto link_up = [&](int index) {
    const auto at = now.links.find(index);
    return at != now.links.end() && at->second.up;
  };
  for (const auto& [index, link] : wanted.links) {
    if (!link_up(index)) out.left.push_back(link.name);
  }
  const auto name = [&](int index) {
    const auto at = wanted.links.find(index);
    return at == wanted.links.end() ? std::string("an interface") : at->second.name;
  };
  // Addresses first, with which the kernel makes routes, and which routes name; then the routes by
  // which others' gateways are reached.
  for (const InsideAddress& a : wanted.addresses) {
    if (!link_up(a.interface)) continue;
    if (has_address(now, a)) {
      const auto subnet = subnet_of(a);
      if (!subnet || has_subnet_route(now, *subnet, a.interface)) continue;
      out.said.push_back("lacked its route to " + subnet->str());
      out.requests.push_back(add_subnet_route(a.interface, *subnet, a.cidr.ip));
      continue;
    }
    out.said.push_back(fmt::format("lacked address {} at {}", a.cidr.str(), name(a.interface)));
    out.requests.push_back(a.peer ? add_peer_address(a.interface, a.cidr.ip, *a.peer)
                                  : add_address(a.interface, a.cidr));
  }
  for (const bool by_gateway : {false, true}) {
    for (const auto& [route, fixed] : wanted.routes) {
      const bool turn = route.gateway.has_value() == by_gateway;
      if (!turn || !link_up(route.interface) || has_route(now, route)) continue;
      out.said.push_back("lacked its " + in_words(route));
      out.requests.push_back(request_of(route));
    }
  }
  for (const InsideNeighbour& n : wanted.neighbours) {
    if (!link_up(n.interface) || has_neighbour(now, n)) continue;
    out.said.push_back(
        fmt::format("did not know {} at {}", n.neighbour.ip.str(), name(n.interface)));
    out.requests.push_back(set_neighbour(n.interface, n.neighbour.ip, n.neighbour.mac));
  }
  for (const PolicyRule& rule : wanted.rules) {
    if (std::find(now.rules.begin(), now.rules.end(), rule) != now.rules.end()) continue;
    out.said.push_back(fmt::format("lacked routing rule {}", rule.preference));
    out.requests.push_back(add_rule(rule));
  }
  return out;
}

}  // namespace muster::overlay
