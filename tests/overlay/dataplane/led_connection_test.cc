#include "tests/overlay/dataplane/led_connection.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>

namespace muster::overlay::testing {

void put_tuple(Message& m, int which, uint32_t from, uint16_t from_port, uint32_t to,
               uint16_t to_port, uint8_t protocol) {
  m.begin(which | NLA_F_NESTED)
      .begin(CTA_TUPLE_IP | NLA_F_NESTED)
      .put_u32(CTA_IP_V4_SRC, htonl(from))
      .put_u32(CTA_IP_V4_DST, htonl(to))
      .end()
      .begin(CTA_TUPLE_PROTO | NLA_F_NESTED)
      .put_u8(CTA_PROTO_NUM, protocol)
      .put_u16(CTA_PROTO_SRC_PORT, htons(from_port))
      .put_u16(CTA_PROTO_DST_PORT, htons(to_port))
      .end()
      .end();
}

Message led_connection(const LedConnection& led) {
  nfgenmsg header{};
  header.nfgen_family = AF_INET;
  header.version = NFNETLINK_V0;
  Message m((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_NEW, NLM_F_CREATE | NLM_F_EXCL,
            "make a connection", 512);
  m.header(header);
  put_tuple(m, CTA_TUPLE_ORIG, kLedClient, led.client_port, kLedAsked, 80, led.protocol);
  // What translating it makes of that.
  put_tuple(m, CTA_TUPLE_REPLY, kLedAsked, 80, kLedClient, led.client_port, led.protocol);
  m.put_u32(CTA_TIMEOUT, htonl(600));
  m.put_u32(CTA_STATUS, htonl(IPS_CONFIRMED | (led.answered ? IPS_SEEN_REPLY : 0)));
  m.begin(CTA_NAT_DST | NLA_F_NESTED)
      .put_u32(CTA_NAT_V4_MINIP, htonl(led.server))
      .put_u32(CTA_NAT_V4_MAXIP, htonl(led.server))
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
