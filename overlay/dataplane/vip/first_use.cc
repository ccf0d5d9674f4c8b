#include "overlay/dataplane/vip/first_use.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>

#include <cstddef>

#include "overlay/dataplane/vip/client_batch.h"
#include "overlay/dataplane/vip/ipvs_rules.h"

namespace muster::overlay {
namespace {

uint16_t log_type(uint16_t message) {
  return static_cast<uint16_t>((NFNL_SUBSYS_ULOG << 8) | message);
}

void begin_config(Wire& wire, uint8_t command) {
  nfgenmsg header{};
  header.version = NFNETLINK_V0;
  header.res_id = htons(kFirstUseGroup);
  wire.begin(log_type(NFULNL_MSG_CONFIG), NLM_F_ACK, header);
  const nfulnl_msg_config_cmd attribute{command};
  wire.put(NFULA_CFG_CMD, &attribute, sizeof(attribute));
}

}  // namespace

Status try_first_use() {
  MUSTER_ASSIGN(WireSocket nft, WireSocket::open(NETLINK_NETFILTER));
  MUSTER_ASSIGN(WireSocket uses, WireSocket::open(NETLINK_NETFILTER));
  MUSTER_TRY(listen_for_first_use(uses));
  IpvsTransaction transaction(0);
  transaction.make_base(true);
  MUSTER_ASSIGN(const auto errors, nft.exchange(transaction.finish()));
  if (errors.empty()) return ok_status();
  return errno_status(errors.front().error, transaction.what(errors.front().sequence));
}

Status listen_for_first_use(WireSocket& socket) {
  Wire wire;
  begin_config(wire, NFULNL_CFG_CMD_BIND);
  const nfulnl_msg_config_mode mode{htonl(kFirstUseBytes), NFULNL_COPY_PACKET, 0};
  wire.put(NFULA_CFG_MODE, &mode, sizeof(mode));
  wire.be32(NFULA_CFG_QTHRESH, 1);
  wire.end();
  MUSTER_ASSIGN(const auto errors, socket.exchange(wire));
  if (errors.empty()) return ok_status();
  return errno_status(errors.front().error, "listen for first flows to virtual addresses");
}

void stop_listening_for_first_use(WireSocket& socket) {
  Wire wire;
  begin_config(wire, NFULNL_CFG_CMD_UNBIND);
  wire.end();
  (void)socket.exchange(wire);
}

std::optional<Ip> read_first_use(const nlmsghdr* message) {
  if (message->nlmsg_type != log_type(NFULNL_MSG_PACKET)) return std::nullopt;
  const std::string_view packet =
      find_attribute(attributes_of(message, sizeof(nfgenmsg)), NFULA_PAYLOAD);
  if (packet.size() < sizeof(iphdr)) return std::nullopt;
  const int version = static_cast<unsigned char>(packet[0]) >> 4;
  if (version == 4) return ip_of_wire(packet.substr(offsetof(iphdr, daddr), 4));
  if (version != 6 || packet.size() < sizeof(ip6_hdr)) return std::nullopt;
  return ip_of_wire(packet.substr(offsetof(ip6_hdr, ip6_dst), 16));
}

}  // namespace muster::overlay
