#include "overlay/dataplane/container/datagram_flows.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/inet_diag.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>

#include "overlay/dataplane/kernel/loopback.h"
#include "overlay/dataplane/kernel/sysctl.h"

namespace muster::overlay {
namespace {

constexpr uint32_t kUnconnected = 1u << TCP_CLOSE;

Status list_ports(NetlinkSocket& socket, uint8_t family, DatagramPorts& out) {
  inet_diag_req_v2 request{};
  request.sdiag_family = family;
  request.sdiag_protocol = IPPROTO_UDP;
  request.idiag_states = kUnconnected;
  Message list(SOCK_DIAG_BY_FAMILY, 0, "list UDP sockets");
  list.header(request).tolerate(ENOENT);  // the kernel does not tell of them
  return socket.query(list, true, [&](nlmsghdr* h) {
    if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY || nlmsg_datalen(h) < int(sizeof(inet_diag_msg))) {
      return;
    }
    const auto* found = static_cast<const inet_diag_msg*>(nlmsg_data(h));
    const size_t size = found->idiag_family == AF_INET6 ? 16 : 4;
    const std::string local(reinterpret_cast<const char*>(found->id.idiag_src), size);
    if (!is_loopback(local)) out.insert(ntohs(found->id.idiag_sport));
  });
}

Result<std::set<std::string>> own_addresses() {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return fail(errno_status(errno, "list addresses"));
  std::set<std::string> out;
  for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr) continue;
    if (at->ifa_addr->sa_family == AF_INET) {
      const auto& ip = reinterpret_cast<const sockaddr_in*>(at->ifa_addr)->sin_addr;
      out.emplace(reinterpret_cast<const char*>(&ip), sizeof(ip));
    } else if (at->ifa_addr->sa_family == AF_INET6) {
      const auto& ip = reinterpret_cast<const sockaddr_in6*>(at->ifa_addr)->sin6_addr;
      out.emplace(reinterpret_cast<const char*>(&ip), sizeof(ip));
    }
  }
  freeifaddrs(list);
  return out;
}

uint32_t timeout_of(std::string_view key, uint32_t otherwise) {
  const auto text = read_sysctl(key);
  uint32_t value = 0;
  if (!text) return otherwise;
  const auto read = std::from_chars(text->data(), text->data() + text->size(), value);
  return read.ec == std::errc() ? value : otherwise;
}

DatagramTimeouts timeouts() {
  const DatagramTimeouts usual;
  return {timeout_of("net.netfilter.nf_conntrack_udp_timeout", usual.plain_s),
          timeout_of("net.netfilter.nf_conntrack_udp_timeout_stream", usual.stream_s)};
}

const nlattr* inside(const nlattr* nest, int type) {
  if (nest == nullptr) return nullptr;
  return nla_find(static_cast<const nlattr*>(nla_data(nest)), nla_len(nest), type);
}

std::string source_of(const nlattr* tuple, bool v6) {
  const nlattr* found = inside(inside(tuple, CTA_TUPLE_IP), v6 ? CTA_IP_V6_SRC : CTA_IP_V4_SRC);
  if (found == nullptr) return {};
  return {static_cast<const char*>(nla_data(found)), static_cast<size_t>(nla_len(found))};
}

// Of one that is no flow of UDP, nothing.
std::optional<DatagramFlow> read_flow(nlmsghdr* h) {
  if (nlmsg_datalen(h) < int(sizeof(nfgenmsg))) return std::nullopt;
  const bool v6 = static_cast<const nfgenmsg*>(nlmsg_data(h))->nfgen_family == AF_INET6;
  const auto find = [&](int type) { return nlmsg_find_attr(h, sizeof(nfgenmsg), type); };
  const nlattr* reply = find(CTA_TUPLE_REPLY);
  const nlattr* proto = inside(reply, CTA_TUPLE_PROTO);
  const nlattr* number = inside(proto, CTA_PROTO_NUM);
  const nlattr* port = inside(proto, CTA_PROTO_SRC_PORT);
  const nlattr* status = find(CTA_STATUS);
  const nlattr* timeout = find(CTA_TIMEOUT);
  if (number == nullptr || port == nullptr || status == nullptr || timeout == nullptr ||
      nla_get_u8(number) != IPPROTO_UDP) {
    return std::nullopt;
  }
  const uint32_t bits = ntohl(nla_get_u32(status));
  DatagramFlow flow;
  flow.client = source_of(find(CTA_TUPLE_ORIG), v6);
  flow.server = source_of(reply, v6);
  flow.server_port = ntohs(nla_get_u16(port));
  flow.answered = (bits & IPS_SEEN_REPLY) != 0;
  flow.streams = (bits & IPS_ASSURED) != 0;
  flow.expires_in_s = ntohl(nla_get_u32(timeout));
  return flow;
}

Result<std::vector<DatagramFlow>> list_flows() {
  std::vector<DatagramFlow> out;
  MUSTER_ASSIGN(NetlinkSocket socket, NetlinkSocket::open(NETLINK_NETFILTER));
  nfgenmsg header{};
  header.nfgen_family = AF_UNSPEC;
  header.version = NFNETLINK_V0;
  Message list((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET, 0, "list connections");
  list.header(header).tolerate(EINVAL);  // the kernel tracks none
  MUSTER_TRY(socket.stream(list, [&](nlmsghdr* h) {
    if (auto flow = read_flow(h)) out.push_back(*std::move(flow));
  }));
  return out;
}

}  // namespace

bool any_incoming_datagrams(const std::vector<DatagramFlow>& flows, const DatagramPorts& ports,
                            const std::set<std::string>& own, const DatagramTimeouts& timeouts) {
  return std::any_of(flows.begin(), flows.end(), [&](const DatagramFlow& flow) {
    if (!flow.answered || !ports.contains(flow.server_port)) return false;
    if (!own.contains(flow.server) || own.contains(flow.client) || is_loopback(flow.client)) {
      return false;
    }
    // With each datagram the time begins anew. Kernels before 4.20 give all that is answered the
    // longer one.
    const bool longer = flow.streams || flow.expires_in_s > timeouts.plain_s;
    const uint32_t whole = longer ? timeouts.stream_s : timeouts.plain_s;
    return flow.expires_in_s + kDatagramSilenceS >= whole;
  });
}

Result<bool> any_incoming_datagrams(NetlinkSocket& sockets) {
  DatagramPorts ports;
  MUSTER_TRY(list_ports(sockets, AF_INET, ports));
  MUSTER_TRY(list_ports(sockets, AF_INET6, ports));
  if (ports.empty()) return false;
  MUSTER_ASSIGN(const std::vector<DatagramFlow> flows, list_flows());
  if (flows.empty()) return false;
  MUSTER_ASSIGN(const std::set<std::string> own, own_addresses());
  return any_incoming_datagrams(flows, ports, own, timeouts());
}

}  // namespace muster::overlay
