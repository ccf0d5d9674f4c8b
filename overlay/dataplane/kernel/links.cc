#include "overlay/dataplane/kernel/links.h"

#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <cerrno>

#include "overlay/dataplane/kernel/wire.h"

namespace muster::overlay {
namespace {

ifinfomsg up_header() {
  ifinfomsg info{};
  info.ifi_family = AF_UNSPEC;
  info.ifi_flags = IFF_UP;
  info.ifi_change = IFF_UP;
  return info;
}

Link read_link(nlmsghdr* header) {
  const auto* info = static_cast<const ifinfomsg*>(nlmsg_data(header));
  Link link;
  link.index = info->ifi_index;
  link.up = (info->ifi_flags & IFF_UP) != 0;
  const auto find = [&](int type) { return nlmsg_find_attr(header, sizeof(*info), type); };
  if (const auto* name = find(IFLA_IFNAME)) link.name = nla_get_string(name);
  if (const auto* alias = find(IFLA_IFALIAS)) link.alias = nla_get_string(alias);
  if (const auto* mac = find(IFLA_ADDRESS)) link.mac = mac_text(mac);
  if (const auto* mtu = find(IFLA_MTU)) link.mtu = nla_get_u32(mtu);
  if (const auto* master = find(IFLA_MASTER)) link.master = static_cast<int>(nla_get_u32(master));
  return link;
}

}  // namespace

Message new_bridge(const BridgeSpec& spec) {
  Message m(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, "create bridge " + spec.name);
  const std::string mac = mac_bytes(spec.mac);
  m.header(up_header())
      .put(IFLA_IFNAME, spec.name)
      // A fixed address: the bridge would else take the lowest of its ports', which come and go,
      // and neighbours would remember a gateway that is no more.
      .put(IFLA_ADDRESS, mac.data(), mac.size())
      .put_u32(IFLA_MTU, spec.mtu)
      .begin(IFLA_LINKINFO)
      .put(IFLA_INFO_KIND, "bridge")
      .begin(IFLA_INFO_DATA)
      .put_u32(IFLA_BR_STP_STATE, 0)
      .put_u32(IFLA_BR_FORWARD_DELAY, 0)
      .put_u8(IFLA_BR_MCAST_SNOOPING, 0)
      .end()
      .end()
      .tolerate(EEXIST);
  return m;
}

Message new_veth(const VethSpec& spec) {
  Message m(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, "create interface " + spec.host_name);
  // The peer comes up later, inside: it cannot before the pair is joined.
  ifinfomsg peer{};
  peer.ifi_index = spec.peer_index;
  const std::string mac = mac_bytes(spec.peer_mac);
  m.header(up_header()).put(IFLA_IFNAME, spec.host_name).put_u32(IFLA_MTU, spec.mtu);
  if (spec.master != 0) m.put_u32(IFLA_MASTER, static_cast<uint32_t>(spec.master));
  m.begin(IFLA_LINKINFO)
      .put(IFLA_INFO_KIND, "veth")
      .begin(IFLA_INFO_DATA)
      .begin(VETH_INFO_PEER)
      .header(peer)
      .put(IFLA_IFNAME, spec.peer_name)
      .put_u32(IFLA_MTU, spec.mtu)
      .put(IFLA_ADDRESS, mac.data(), mac.size())
      .put_u32(IFLA_NET_NS_FD, static_cast<uint32_t>(spec.namespace_fd))
      .end()
      .end()
      .end();
  return m;
}

Message set_alias(const std::string& name, std::string_view alias) {
  Message m(RTM_SETLINK, 0, "name interface " + name);
  m.header(ifinfomsg{}).put(IFLA_IFNAME, name).put(IFLA_IFALIAS, alias);
  return m;
}

Message set_up(int index) {
  Message m(RTM_NEWLINK, 0, fmt::format("set interface {} up", index));
  ifinfomsg info = up_header();
  info.ifi_index = index;
  m.header(info);
  return m;
}

Message set_hairpin(const std::string& port) {
  Message m(RTM_NEWLINK, 0, "set hairpin mode of " + port);
  m.header(ifinfomsg{})
      .put(IFLA_IFNAME, port)
      .begin(IFLA_LINKINFO)
      .put(IFLA_INFO_SLAVE_KIND, "bridge")
      .begin(IFLA_INFO_SLAVE_DATA)
      .put_u8(IFLA_BRPORT_MODE, 1)
      .end()
      .end();
  return m;
}

Message delete_link(const std::string& name) {
  Message m(RTM_DELLINK, 0, "delete interface " + name);
  m.header(ifinfomsg{}).put(IFLA_IFNAME, name).tolerate(ENODEV);
  return m;
}

Message add_address(int index, const Cidr& address) {
  Message m(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, "add address " + address.str());
  ifaddrmsg info{};
  info.ifa_family = address.ip.v6 ? AF_INET6 : AF_INET;
  info.ifa_prefixlen = static_cast<unsigned char>(address.length);
  info.ifa_flags = address.ip.v6 ? IFA_F_NODAD : 0;
  info.ifa_index = static_cast<unsigned>(index);
  const std::string ip = ip_bytes(address.ip);
  m.header(info).put(IFA_LOCAL, ip.data(), ip.size()).put(IFA_ADDRESS, ip.data(), ip.size());
  if (!address.ip.v6 && address.length < 31) {
    const uint32_t hosts = (uint32_t{1} << (32 - address.length)) - 1;
    const std::string broadcast = ip_bytes(Ip::v4(static_cast<uint32_t>(address.ip.value) | hosts));
    m.put(IFA_BROADCAST, broadcast.data(), broadcast.size());
  }
  m.tolerate(EEXIST);
  return m;
}

Message delete_address(int index, const Cidr& address) {
  Message m(RTM_DELADDR, 0, "delete address " + address.str());
  ifaddrmsg info{};
  info.ifa_family = address.ip.v6 ? AF_INET6 : AF_INET;
  info.ifa_prefixlen = static_cast<unsigned char>(address.length);
  info.ifa_index = static_cast<unsigned>(index);
  const std::string ip = ip_bytes(address.ip);
  m.header(info).put(IFA_LOCAL, ip.data(), ip.size()).put(IFA_ADDRESS, ip.data(), ip.size());
  m.tolerate(EADDRNOTAVAIL);
  return m;
}

Message add_default_route(int index, const Ip& gateway) {
  Message m(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, "add default route via " + gateway.str());
  rtmsg route{};
  route.rtm_family = gateway.v6 ? AF_INET6 : AF_INET;
  route.rtm_table = RT_TABLE_MAIN;
  route.rtm_protocol = RTPROT_STATIC;
  route.rtm_scope = RT_SCOPE_UNIVERSE;
  route.rtm_type = RTN_UNICAST;
  const std::string ip = ip_bytes(gateway);
  m.header(route).put(RTA_GATEWAY, ip.data(), ip.size());
  m.put_u32(RTA_OIF, static_cast<uint32_t>(index)).tolerate(EEXIST);
  return m;
}

Result<int> ensure_bridge(NetlinkSocket& socket, const BridgeSpec& spec, std::string_view alias) {
  std::vector<Message> make;
  make.push_back(new_bridge(spec));
  make.push_back(set_alias(spec.name, alias));
  if (Status made = socket.run(make); !made.ok()) {
    if (refused_with(made, EOPNOTSUPP)) {
      return fail(
          failed_precondition("this kernel has no bridges (module bridge): {}", made.message()));
    }
    return fail(std::move(made));
  }
  MUSTER_ASSIGN(const auto link, find_link(socket, spec.name));
  if (!link) return fail(internal_error("bridge {} vanished", spec.name));
  return link->index;
}

Result<std::vector<Link>> list_links(NetlinkSocket& socket) {
  Message m(RTM_GETLINK, 0, "list interfaces");
  m.header(ifinfomsg{});
  // RTEXT_FILTER_SKIP_STATS: counters of hundreds of links are not wanted here.
  m.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  std::vector<Link> links;
  MUSTER_TRY(socket.query(m, true, [&](nlmsghdr* h) {
    if (h->nlmsg_type == RTM_NEWLINK) links.push_back(read_link(h));
  }));
  return links;
}

Result<std::optional<Link>> find_link(NetlinkSocket& socket, const std::string& name) {
  Message m(RTM_GETLINK, 0, "look for interface " + name);
  m.header(ifinfomsg{}).put(IFLA_IFNAME, name).tolerate(ENODEV);
  std::optional<Link> found;
  MUSTER_TRY(socket.query(m, false, [&](nlmsghdr* h) {
    if (h->nlmsg_type == RTM_NEWLINK) found = read_link(h);
  }));
  return found;
}

Result<std::vector<std::pair<int, Cidr>>> list_addresses(NetlinkSocket& socket) {
  Message m(RTM_GETADDR, 0, "list addresses");
  m.header(ifaddrmsg{});
  std::vector<std::pair<int, Cidr>> out;
  MUSTER_TRY(socket.query(m, true, [&](nlmsghdr* h) {
    if (h->nlmsg_type != RTM_NEWADDR) return;
    const auto* info = static_cast<const ifaddrmsg*>(nlmsg_data(h));
    const nlattr* address = nlmsg_find_attr(h, sizeof(*info), IFA_LOCAL);
    if (address == nullptr) address = nlmsg_find_attr(h, sizeof(*info), IFA_ADDRESS);
    if (address == nullptr) return;
    out.emplace_back(static_cast<int>(info->ifa_index),
                     Cidr{ip_of(info->ifa_family, address), info->ifa_prefixlen});
  }));
  return out;
}

Result<std::vector<Route>> list_routes(NetlinkSocket& socket) {
  Message m(RTM_GETROUTE, 0, "list routes");
  m.header(rtmsg{});
  std::vector<Route> out;
  MUSTER_TRY(socket.query(m, true, [&](nlmsghdr* h) {
    if (h->nlmsg_type != RTM_NEWROUTE) return;
    const auto* info = static_cast<const rtmsg*>(nlmsg_data(h));
    const bool cached = (info->rtm_flags & RTM_F_CLONED) != 0;
    const bool ip = info->rtm_family == AF_INET || info->rtm_family == AF_INET6;
    if (!ip || cached || info->rtm_type != RTN_UNICAST || info->rtm_table == RT_TABLE_LOCAL) return;
    Route route;
    route.destination = {Ip{info->rtm_family == AF_INET6, 0}, info->rtm_dst_len};
    if (const nlattr* to = nlmsg_find_attr(h, sizeof(*info), RTA_DST))
      route.destination.base = ip_of(info->rtm_family, to);
    if (const nlattr* by = nlmsg_find_attr(h, sizeof(*info), RTA_OIF))
      route.interface = static_cast<int>(nla_get_u32(by));
    const nlattr* table = nlmsg_find_attr(h, sizeof(*info), RTA_TABLE);
    route.table = table != nullptr ? nla_get_u32(table) : info->rtm_table;
    out.push_back(route);
  }));
  return out;
}

}  // namespace muster::overlay
