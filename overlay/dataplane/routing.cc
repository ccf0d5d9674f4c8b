#include "overlay/dataplane/routing.h"

#include <linux/fib_rules.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <cerrno>

#include "overlay/dataplane/wire.h"

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

std::optional<PolicyRule> read_rule(nlmsghdr* h) {
  const auto* header = static_cast<const fib_rule_hdr*>(nlmsg_data(h));
  if (header->action != FR_ACT_TO_TBL) return std::nullopt;
  const auto find = [&](int type) { return nlmsg_find_attr(h, sizeof(*header), type); };
  PolicyRule rule;
  rule.v6 = header->family == AF_INET6;
  if (const auto* a = find(FRA_PRIORITY)) rule.preference = nla_get_u32(a);
  if (const auto* a = find(FRA_TABLE)) rule.table = nla_get_u32(a);
  if (const auto* a = find(FRA_SRC)) rule.from = ip_of(header->family, a);
  if (const auto* a = find(FRA_IP_PROTO)) rule.protocol = nla_get_u8(a);
  if (const auto* a = find(FRA_SPORT_RANGE)) {
    rule.source_port = static_cast<const fib_rule_port_range*>(nla_data(a))->start;
  }
  // Not set is told as all ones.
  if (const auto* a = find(FRA_SUPPRESS_PREFIXLEN)) rule.no_default = nla_get_u32(a) == 0;
  return rule;
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

Message add_rule(const PolicyRule& rule) {
  Message m = rule_message(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, "add", rule);
  m.tolerate(EEXIST);
  return m;
}

Message delete_rule(const PolicyRule& rule) {
  Message m = rule_message(RTM_DELRULE, 0, "delete", rule);
  m.tolerate(ENOENT);
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

Result<std::vector<PolicyRule>> list_rules(NetlinkSocket& socket) {
  std::vector<PolicyRule> out;
  for (const bool v6 : {false, true}) {
    Message m(RTM_GETRULE, 0, "list routing rules");
    fib_rule_hdr header{};
    header.family = family_of(v6);
    // A kernel without IPv6 has none of that family.
    m.header(header).tolerate(EOPNOTSUPP).tolerate(EAFNOSUPPORT);
    MUSTER_TRY(socket.query(m, true, [&](nlmsghdr* h) {
      if (h->nlmsg_type != RTM_NEWRULE) return;
      if (const auto rule = read_rule(h)) out.push_back(*rule);
    }));
  }
  return out;
}

}  // namespace muster::overlay
