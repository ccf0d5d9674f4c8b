#include "overlay/dataplane/mesh/mesh_link.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <cerrno>

#include "overlay/dataplane/container/subnet_routes.h"
#include "overlay/dataplane/kernel/links.h"
#include "overlay/dataplane/kernel/routing.h"
#include "overlay/dataplane/kernel/sysctl.h"
#include "overlay/dataplane/mesh/mesh_ruleset.h"
#include "overlay/dataplane/segment/segment_links.h"

namespace muster::overlay {
namespace {

constexpr Prefix kLinkLocal{Ip{true, Uint128{0xfe80} << 112}, 10};
constexpr Prefix kMulticast6{Ip{true, Uint128{0xff} << 120}, 8};

bool has_v6(const std::vector<Cidr>& addresses) {
  return std::any_of(addresses.begin(), addresses.end(), [](const Cidr& c) { return c.ip.v6; });
}

void say(std::vector<std::string>* said, const std::string& sentence) {
  if (said != nullptr) said->push_back(sentence);
}

Status set(const std::string& key, std::string_view value, std::vector<std::string>* said) {
  const auto now = read_sysctl(key);
  if (now && *now == value) return ok_status();
  say(said, fmt::format("{} was {}", key, now ? *now : std::string("missing")));
  return write_sysctl(key, value);
}

}  // namespace

Result<std::vector<Prefix>> MeshLink::subnets() {
  std::vector<Prefix> out;
  MUSTER_ASSIGN(const auto link, find_link(host_, names_.mesh()));
  if (!link) return out;
  MUSTER_ASSIGN(const auto addresses, list_addresses(host_));
  for (const auto& [of, cidr] : addresses) {
    if (of != link->index || kLinkLocal.contains(cidr.ip)) continue;
    MUSTER_ASSIGN(const Prefix subnet, Prefix::parse(cidr.str()));
    out.push_back(subnet);
  }
  MUSTER_ASSIGN(const auto routes, list_routes(host_));
  for (const Route& route : routes) {
    const Prefix& to = route.destination;
    const bool known = std::any_of(out.begin(), out.end(),
                                   [&](const Prefix& subnet) { return subnet.contains(to); });
    if (route.interface != link->index || route.table != RT_TABLE_MAIN || known) continue;
    if (!kLinkLocal.contains(to.base) && !kMulticast6.contains(to.base)) out.push_back(to);
  }
  return out;
}

Status MeshLink::make(const Spec& spec, const Segments::Place& place) {
  const UniqueFd host(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!host) return errno_status(errno, "cannot open a network namespace");
  // From inside: the far end of a pair is the one whose MAC can be chosen, and stays down.
  VethSpec veth;
  veth.host_name = names_.mesh();
  veth.master = place.bridge_index;
  veth.mtu = place.mtu;
  veth.peer_name = names_.mesh();
  veth.peer_mac = spec.mac;
  veth.namespace_fd = host.get();
  return place.inside->run(new_veth(veth));
}

Status MeshLink::keep_port(const Spec& spec, const Segments::Place& place,
                           std::vector<std::string>* said) {
  MUSTER_ASSIGN(auto port, find_link(*place.inside, names_.mesh()));
  MUSTER_ASSIGN(auto link, find_link(host_, names_.mesh()));
  if (link && (!port || link->mac != spec.mac)) {
    // Half a pair, or of another place: its other end is in a segment that is no more.
    say(said, fmt::format("interface {} was another", names_.mesh()));
    MUSTER_TRY(host_.run(delete_link(names_.mesh())));
    link.reset();
  }
  if (!link) {
    say(said, fmt::format("interface {} was missing", names_.mesh()));
    if (port) MUSTER_TRY(place.inside->run(delete_link(names_.mesh())));
    MUSTER_TRY(make(spec, place));
    MUSTER_ASSIGN(port, find_link(*place.inside, names_.mesh()));
    if (!port) return internal_error("interface {} vanished", names_.mesh());
  }
  std::vector<Message> mend;
  if (port->master != place.bridge_index) {
    say(said, fmt::format("interface {} was in no bridge", names_.mesh()));
    mend.push_back(set_master(port->index, place.bridge_index));
  }
  if (port->mtu != place.mtu) mend.push_back(set_mtu(port->index, place.mtu));
  if (!port->up) {
    say(said, fmt::format("interface {} was down", names_.mesh()));
    mend.push_back(set_up(port->index));
  }
  // No container gets answers of the mesh by sending frames in this node's name.
  mend.push_back(set_bridge_entry(port->index, spec.mac));
  return place.inside->run(mend);
}

Status MeshLink::keep_settings(const Spec& spec, std::vector<std::string>* said) {
  const std::string name = names_.mesh();
  const std::string v4 = "net/ipv4/conf/" + name + "/";
  // The node's own processes reach published ports at 127.0.0.1, too; the rules drop such addresses
  // from anywhere else.
  MUSTER_TRY(set(v4 + "route_localnet", "1", said));
  // The host's other addresses are not of this network.
  MUSTER_TRY(set(v4 + "arp_ignore", "1", said));
  MUSTER_TRY(set("net.ipv4.ip_forward", "1", said));
  if (!kernel_has_ipv6()) return ok_status();
  const std::string v6 = "net/ipv6/conf/" + name + "/";
  if (!has_v6(spec.addresses)) return set(v6 + "disable_ipv6", "1", said);
  MUSTER_TRY(set(v6 + "disable_ipv6", "0", said));
  MUSTER_TRY(set(v6 + "accept_ra", "0", said));
  MUSTER_TRY(set(v6 + "accept_dad", "0", said));
  MUSTER_TRY(set(v6 + "dad_transmits", "0", said));
  return forward_ipv6();
}

Status MeshLink::keep_addresses(const Spec& spec, int index, std::vector<std::string>* said) {
  MUSTER_ASSIGN(const auto addresses, list_addresses(host_));
  const auto same = [](const Cidr& a, const Cidr& b) {
    return a.ip == b.ip && a.length == b.length;
  };
  std::vector<Message> mend;
  std::vector<Cidr> there;
  for (const auto& [of, cidr] : addresses) {
    if (of != index || kLinkLocal.contains(cidr.ip)) continue;
    const bool wanted = std::any_of(spec.addresses.begin(), spec.addresses.end(),
                                    [&](const Cidr& c) { return same(c, cidr); });
    if (wanted) {
      there.push_back(cidr);
      continue;
    }
    say(said, fmt::format("interface {} had address {}", names_.mesh(), cidr.str()));
    mend.push_back(delete_address(index, cidr));
  }
  for (const Cidr& cidr : spec.addresses) {
    if (std::any_of(there.begin(), there.end(), [&](const Cidr& c) { return same(c, cidr); })) {
      continue;
    }
    if (cidr.ip.v6 && !kernel_has_ipv6()) continue;
    say(said, fmt::format("interface {} lacked address {}", names_.mesh(), cidr.str()));
    mend.push_back(add_address(index, cidr));
  }
  return host_.run(mend);
}

// A network that has got larger: the host has an address in one of its subnets.
Status MeshLink::keep_routes(const Spec& spec, int index, std::vector<std::string>* said) {
  const auto wanted = further_routes(spec.subnets, spec.addresses, index);
  if (wanted.empty()) return ok_status();
  MUSTER_ASSIGN(const auto present, list_routes(host_));
  std::vector<Message> mend;
  for (const TableRoute& route : wanted) {
    if (route.destination.base.v6 && !kernel_has_ipv6()) continue;
    // One of the host's own that is in the way stays: managers say that it overlaps.
    const bool taken = std::any_of(present.begin(), present.end(), [&](const Route& r) {
      return r.destination == route.destination && r.table == route.table;
    });
    if (taken) continue;
    say(said,
        fmt::format("interface {} had no route to {}", names_.mesh(), route.destination.str()));
    mend.push_back(add_table_route(route));
  }
  return host_.run(mend);
}

// For what is led from ::1 by the kernel.
Status MeshLink::keep_loopback6(const Spec& spec, int index, std::vector<std::string>* said) {
  if (!kernel_has_ipv6() || !has_v6(spec.addresses)) return ok_status();
  const Status added = host_.run(add_loopback6(index));
  if (added.code() == StatusCode::kAlreadyExists) return ok_status();
  if (added.ok()) say(said, fmt::format("interface {} had no route for ::1", names_.mesh()));
  return added;
}

Status MeshLink::keep(const Spec& spec, const Segments::Place& place,
                      std::vector<std::string>* said) {
  std::vector<std::string> subnets;
  for (const Prefix& subnet : spec.subnets) subnets.push_back(subnet.str());
  // Rules first: nothing passes without.
  MUSTER_ASSIGN(const KeptTable table,
                keep_table(nft_, mesh_host_table(table_, names_.mesh(), subnets)));
  if (table.made) say(said, "the host's rules of the routing mesh were gone or changed");
  MUSTER_TRY(keep_port(spec, place, said));
  MUSTER_TRY(keep_settings(spec, said));
  MUSTER_ASSIGN(const auto link, find_link(host_, names_.mesh()));
  if (!link) return internal_error("interface {} vanished", names_.mesh());
  MUSTER_TRY(keep_addresses(spec, link->index, said));
  std::vector<Message> mend;
  if (link->mtu != place.mtu) mend.push_back(set_mtu(link->index, place.mtu));
  if (!link->up) {
    say(said, fmt::format("interface {} was down", names_.mesh()));
    mend.push_back(set_up(link->index));
  }
  MUSTER_TRY(host_.run(mend));
  MUSTER_TRY(keep_routes(spec, link->index, said));
  return keep_loopback6(spec, link->index, said);
}

Status MeshLink::remove() {
  MUSTER_TRY(host_.run(delete_link(names_.mesh())));
  return delete_table(nft_, "inet", table_);
}

}  // namespace muster::overlay
