#include "overlay/dataplane/host/gateway_links.h"

#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cerrno>

#include "overlay/dataplane/kernel/wire.h"

namespace muster::overlay {

Message set_routed(const std::string& name, std::string_view alias, bool kernel_has_ipv6) {
  Message m(RTM_SETLINK, 0, "set up interface " + name);
  m.header(ifinfomsg{}).put(IFLA_IFNAME, name).put(IFLA_IFALIAS, alias);
  m.begin(IFLA_AF_SPEC)
      .begin(AF_INET)
      .begin(IFLA_INET_CONF)
      .put_u32(IPV4_DEVCONF_ROUTE_LOCALNET, 1)
      .end()
      .end();
  if (kernel_has_ipv6) {
    m.begin(AF_INET6).put_u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE).end();
  }
  m.end();
  return m;
}

Message add_peer_address(int index, const Ip& address, const Ip& peer) {
  Message m(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, "add address " + address.str());
  ifaddrmsg info{};
  info.ifa_family = address.v6 ? AF_INET6 : AF_INET;
  info.ifa_prefixlen = static_cast<unsigned char>(address.bits());
  info.ifa_flags = address.v6 ? IFA_F_NODAD : 0;
  info.ifa_index = static_cast<unsigned>(index);
  const std::string ip = ip_bytes(address);
  m.header(info).put(IFA_LOCAL, ip.data(), ip.size());
  if (address.v6) {
    const std::string other = ip_bytes(peer);
    m.put(IFA_ADDRESS, other.data(), other.size());
  }
  m.tolerate(EEXIST);
  return m;
}

namespace {

void describe_route(Message& m, int index, const Prefix& subnet) {
  rtmsg route{};
  route.rtm_family = subnet.base.v6 ? AF_INET6 : AF_INET;
  route.rtm_dst_len = static_cast<unsigned char>(subnet.length);
  route.rtm_table = RT_TABLE_MAIN;
  route.rtm_protocol = RTPROT_STATIC;
  route.rtm_scope = subnet.base.v6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
  route.rtm_type = RTN_UNICAST;
  const std::string ip = ip_bytes(subnet.base);
  m.header(route).put(RTA_DST, ip.data(), ip.size());
  m.put_u32(RTA_OIF, static_cast<uint32_t>(index));
}

}  // namespace

Message claim_subnet(int index, const Prefix& subnet) {
  Message m(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, "add route to " + subnet.str());
  describe_route(m, index, subnet);
  return m;
}

Message give_up_subnet(int index, const Prefix& subnet) {
  Message m(RTM_DELROUTE, 0, "remove route to " + subnet.str());
  describe_route(m, index, subnet);
  m.tolerate(ESRCH);
  return m;
}

Message add_peer_route(int index, const Ip& peer) {
  Message m = claim_subnet(index, {peer, peer.bits()});
  m.tolerate(EEXIST);
  return m;
}

}  // namespace muster::overlay
