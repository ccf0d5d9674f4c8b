#include "overlay/dataplane/container/tracked_flows.h"

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
#include <fstream>
#include <iterator>
#include <sstream>

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

struct TrackedFlows {
  std::vector<DatagramFlow> datagrams;
  std::vector<AssociationFlow> associations;
};

// Adds it if it is a flow of UDP or SCTP.
void read_flow(nlmsghdr* h, TrackedFlows& out) {
  if (nlmsg_datalen(h) < int(sizeof(nfgenmsg))) return;
  const bool v6 = static_cast<const nfgenmsg*>(nlmsg_data(h))->nfgen_family == AF_INET6;
  const auto find = [&](int type) { return nlmsg_find_attr(h, sizeof(nfgenmsg), type); };
  const nlattr* reply = find(CTA_TUPLE_REPLY);
  const nlattr* proto = inside(reply, CTA_TUPLE_PROTO);
  const nlattr* number = inside(proto, CTA_PROTO_NUM);
  const nlattr* port = inside(proto, CTA_PROTO_SRC_PORT);
  const nlattr* status = find(CTA_STATUS);
  if (number == nullptr || port == nullptr || status == nullptr) return;
  const uint32_t bits = ntohl(nla_get_u32(status));
  const bool answered = (bits & IPS_SEEN_REPLY) != 0;
  if (nla_get_u8(number) == IPPROTO_UDP) {
    const nlattr* timeout = find(CTA_TIMEOUT);
    if (timeout == nullptr) return;
    out.datagrams.push_back({source_of(find(CTA_TUPLE_ORIG), v6), source_of(reply, v6),
                             ntohs(nla_get_u16(port)), answered, (bits & IPS_ASSURED) != 0,
                             ntohl(nla_get_u32(timeout))});
  } else if (nla_get_u8(number) == IPPROTO_SCTP) {
    const nlattr* state =
        inside(inside(find(CTA_PROTOINFO), CTA_PROTOINFO_SCTP), CTA_PROTOINFO_SCTP_STATE);
    out.associations.push_back({source_of(find(CTA_TUPLE_ORIG), v6), source_of(reply, v6),
                                ntohs(nla_get_u16(port)),
                                state != nullptr && association_runs(nla_get_u8(state), answered)});
  }
}

Result<TrackedFlows> list_flows() {
  TrackedFlows out;
  MUSTER_ASSIGN(NetlinkSocket socket, NetlinkSocket::open(NETLINK_NETFILTER));
  nfgenmsg header{};
  header.nfgen_family = AF_UNSPEC;
  header.version = NFNETLINK_V0;
  Message list((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET, 0, "list connections");
  list.header(header).tolerate(EINVAL);  // the kernel tracks none
  MUSTER_TRY(socket.stream(list, [&](nlmsghdr* h) { read_flow(h, out); }));
  return out;
}

// Where the calling thread's namespace takes associations. The kernel has the file as soon as
// anything uses SCTP; its netlink for this (sctp_diag) is a module that not every kernel brings.
std::set<uint16_t> association_ports() {
  std::ifstream file("/proc/thread-self/net/sctp/eps");
  return read_association_ports(std::string(std::istreambuf_iterator<char>(file), {}));
}

}  // namespace

bool any_incoming_datagrams(const std::vector<DatagramFlow>& flows, const DatagramPorts& ports,
                            const std::set<std::string>& own, const DatagramTimeouts& timeouts) {
  return std::any_of(flows.begin(), flows.end(), [&](const DatagramFlow& flow) {
    if (!ports.contains(flow.server_port)) return false;
    if (!own.contains(flow.server) || own.contains(flow.client) || is_loopback(flow.client)) {
      return false;
    }
    return datagram_within(flow.answered ? kDatagramSilenceS : kDatagramAnswerS, flow.expires_in_s,
                           flow.streams, timeouts);
  });
}

std::set<uint16_t> read_association_ports(std::string_view endpoints) {
  std::set<uint16_t> out;
  std::istringstream lines{std::string(endpoints)};
  std::string line;
  std::getline(lines, line);
  const auto words_of = [](const std::string& text) {
    std::istringstream words(text);
    return std::vector<std::string>(std::istream_iterator<std::string>(words), {});
  };
  const std::vector<std::string> heads = words_of(line);
  const auto column =
      static_cast<size_t>(std::find(heads.begin(), heads.end(), "LPORT") - heads.begin());
  while (std::getline(lines, line)) {
    const std::vector<std::string> words = words_of(line);
    if (column >= words.size()) continue;
    const std::string& text = words[column];
    uint16_t port = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), port);
    if (read.ec == std::errc() && port != 0) out.insert(port);
  }
  return out;
}

bool any_incoming_associations(const std::vector<AssociationFlow>& flows,
                               const std::set<uint16_t>& ports, const std::set<std::string>& own) {
  return std::any_of(flows.begin(), flows.end(), [&](const AssociationFlow& flow) {
    return flow.runs && ports.contains(flow.server_port) && own.contains(flow.server) &&
           !own.contains(flow.client) && !is_loopback(flow.client);
  });
}

Result<bool> any_incoming_tracked(NetlinkSocket& sockets) {
  DatagramPorts ports;
  MUSTER_TRY(list_ports(sockets, AF_INET, ports));
  MUSTER_TRY(list_ports(sockets, AF_INET6, ports));
  const std::set<uint16_t> of_associations = association_ports();
  if (ports.empty() && of_associations.empty()) return false;
  MUSTER_ASSIGN(const TrackedFlows flows, list_flows());
  if (flows.datagrams.empty() && flows.associations.empty()) return false;
  MUSTER_ASSIGN(const std::set<std::string> own, own_addresses());
  return any_incoming_datagrams(flows.datagrams, ports, own, timeouts()) ||
         any_incoming_associations(flows.associations, of_associations, own);
}

}  // namespace muster::overlay
