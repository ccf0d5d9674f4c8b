#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// An interface as the kernel lists it.
struct Link {
  int index = 0;
  std::string name;
  std::string alias;
  int master = 0;  // index of its bridge, 0 = none
  bool up = false;
  std::string mac;  // empty = has none
  uint32_t mtu = 0;
};

// A unicast route.
struct Route {
  Prefix destination;  // of length 0: a default route
  int interface = 0;   // index; 0 = several next hops
  uint32_t table = 0;
};

struct BridgeSpec {
  std::string name;
  std::string mac;
  uint32_t mtu = 1500;
};

// A pair of interfaces: one end in the host's bridge, the other in a container's namespace.
struct VethSpec {
  std::string host_name;
  int master = 0;
  uint32_t mtu = 1500;
  std::string peer_name;
  int peer_index = 0;  // 0 = the kernel picks
  std::string peer_mac;
  int namespace_fd = -1;
};

// Requests of rtnetlink. Links are up when they are made, except for a pair's far end.
Message new_bridge(const BridgeSpec& spec);
Message new_veth(const VethSpec& spec);
Message set_alias(const std::string& name, std::string_view alias);
Message set_up(int index);
// Lets a bridge send a frame back through the port it came from.
Message set_hairpin(const std::string& port);
Message delete_link(const std::string& name);  // a missing one is fine
// An address without duplicate detection; an existing one is fine.
Message add_address(int index, const Cidr& address);
Message delete_address(int index, const Cidr& address);  // a missing one is fine
Message add_default_route(int index, const Ip& gateway);

// Makes a bridge with an alias where it is missing, and returns its index. FAILED_PRECONDITION on a
// kernel without bridges.
Result<int> ensure_bridge(NetlinkSocket& socket, const BridgeSpec& spec, std::string_view alias);

Result<std::vector<Link>> list_links(NetlinkSocket& socket);
// nullopt when there is none of that name.
Result<std::optional<Link>> find_link(NetlinkSocket& socket, const std::string& name);
// The addresses of all links: (index, address).
Result<std::vector<std::pair<int, Cidr>>> list_addresses(NetlinkSocket& socket);
// The unicast routes of both families, of all tables but the kernel's own table of its addresses.
Result<std::vector<Route>> list_routes(NetlinkSocket& socket);

}  // namespace muster::overlay
