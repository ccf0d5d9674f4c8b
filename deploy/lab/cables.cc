#include "deploy/lab/cables.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "base/unique_fd.h"
#include "deploy/lab/node_space.h"
#include "overlay/dataplane/kernel/links.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/dataplane/kernel/nft.h"
#include "overlay/dataplane/kernel/sysctl.h"

namespace muster::deploy::lab {
namespace {

using overlay::NetlinkSocket;

constexpr const char* kBridge = "lab";
constexpr const char* kHostPort = "host";  // the hub's end of the host's cable
constexpr const char* kNodeLink = "eth0";
constexpr const char* kIpForward = "net.ipv4.ip_forward";

std::string alias_of(const std::string& lab) {
  return "muster lab " + lab;
}

// Unique on the host, since subnets are.
std::string host_link(const LabPlan& plan) {
  return fmt::format("mlab{}", (static_cast<uint32_t>(plan.subnet.base.value) >> 16) & 0xff);
}

std::string way_out_table(const std::string& lab) {
  std::string table = "muster_lab_" + lab;
  std::replace(table.begin(), table.end(), '-', '_');
  return table;
}

overlay::Cidr in_subnet(const LabPlan& plan, const overlay::Ip& ip) {
  return {ip, plan.subnet.length};
}

// Finds a link that has to be there.
Result<overlay::Link> need_link(NetlinkSocket& rtnl, const std::string& name) {
  MUSTER_ASSIGN(const auto link, find_link(rtnl, name));
  if (!link) return fail(not_found("interface {} is missing", name));
  return *link;
}

Status set_link(NetlinkSocket& rtnl, const std::string& name, const overlay::Cidr* address) {
  MUSTER_ASSIGN(const overlay::Link link, need_link(rtnl, name));
  if (address != nullptr) MUSTER_TRY(rtnl.run(overlay::add_address(link.index, *address)));
  return rtnl.run(overlay::set_up(link.index));
}

// Runs in the hub: a pair of which one end goes elsewhere, unless both are there already
// (`far_end`). A namespace that has ended takes its end, and so the port, along, but not at once:
// the kernel first clears away the networks of containers that lie above it.
Status plug(const std::string& port, const std::string& far_name, const overlay::Ip& far_address,
            int far_namespace, bool far_end) {
  MUSTER_ASSIGN(NetlinkSocket rtnl, NetlinkSocket::open(NETLINK_ROUTE));
  MUSTER_ASSIGN(const auto present, find_link(rtnl, port));
  if (present && far_end) return ok_status();
  if (present) MUSTER_TRY(rtnl.run(overlay::delete_link(port)));
  MUSTER_ASSIGN(const overlay::Link bridge, need_link(rtnl, kBridge));
  overlay::VethSpec pair;
  pair.host_name = port;
  pair.master = bridge.index;
  pair.peer_name = far_name;
  pair.peer_mac = overlay::mac_of(far_address);
  pair.namespace_fd = far_namespace;
  return rtnl.run(overlay::new_veth(pair));
}

Result<UniqueFd> own_network() {
  UniqueFd fd(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!fd) return fail(errno_status(errno, "/proc/self/ns/net"));
  return fd;
}

}  // namespace

Result<std::vector<overlay::Prefix>> taken_prefixes() {
  MUSTER_ASSIGN(NetlinkSocket rtnl, NetlinkSocket::open(NETLINK_ROUTE));
  std::vector<overlay::Prefix> out;
  MUSTER_ASSIGN(const auto routes, overlay::list_routes(rtnl));
  for (const overlay::Route& route : routes) {
    // The default route leads everywhere and occupies nothing.
    if (route.destination.base.v6 || route.destination.length == 0) continue;
    out.push_back(route.destination);
  }
  MUSTER_ASSIGN(const auto addresses, list_addresses(rtnl));
  for (const auto& [index, cidr] : addresses) {
    if (cidr.ip.v6) continue;
    MUSTER_ASSIGN(const overlay::Prefix prefix, overlay::Prefix::parse(cidr.str()));
    out.push_back(prefix);
  }
  return out;
}

Status lay_hub(const LabPlan& plan, const InitProcess& hub) {
  MUSTER_ASSIGN(const UniqueFd host, own_network());
  MUSTER_ASSIGN(NetlinkSocket rtnl, NetlinkSocket::open(NETLINK_ROUTE));
  MUSTER_ASSIGN(const auto host_end, find_link(rtnl, host_link(plan)));
  const overlay::Ip host_address = plan.host_address();
  MUSTER_TRY(in_network_of(hub, [&]() -> Status {
    MUSTER_ASSIGN(NetlinkSocket inside, NetlinkSocket::open(NETLINK_ROUTE));
    MUSTER_TRY(set_link(inside, "lo", nullptr));
    const overlay::Cidr address = in_subnet(plan, plan.find(kHub)->address);
    overlay::BridgeSpec bridge;
    bridge.name = kBridge;
    bridge.mac = overlay::mac_of(address.ip);
    MUSTER_TRY(inside.run(overlay::new_bridge(bridge)));
    MUSTER_TRY(set_link(inside, kBridge, &address));
    return plug(kHostPort, host_link(plan), host_address, host.get(), host_end.has_value());
  }));
  MUSTER_TRY(rtnl.run(overlay::set_alias(host_link(plan), alias_of(plan.name))));
  const overlay::Cidr address = in_subnet(plan, host_address);
  return set_link(rtnl, host_link(plan), &address);
}

Status lay_cable(const LabPlan& plan, const InitProcess& hub, const InitProcess& node, bool nat) {
  const NodePlan& about = *plan.find(node.node);
  const UniqueFd inside(
      open(fmt::format("/proc/{}/ns/net", node.process.view.pid).c_str(), O_RDONLY | O_CLOEXEC));
  if (!inside) return errno_status(errno, "network of " + node.node);
  bool far_end = false;
  MUSTER_TRY(in_network_of(node, [&]() -> Status {
    MUSTER_ASSIGN(NetlinkSocket rtnl, NetlinkSocket::open(NETLINK_ROUTE));
    MUSTER_ASSIGN(const auto link, find_link(rtnl, kNodeLink));
    far_end = link.has_value();
    return ok_status();
  }));
  MUSTER_TRY(in_network_of(
      hub, [&] { return plug(about.name, kNodeLink, about.address, inside.get(), far_end); }));
  return in_network_of(node, [&]() -> Status {
    MUSTER_ASSIGN(NetlinkSocket rtnl, NetlinkSocket::open(NETLINK_ROUTE));
    MUSTER_TRY(set_link(rtnl, "lo", nullptr));
    const overlay::Cidr address = in_subnet(plan, about.address);
    MUSTER_TRY(set_link(rtnl, kNodeLink, &address));
    if (!nat) return ok_status();
    MUSTER_ASSIGN(const overlay::Link link, need_link(rtnl, kNodeLink));
    return rtnl.run(overlay::add_default_route(link.index, plan.host_address()));
  });
}

Status apply_cuts(const LabPlan& plan, const Cuts& cuts, const InitProcess& node) {
  return in_network_of(node, [&]() -> Status {
    MUSTER_ASSIGN(const auto nft, overlay::LibNft::make());
    return nft->run(cut_rules(plan, cuts, node.node));
  });
}

Result<bool> host_forwards() {
  const auto forwards = overlay::read_sysctl(kIpForward);
  if (!forwards) return fail(forwards.error());
  return !forwards->starts_with('0');
}

Status open_way_out(const LabPlan& plan) {
  MUSTER_ASSIGN(const auto nft, overlay::LibNft::make());
  const std::string table = way_out_table(plan.name);
  MUSTER_TRY(
      nft->run(fmt::format("add table inet {0}\ndelete table inet {0}\n"
                           "table inet {0} {{\n"
                           "  chain out {{\n"
                           "    type nat hook postrouting priority srcnat; policy accept;\n"
                           "    ip saddr {1} ip daddr != {1} masquerade\n"
                           "  }}\n"
                           "}}\n",
                           table, plan.subnet.str())));
  return overlay::write_sysctl(kIpForward, "1");
}

Status close_way_out(const std::string& lab, bool take_ip_forward_back) {
  MUSTER_ASSIGN(const auto nft, overlay::LibNft::make());
  const std::string table = way_out_table(lab);
  MUSTER_TRY(nft->run(fmt::format("add table inet {0}\ndelete table inet {0}\n", table)));
  return take_ip_forward_back ? overlay::write_sysctl(kIpForward, "0") : ok_status();
}

Status remove_host_cable(const std::string& lab) {
  MUSTER_ASSIGN(NetlinkSocket rtnl, NetlinkSocket::open(NETLINK_ROUTE));
  MUSTER_ASSIGN(const auto links, list_links(rtnl));
  for (const overlay::Link& link : links) {
    if (link.alias == alias_of(lab)) MUSTER_TRY(rtnl.run(overlay::delete_link(link.name)));
  }
  return ok_status();
}

}  // namespace muster::deploy::lab
