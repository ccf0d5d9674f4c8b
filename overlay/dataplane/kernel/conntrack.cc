#include "overlay/dataplane/kernel/conntrack.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_sctp.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "overlay/dataplane/kernel/wire.h"

namespace muster::overlay {
namespace {

// What a request to delete a connection takes at most; there may be many.
constexpr size_t kDeletionRoom = 256;

// Bit of the kernel's filter flags that says: compare the tuple's source address (since 5.8; older
// kernels ignore the filter and list everything, so every answer is checked here too). For IPv6 it
// is of no use: it is refused, or all others are listed but these.
constexpr uint32_t kFilterSourceAddress = 1u << 0;

nfgenmsg family_header(bool v6) {
  nfgenmsg header{};
  header.nfgen_family = v6 ? AF_INET6 : AF_INET;
  header.version = NFNETLINK_V0;
  return header;
}

int message_type(int message) {
  return (NFNL_SUBSYS_CTNETLINK << 8) | message;
}

const nlattr* inside(const nlattr* nest, int type) {
  if (nest == nullptr) return nullptr;
  return nla_find(static_cast<const nlattr*>(nla_data(nest)), nla_len(nest), type);
}

bool same_bytes(const nlattr* attribute, const std::string& want) {
  if (attribute == nullptr) return false;
  return std::string_view(static_cast<const char*>(nla_data(attribute)),
                          static_cast<size_t>(nla_len(attribute))) == want;
}

// kAwaits: an answer may be under way.
enum class Stage : uint8_t { kAwaits, kEstablished, kRuns, kOver };

Stage stage_of(nlmsghdr* h, uint8_t protocol, uint32_t status) {
  const bool answered = (status & IPS_SEEN_REPLY) != 0;
  const nlattr* info = nlmsg_find_attr(h, sizeof(nfgenmsg), CTA_PROTOINFO);
  if (protocol == IPPROTO_TCP) {
    const nlattr* state = inside(inside(info, CTA_PROTOINFO_TCP), CTA_PROTOINFO_TCP_STATE);
    if (state == nullptr) return Stage::kOver;
    const uint8_t now = nla_get_u8(state);
    if (now == TCP_CONNTRACK_SYN_SENT || now == TCP_CONNTRACK_SYN_SENT2) return Stage::kAwaits;
    if (now == TCP_CONNTRACK_ESTABLISHED) return Stage::kEstablished;
    const bool runs = now >= TCP_CONNTRACK_SYN_RECV && now <= TCP_CONNTRACK_LAST_ACK;
    return runs ? Stage::kRuns : Stage::kOver;
  }
  if (protocol == IPPROTO_UDP) {
    const nlattr* timeout = nlmsg_find_attr(h, sizeof(nfgenmsg), CTA_TIMEOUT);
    const uint32_t expires_in_s = timeout == nullptr ? 0 : ntohl(nla_get_u32(timeout));
    return awaits_datagram(status, expires_in_s) ? Stage::kAwaits : Stage::kOver;
  }
  if (protocol != IPPROTO_SCTP) return Stage::kOver;
  const nlattr* state = inside(inside(info, CTA_PROTOINFO_SCTP), CTA_PROTOINFO_SCTP_STATE);
  if (state == nullptr) return Stage::kOver;
  const uint8_t now = nla_get_u8(state);
  if (now == SCTP_CONNTRACK_ESTABLISHED) return Stage::kEstablished;
  if (now == SCTP_CONNTRACK_COOKIE_WAIT && !answered) return Stage::kAwaits;
  return association_runs(now, answered) ? Stage::kRuns : Stage::kOver;
}

uint32_t id_of(nlmsghdr* h) {
  const nlattr* id = nlmsg_find_attr(h, sizeof(nfgenmsg), CTA_ID);
  return id == nullptr ? 0 : ntohl(nla_get_u32(id));
}

bool has_port(const nlattr* tuple, int which, uint16_t wanted) {
  const nlattr* port = inside(inside(tuple, CTA_TUPLE_PROTO), which);
  return port != nullptr && ntohs(nla_get_u16(port)) == wanted;
}

enum class Fate : uint8_t { kStays, kStaysEstablished, kSecondLook, kGoes };

uint32_t status_of(nlmsghdr* h) {
  const nlattr* status = nlmsg_find_attr(h, sizeof(nfgenmsg), CTA_STATUS);
  return status == nullptr ? 0 : ntohl(nla_get_u32(status));
}

// Whether it was led to another address than the client asked for. What a container itself was
// asked for directly was not.
bool was_led(uint32_t status) {
  return (status & IPS_DST_NAT) != 0;
}

Fate fate_of(nlmsghdr* h, const FlowFilter& filter, const std::string& backend,
             const std::set<uint32_t>& awaited) {
  const nlattr* reply = nlmsg_find_attr(h, sizeof(nfgenmsg), CTA_TUPLE_REPLY);
  const nlattr* ip = inside(reply, CTA_TUPLE_IP);
  if (!same_bytes(inside(ip, filter.backend.v6 ? CTA_IP_V6_SRC : CTA_IP_V4_SRC), backend)) {
    return Fate::kStays;
  }
  const uint32_t status = status_of(h);
  if (!was_led(status)) return Fate::kStays;
  const nlattr* proto = inside(reply, CTA_TUPLE_PROTO);
  const nlattr* number = inside(proto, CTA_PROTO_NUM);
  if (number == nullptr) return Fate::kStays;
  if (filter.protocol && nla_get_u8(number) != *filter.protocol) return Fate::kStays;
  if (filter.backend_port != 0 && !has_port(reply, CTA_PROTO_SRC_PORT, filter.backend_port)) {
    return Fate::kStays;
  }
  const nlattr* original = nlmsg_find_attr(h, sizeof(nfgenmsg), CTA_TUPLE_ORIG);
  if (filter.asked_port != 0 && !has_port(original, CTA_PROTO_DST_PORT, filter.asked_port)) {
    return Fate::kStays;
  }
  if (filter.lasting == Lasting::kNone) return Fate::kGoes;
  const Stage stage = stage_of(h, nla_get_u8(number), status);
  if (filter.lasting == Lasting::kEstablished) {
    return stage == Stage::kEstablished ? Fate::kStaysEstablished : Fate::kGoes;
  }
  if (stage == Stage::kEstablished || stage == Stage::kRuns) return Fate::kStays;
  if (stage == Stage::kOver) return Fate::kGoes;
  return awaited.contains(id_of(h)) ? Fate::kGoes : Fate::kSecondLook;
}

Message list_request(bool v6, const std::string* only_backend) {
  Message list(message_type(IPCTNL_MSG_CT_GET), 0, "list connections");
  list.header(family_header(v6));
  if (only_backend == nullptr || v6) return list;
  list.begin(CTA_TUPLE_REPLY | NLA_F_NESTED)
      .begin(CTA_TUPLE_IP | NLA_F_NESTED)
      .put(CTA_IP_V4_SRC, only_backend->data(), only_backend->size())
      .end()
      .end()
      .begin(CTA_FILTER | NLA_F_NESTED)
      .put_u32(CTA_FILTER_ORIG_FLAGS, 0)
      .put_u32(CTA_FILTER_REPLY_FLAGS, kFilterSourceAddress)
      .end();
  return list;
}

Status collect(NetlinkSocket& socket, const std::vector<FlowFilter>& filters, bool v6,
               const std::set<uint32_t>& awaited, SweptFlows& out,
               std::vector<Message>& deletions) {
  std::vector<std::pair<const FlowFilter*, std::string>> wanted;
  bool several = false;
  for (const FlowFilter& filter : filters) {
    if (filter.backend.v6 != v6) continue;
    wanted.emplace_back(&filter, ip_bytes(filter.backend));
    several = several || wanted.back().second != wanted.front().second;
  }
  if (wanted.empty()) return ok_status();
  const Message list = list_request(v6, several ? nullptr : &wanted.front().second);
  return socket.stream(list, [&](nlmsghdr* h) {
    Fate fate = Fate::kStays;
    for (const auto& [filter, backend] : wanted) {
      fate = std::max(fate, fate_of(h, *filter, backend, awaited));
    }
    if (fate == Fate::kStaysEstablished) ++out.established;
    if (fate == Fate::kSecondLook) out.awaited.insert(id_of(h));
    const nlattr* original = nlmsg_find_attr(h, sizeof(nfgenmsg), CTA_TUPLE_ORIG);
    if (fate != Fate::kGoes || original == nullptr) return;
    Message gone(message_type(IPCTNL_MSG_CT_DELETE), 0, "delete a connection", kDeletionRoom);
    gone.header(family_header(v6))
        .put(CTA_TUPLE_ORIG | NLA_F_NESTED, nla_data(original),
             static_cast<size_t>(nla_len(original)))
        .tolerate(ENOENT);
    if (const nlattr* id = nlmsg_find_attr(h, sizeof(nfgenmsg), CTA_ID)) {
      gone.put(CTA_ID, nla_data(id), static_cast<size_t>(nla_len(id)));
    }
    deletions.push_back(std::move(gone));
  });
}

}  // namespace

bool datagram_within(uint32_t seconds, uint32_t expires_in_s, bool streams,
                     const DatagramTimeouts& timeouts) {
  // With each datagram the time begins anew. Kernels before 4.20 give all that is answered the
  // longer one.
  const bool longer = streams || expires_in_s > timeouts.plain_s;
  return expires_in_s + seconds >= (longer ? timeouts.stream_s : timeouts.plain_s);
}

bool awaits_datagram(uint32_t status, uint32_t expires_in_s) {
  return (status & IPS_SEEN_REPLY) == 0 ||
         datagram_within(kDatagramAnswerS, expires_in_s, (status & IPS_ASSURED) != 0);
}

bool association_runs(uint8_t state, bool answered) {
  switch (state) {
    case SCTP_CONNTRACK_COOKIE_WAIT: return answered;  // "init" is on its way, or its answer
    case SCTP_CONNTRACK_COOKIE_ECHOED:
    case SCTP_CONNTRACK_ESTABLISHED:
    case SCTP_CONNTRACK_SHUTDOWN_SENT:
    case SCTP_CONNTRACK_SHUTDOWN_RECD:
    case SCTP_CONNTRACK_SHUTDOWN_ACK_SENT: return true;
    default: return false;
  }
}

Result<SweptFlows> delete_flows(NetlinkSocket& socket, const std::vector<FlowFilter>& filters,
                                const std::set<uint32_t>& awaited) {
  SweptFlows out;
  std::vector<Message> deletions;
  for (const bool v6 : {false, true}) {
    MUSTER_TRY(collect(socket, filters, v6, awaited, out, deletions));
  }
  // In pieces that fit the socket's buffers.
  constexpr size_t kAtOnce = 200;
  out.deleted = deletions.size();
  while (!deletions.empty()) {
    std::vector<Message> piece;
    while (!deletions.empty() && piece.size() < kAtOnce) {
      piece.push_back(std::move(deletions.back()));
      deletions.pop_back();
    }
    MUSTER_TRY(socket.run(piece));
  }
  return out;
}

Result<std::set<Ip>> led_backends(NetlinkSocket& socket, const std::vector<Prefix>& subnets) {
  std::set<Ip> out;
  for (const bool v6 : {false, true}) {
    if (std::none_of(subnets.begin(), subnets.end(),
                     [&](const Prefix& subnet) { return subnet.base.v6 == v6; })) {
      continue;
    }
    MUSTER_TRY(socket.stream(list_request(v6, nullptr), [&](nlmsghdr* h) {
      const nlattr* reply = nlmsg_find_attr(h, sizeof(nfgenmsg), CTA_TUPLE_REPLY);
      const nlattr* source =
          inside(inside(reply, CTA_TUPLE_IP), v6 ? CTA_IP_V6_SRC : CTA_IP_V4_SRC);
      if (source == nullptr || !was_led(status_of(h))) return;
      const Ip backend = ip_of(v6 ? AF_INET6 : AF_INET, source);
      if (std::any_of(subnets.begin(), subnets.end(),
                      [&](const Prefix& subnet) { return subnet.contains(backend); })) {
        out.insert(backend);
      }
    }));
  }
  return out;
}

}  // namespace muster::overlay
