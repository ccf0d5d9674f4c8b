#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// A unicast route of a table that is not the main one.
struct TableRoute {
  uint32_t table = 0;
  Prefix destination;
  std::optional<Ip> gateway;  // none: on the link
  int interface = 0;
  std::optional<Ip> source;  // of packets that have none yet
};

// Which table a packet's route is looked for in. Unset members match everything.
struct PolicyRule {
  uint32_t preference = 0;
  bool v6 = false;
  std::optional<Ip> from;
  uint8_t protocol = 0;      // IPPROTO_*
  uint16_t source_port = 0;  // needs a protocol
  uint32_t table = 0;
  bool no_default = false;  // default routes of that table do not count

  friend bool operator==(const PolicyRule&, const PolicyRule&) = default;
};

// What is there already is fine with all of these. A gateway need not be on the link by an address.
Message add_table_route(const TableRoute& route);
// The route to the subnet of an address that the kernel makes with the address (fib_add_ifaddr(),
// addrconf_prefix_route()), for one that somebody took away: it goes with the address, as that one.
Message add_subnet_route(int interface, const Prefix& subnet, const Ip& address);
Message add_rule(const PolicyRule& rule);
// A way home for what left this host in the name of ::1, by address translation, and is answered by
// this interface. IPv6 has no route_localnet: it looks for ::1 among the routes of the interface
// that a packet came by (the kernel's rt6_need_strict()). Nothing else goes this way, since lo's
// own route has the better metric; and what comes with this address from elsewhere the kernel has
// dropped before (ip6_rcv_core()). The route goes with the interface. ALREADY_EXISTS when it is
// there.
Message add_loopback6(int interface);
// Replaces what was known of the address.
Message set_neighbour(int interface, const Ip& ip, const std::string& mac);
// A bridge's port that has this MAC, whatever frames of that MAC come by other ports.
Message set_bridge_entry(int port, const std::string& mac);

}  // namespace muster::overlay
