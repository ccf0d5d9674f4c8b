#include "overlay/dataplane/host/local_ranges.h"

#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <set>
#include <utility>

#include "overlay/dataplane/kernel/links.h"
#include "overlay/dataplane/kernel/names.h"
#include "overlay/dataplane/kernel/netlink.h"

namespace muster::overlay {
namespace {

// Never given to a network: loopback, link-local, multicast and what is above it.
bool of_no_interest(const Prefix& range) {
  static const Prefix kNever[] = {{Ip::v4(127u << 24), 8},
                                  {Ip::v4(169u << 24 | 254u << 16), 16},
                                  {Ip::v4(224u << 24), 3},
                                  {Ip{true, 1}, 128},
                                  {Ip{true, Uint128{0xfe80} << 112}, 10},
                                  {Ip{true, Uint128{0xff} << 120}, 8}};
  if (range.length == 0) return true;
  for (const Prefix& never : kNever) {
    if (never.contains(range)) return true;
  }
  return false;
}

}  // namespace

Result<RangeSet> local_ranges(const std::string& instance_id, const std::vector<Ip>& resolvers) {
  MUSTER_ASSIGN(NetlinkSocket socket, NetlinkSocket::open(NETLINK_ROUTE));
  const Names names(instance_id);
  MUSTER_ASSIGN(const auto links, list_links(socket));
  std::set<int> ours;
  for (const Link& link : links) {
    const std::string& n = link.name;
    if (names.is_our_bridge(n) || names.is_our_way(n) || n == names.gateway_bridge() ||
        n == names.mesh()) {
      ours.insert(link.index);
    }
  }
  MUSTER_ASSIGN(const auto routes, list_routes(socket));
  std::vector<Prefix> ranges;
  for (const Route& route : routes) {
    if (ours.count(route.interface) == 0) ranges.push_back(route.destination);
  }
  MUSTER_ASSIGN(const auto addresses, list_addresses(socket));
  for (const auto& [interface, address] : addresses) {
    if (ours.count(interface) == 0) ranges.push_back({address.ip, address.ip.bits()});
  }
  for (const Ip& resolver : resolvers) ranges.push_back({resolver, resolver.bits()});
  std::erase_if(ranges, of_no_interest);
  return RangeSet(std::move(ranges));
}

}  // namespace muster::overlay
