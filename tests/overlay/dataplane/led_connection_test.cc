#include "tests/overlay/dataplane/led_connection.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>

#include <string>

#include "overlay/dataplane/kernel/wire.h"

namespace muster::overlay::testing {

namespace {

nfgenmsg family_of(const Ip& ip) {
  nfgenmsg header{};
  header.nfgen_family = ip.v6 ? AF_INET6 : AF_INET;
  header.version = NFNETLINK_V0;
  return header;
}

Message& put_ip(Message& m, int of_v4, int of_v6, const Ip& ip) {
  const std::string bytes = ip_bytes(ip);
  return m.put(ip.v6 ? of_v6 : of_v4, bytes.data(), bytes.size());
}

}  // namespace

void put_tuple(Message& m, int which, const Ip& from, uint16_t from_port, const Ip& to,
               uint16_t to_port, uint8_t protocol) {
  m.begin(which | NLA_F_NESTED).begin(CTA_TUPLE_IP | NLA_F_NESTED);
  put_ip(m, CTA_IP_V4_SRC, CTA_IP_V6_SRC, from);
  put_ip(m, CTA_IP_V4_DST, CTA_IP_V6_DST, to)
      .end()
      .begin(CTA_TUPLE_PROTO | NLA_F_NESTED)
      .put_u8(CTA_PROTO_NUM, protocol)
      .put_u16(CTA_PROTO_SRC_PORT, htons(from_port))
      .put_u16(CTA_PROTO_DST_PORT, htons(to_port))
      .end()
      .end();
}

Ip led_client(bool v6) {
  return *Ip::parse(v6 ? "fd01::1" : "10.1.0.1");
}

Ip led_asked(bool v6) {
  return *Ip::parse(v6 ? "fd02::1" : "10.2.0.1");
}

Message led_connection(const LedConnection& led) {
  const Ip client = led_client(led.server.v6), asked = led_asked(led.server.v6);
  Message m((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_NEW, NLM_F_CREATE | NLM_F_EXCL,
            "make a connection", 512);
  m.header(family_of(led.server));
  put_tuple(m, CTA_TUPLE_ORIG, client, led.client_port, asked, 80, led.protocol);
  // What translating it makes of that.
  put_tuple(m, CTA_TUPLE_REPLY, asked, 80, client, led.client_port, led.protocol);
  m.put_u32(CTA_TIMEOUT, htonl(led.expires_in_s));
  m.put_u32(CTA_STATUS, htonl(IPS_CONFIRMED | (led.answered ? IPS_SEEN_REPLY : 0)));
  m.begin(CTA_NAT_DST | NLA_F_NESTED);
  put_ip(m, CTA_NAT_V4_MINIP, CTA_NAT_V6_MINIP, led.server);
  put_ip(m, CTA_NAT_V4_MAXIP, CTA_NAT_V6_MAXIP, led.server)
      .begin(CTA_NAT_PROTO | NLA_F_NESTED)
      .put_u16(CTA_PROTONAT_PORT_MIN, htons(8080))
      .put_u16(CTA_PROTONAT_PORT_MAX, htons(8080))
      .end()
      .end();
  if (led.protocol == IPPROTO_TCP) {
    m.begin(CTA_PROTOINFO | NLA_F_NESTED)
        .begin(CTA_PROTOINFO_TCP | NLA_F_NESTED)
        .put_u8(CTA_PROTOINFO_TCP_STATE, led.state)
        .end()
        .end();
  } else if (led.protocol == IPPROTO_SCTP) {
    m.begin(CTA_PROTOINFO | NLA_F_NESTED)
        .begin(CTA_PROTOINFO_SCTP | NLA_F_NESTED)
        .put_u8(CTA_PROTOINFO_SCTP_STATE, led.state)
        .put_u32(CTA_PROTOINFO_SCTP_VTAG_ORIGINAL, htonl(1))
        .put_u32(CTA_PROTOINFO_SCTP_VTAG_REPLY, htonl(2))
        .end()
        .end();
  }
  return m;
}

}  // namespace muster::overlay::testing
