#include "overlay/dataplane/vip/client_flows.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "overlay/dataplane/vip/client_rules.h"

namespace muster::overlay {
namespace {

// In pieces, so that answers fit the socket.
constexpr size_t kDeletionsAtOnce = 500;

uint16_t ct_type(uint16_t message) {
  return static_cast<uint16_t>((NFNL_SUBSYS_CTNETLINK << 8) | message);
}

nfgenmsg family(bool v6) {
  nfgenmsg header{};
  header.nfgen_family = v6 ? AF_INET6 : AF_INET;
  header.version = NFNETLINK_V0;
  return header;
}

std::string_view address_in(std::string_view tuple, bool v6, bool source) {
  const uint16_t type =
      v6 ? (source ? CTA_IP_V6_SRC : CTA_IP_V6_DST) : (source ? CTA_IP_V4_SRC : CTA_IP_V4_DST);
  return find_attribute(find_attribute(tuple, CTA_TUPLE_IP), type);
}

Result<uint32_t> count_connections(WireSocket& socket) {
  Wire wire;
  wire.begin(ct_type(IPCTNL_MSG_CT_GET_STATS), NLM_F_ACK, family(false));
  wire.end();
  uint32_t count = 0;
  MUSTER_TRY(socket.query(wire, [&](const nlmsghdr* h) {
    count = be32_of(find_attribute(attributes_of(h, sizeof(nfgenmsg)), CTA_STATS_GLOBAL_ENTRIES));
  }));
  return count;
}

bool is_stale(std::string_view entry, bool v6, const std::map<Ip, VipFlowsPtr>& flows) {
  const std::string_view original = find_attribute(entry, CTA_TUPLE_ORIG);
  const auto at = flows.find(ip_of_wire(address_in(original, v6, false)));
  if (at == flows.end()) return false;
  // Only what was led somewhere: pings are answered here.
  if (!(be32_of(find_attribute(entry, CTA_STATUS)) & IPS_DST_NAT)) return false;
  const std::string_view reply = find_attribute(entry, CTA_TUPLE_REPLY);
  const std::string_view protocol =
      find_attribute(find_attribute(original, CTA_TUPLE_PROTO), CTA_PROTO_NUM);
  if (protocol.empty()) return false;
  const std::string_view state =
      find_attribute(find_attribute(find_attribute(entry, CTA_PROTOINFO), CTA_PROTOINFO_TCP),
                     CTA_PROTOINFO_TCP_STATE);
  const bool established = !state.empty() && state[0] == TCP_CONNTRACK_ESTABLISHED;
  return flow_is_stale(*at->second, static_cast<uint8_t>(protocol[0]), established,
                       ip_of_wire(address_in(reply, v6, true)));
}

}  // namespace

bool flow_is_stale(const VipFlows& flows, uint8_t protocol, bool established, const Ip& backend) {
  if (protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE) {
    return flows.datagrams.count(backend) == 0;
  }
  return !established && flows.others.count(backend) == 0;
}

Result<size_t> delete_stale_flows(WireSocket& connections, const std::map<Ip, VipFlowsPtr>& flows) {
  MUSTER_ASSIGN(const uint32_t count, count_connections(connections));
  if (count == 0) return 0;
  std::vector<std::pair<bool, std::string>> stale;  // whether v6, the original tuple
  for (const bool v6 : {false, true}) {
    const bool any = std::any_of(flows.begin(), flows.end(),
                                 [&](const auto& entry) { return entry.first.v6 == v6; });
    if (!any) continue;
    Wire wire;
    wire.begin(ct_type(IPCTNL_MSG_CT_GET), NLM_F_DUMP, family(v6));
    wire.end();
    MUSTER_TRY(connections.query(wire, [&](const nlmsghdr* h) {
      const std::string_view entry = attributes_of(h, sizeof(nfgenmsg));
      if (!is_stale(entry, v6, flows)) return;
      stale.emplace_back(v6, find_attribute(entry, CTA_TUPLE_ORIG));
    }));
  }
  for (size_t from = 0; from < stale.size(); from += kDeletionsAtOnce) {
    Wire wire;
    for (size_t i = from; i < std::min(stale.size(), from + kDeletionsAtOnce); ++i) {
      const auto& [v6, tuple] = stale[i];
      wire.begin(ct_type(IPCTNL_MSG_CT_DELETE), 0, family(v6));
      wire.put(CTA_TUPLE_ORIG | NLA_F_NESTED, tuple.data(), tuple.size());
      wire.end();
    }
    MUSTER_ASSIGN(const auto errors, connections.exchange(wire));
    for (const WireError& error : errors) {
      if (error.error != ENOENT) return fail(errno_status(error.error, "delete a connection"));
    }
  }
  return stale.size();
}

void ClientFlows::clear(const std::vector<Socket>& namespaces,
                        const std::map<Ip, VipFlowsPtr>& flows) {
  if (namespaces.empty() || flows.empty()) return;
  std::lock_guard lock(waiting_->mutex);
  if (waiting_->flows.empty()) {
    strand_.post([waiting = waiting_, log = log_] { run(*waiting, log); });
  }
  for (const Socket& socket : namespaces) {
    auto& known = waiting_->flows[socket];
    for (const auto& [vip, allowed] : flows) known[vip] = allowed;
  }
}

void ClientFlows::run(Waiting& waiting, const Log& log) {
  std::map<Socket, std::map<Ip, VipFlowsPtr>> work;
  {
    std::lock_guard lock(waiting.mutex);
    work.swap(waiting.flows);
  }
  for (const auto& [socket, flows] : work) {
    const auto deleted = delete_stale_flows(*socket, flows);
    if (!deleted) {
      log->warn("cannot clear stale connections of a container: {}", deleted.error().message());
    } else if (*deleted != 0) {
      log->debug("{} stale connections of a container cleared", *deleted);
    }
  }
}

}  // namespace muster::overlay
