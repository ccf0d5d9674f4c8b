#include "overlay/dataplane/kernel/routing.h"

#include <linux/fib_rules.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <cerrno>

#include "overlay/dataplane/kernel/wire.h"

namespace muster::overlay {
namespace {

uint8_t family_of(bool v6) {
  return v6 ? AF_INET6 : AF_INET;
}

Message put_ip(Message m, int attribute, const Ip& ip) {
  const std::string bytes = ip_bytes(ip);
  m.put(attribute, bytes.data(), bytes.size());
  return m;
}

Message rule_message(int type, int flags, const std::string& what, const PolicyRule& rule) {
  Message m(type, flags, fmt::format("{} routing rule {}", what, rule.preference));
  fib_rule_hdr header{};
  header.family = family_of(rule.v6);
  header.action = FR_ACT_TO_TBL;
  if (rule.from) header.src_len = static_cast<uint8_t>(rule.from->bits());
  m.header(header).put_u32(FRA_PRIORITY, rule.preference).put_u32(FRA_TABLE, rule.table);
  if (rule.from) m = put_ip(std::move(m), FRA_SRC, *rule.from);
  if (rule.protocol != 0) m.put_u8(FRA_IP_PROTO, rule.protocol);
  if (rule.source_port != 0) {
    const fib_rule_port_range range{rule.source_port, rule.source_port};
    m.put(FRA_SPORT_RANGE, &range, sizeof(range));
  }
  if (rule.no_default) m.put_u32(FRA_SUPPRESS_PREFIXLEN, 0);
  return m;
}

}  // namespace

Message add_table_route(const TableRoute& route) {
  Message m(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE,
            fmt::format("add route to {} in table {}", route.destination.str(), route.table));
  rtmsg header{};
  header.rtm_family = family_of(route.destination.base.v6);
  header.rtm_dst_len = static_cast<uint8_t>(route.destination.length);
  header.rtm_protocol = RTPROT_STATIC;
  header.rtm_scope = route.gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
  header.rtm_type = RTN_UNICAST;
  if (route.gateway) header.rtm_flags = RTNH_F_ONLINK;
  m.header(header).put_u32(RTA_TABLE, route.table);
  if (route.destination.length > 0) m = put_ip(std::move(m), RTA_DST, route.destination.base);
  if (route.gateway) m = put_ip(std::move(m), RTA_GATEWAY, *route.gateway);
  if (route.source) m = put_ip(std::move(m), RTA_PREFSRC, *route.source);
  m.put_u32(RTA_OIF, static_cast<uint32_t>(route.interface)).tolerate(EEXIST);
  return m;
}

Message add_subnet_route(int interface, const Prefix& subnet, const Ip& address) {
  constexpr uint32_t kMetric6 = 256;  // IP6_RT_PRIO_ADDRCONF
  Message m(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, "add route to " + subnet.str());
  rtmsg header{};
  header.rtm_family = family_of(subnet.base.v6);
  header.rtm_dst_len = static_cast<uint8_t>(subnet.length);
  header.rtm_table = RT_TABLE_MAIN;
  header.rtm_protocol = RTPROT_KERNEL;
  header.rtm_scope = subnet.base.v6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
  header.rtm_type = RTN_UNICAST;
  m.header(header);
  m = put_ip(std::move(m), RTA_DST, subnet.base);
  if (subnet.base.v6) {
    m.put_u32(RTA_PRIORITY, kMetric6);
  } else {
    m = put_ip(std::move(m), RTA_PREFSRC, address);
  }
  m.put_u32(RTA_OIF, static_cast<uint32_t>(interface)).tolerate(EEXIST);
  return m;
}

Message add_loopback6(int interface) {
  // A metric of its own for each interface: another one's route is no reason to refuse.
  constexpr uint32_t kMetric = 4096;
  const Ip loopback{true, 1};
  Message m(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, "add route for ::1");
  rtmsg header{};
  header.rtm_family = AF_INET6;
  header.rtm_dst_len = 128;
  header.rtm_table = RT_TABLE_LOCAL;
  header.rtm_protocol = RTPROT_STATIC;
  header.rtm_scope = RT_SCOPE_HOST;
  header.rtm_type = RTN_LOCAL;
  m.header(header).put_u32(RTA_PRIORITY, kMetric + static_cast<uint32_t>(interface));
  m = put_ip(std::move(m), RTA_DST, loopback);
  m.put_u32(RTA_OIF, static_cast<uint32_t>(interface));
  return m;
}

Message add_rule(const PolicyRule& rule) {
  Message m = rule_message(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, "add", rule);
  m.tolerate(EEXIST);
  return m;
}

Message set_neighbour(int interface, const Ip& ip, const std::string& mac) {
  Message m(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, "set neighbour " + ip.str());
  ndmsg header{};
  header.ndm_family = family_of(ip.v6);
  header.ndm_ifindex = interface;
  header.ndm_state = NUD_PERMANENT;
  m.header(header);
  m = put_ip(std::move(m), NDA_DST, ip);
  const std::string bytes = mac_bytes(mac);
  m.put(NDA_LLADDR, bytes.data(), bytes.size());
  return m;
}

Message set_bridge_entry(int port, const std::string& mac) {
  Message m(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, "set the bridge's entry of " + mac);
  ndmsg header{};
  header.ndm_family = AF_BRIDGE;
  header.ndm_ifindex = port;
  header.ndm_state = NUD_NOARP;
  header.ndm_flags = NTF_MASTER | NTF_STICKY;
  const std::string bytes = mac_bytes(mac);
  m.header(header).put(NDA_LLADDR, bytes.data(), bytes.size());
  return m;
}

}  // namespace muster::overlay
