#include "overlay/dataplane/vip/client_flows.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "overlay/dataplane/kernel/conntrack.h"
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

bool of_datagrams(uint8_t protocol) {
  return protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE;
}

// A flow that was led from a virtual address to a backend, as it was listed.
struct Led {
  Ip vip;
  Ip backend;
  uint8_t protocol = 0;
  bool established = false;
  bool awaits = false;  // by datagrams: an answer may be under way
  std::string tuple;    // the original direction's
  std::string id;       // of the connection: another one may have the tuple by now
};

std::optional<Led> led_flow(std::string_view entry, LedBy by, bool v6, const std::set<Ip>& vips) {
  Led led;
  const std::string_view original = find_attribute(entry, CTA_TUPLE_ORIG);
  led.vip = ip_of_wire(address_in(original, v6, false));
  if (!vips.contains(led.vip)) return std::nullopt;
  // Only what was led somewhere: pings are answered here. And only by us: beside IPVS the container
  // may translate for itself.
  led.backend = ip_of_wire(address_in(find_attribute(entry, CTA_TUPLE_REPLY), v6, true));
  const uint32_t status = be32_of(find_attribute(entry, CTA_STATUS));
  const bool translated = (status & IPS_DST_NAT) != 0;
  if (by == LedBy::kNftables ? !translated : translated || led.backend == led.vip) {
    return std::nullopt;
  }
  const std::string_view protocol =
      find_attribute(find_attribute(original, CTA_TUPLE_PROTO), CTA_PROTO_NUM);
  if (protocol.empty()) return std::nullopt;
  led.protocol = static_cast<uint8_t>(protocol[0]);
  led.awaits = of_datagrams(led.protocol) &&
               awaits_datagram(status, be32_of(find_attribute(entry, CTA_TIMEOUT)));
  const std::string_view state =
      find_attribute(find_attribute(find_attribute(entry, CTA_PROTOINFO), CTA_PROTOINFO_TCP),
                     CTA_PROTOINFO_TCP_STATE);
  led.established = !state.empty() && state[0] == TCP_CONNTRACK_ESTABLISHED;
  led.tuple = original;
  led.id = find_attribute(entry, CTA_ID);
  return led;
}

bool is_stale(const Led& led, const std::map<Ip, VipFlowsPtr>& allowed) {
  const auto at = allowed.find(led.vip);
  return flow_is_stale(at == allowed.end() ? VipFlows() : *at->second, led.protocol,
                       led.established, led.backend);
}

// Whether the backend may answer at all.
bool lives(const Led& led, const std::map<Ip, VipFlowsPtr>& allowed) {
  const auto at = allowed.find(led.vip);
  return at != allowed.end() && at->second->others.contains(led.backend);
}

}  // namespace

bool flow_is_stale(const VipFlows& flows, uint8_t protocol, bool established, const Ip& backend) {
  if (of_datagrams(protocol)) return flows.datagrams.count(backend) == 0;
  if (!established) return flows.others.count(backend) == 0;
  return flows.served && flows.known.count(backend) == 0;
}

Result<size_t> delete_stale_flows(WireSocket& connections, LedBy by, const std::set<Ip>& vips,
                                  const std::function<std::map<Ip, VipFlowsPtr>()>& allowed,
                                  std::set<std::string>* spared) {
  std::set<std::string> left;
  if (spared != nullptr) left.swap(*spared);
  MUSTER_ASSIGN(const uint32_t count, count_connections(connections));
  if (count == 0) return 0;
  // Of those that are not stale by now none is kept: there may be very many.
  const std::map<Ip, VipFlowsPtr> before = allowed();
  std::vector<Led> flows;
  for (const bool v6 : {false, true}) {
    if (std::none_of(vips.begin(), vips.end(), [&](const Ip& vip) { return vip.v6 == v6; }))
      continue;
    Wire wire;
    wire.begin(ct_type(IPCTNL_MSG_CT_GET), NLM_F_DUMP, family(v6));
    wire.end();
    MUSTER_TRY(connections.query(wire, [&](const nlmsghdr* h) {
      auto led = led_flow(attributes_of(h, sizeof(nfgenmsg)), by, v6, vips);
      if (!led || !is_stale(*led, before)) return;
      if (spared != nullptr && led->awaits && lives(*led, before) && !left.contains(led->id)) {
        spared->insert(led->id);
      } else {
        flows.push_back(*std::move(led));
      }
    }));
  }
  const std::map<Ip, VipFlowsPtr> now = allowed();
  std::erase_if(flows, [&](const Led& led) { return !is_stale(led, now); });
  for (size_t from = 0; from < flows.size(); from += kDeletionsAtOnce) {
    Wire wire;
    for (size_t i = from; i < std::min(flows.size(), from + kDeletionsAtOnce); ++i) {
      const Led& led = flows[i];
      wire.begin(ct_type(IPCTNL_MSG_CT_DELETE), 0, family(led.vip.v6));
      wire.put(CTA_TUPLE_ORIG | NLA_F_NESTED, led.tuple.data(), led.tuple.size());
      if (!led.id.empty()) wire.put(CTA_ID, led.id.data(), led.id.size());
      wire.end();
    }
    MUSTER_ASSIGN(const auto errors, connections.exchange(wire));
    for (const WireError& error : errors) {
      if (error.error != ENOENT) return fail(errno_status(error.error, "delete a connection"));
    }
  }
  return flows.size();
}

void ClientFlows::allow(const std::map<Ip, VipFlowsPtr>& flows) {
  std::lock_guard lock(waiting_->mutex);
  for (const auto& [vip, allowed] : flows) {
    if (allowed->served) {
      waiting_->allowed[vip] = allowed;
    } else {
      waiting_->allowed.erase(vip);
    }
  }
}

void ClientFlows::clear(const std::map<Socket, Due>& namespaces) {
  if (namespaces.empty()) return;
  std::lock_guard lock(waiting_->mutex);
  if (waiting_->due.empty()) {
    strand_.post(
        [strand = &strand_, waiting = waiting_, log = log_] { run(*strand, waiting, log); });
  }
  for (const auto& [socket, due] : namespaces) {
    Due& waits = waiting_->due[socket];
    waits.by = due.by;
    waits.vips.insert(due.vips.begin(), due.vips.end());
  }
}

void ClientFlows::run(Executor& strand, const std::shared_ptr<Waiting>& waiting, const Log& log) {
  Work work;
  {
    std::lock_guard lock(waiting->mutex);
    for (auto& [socket, due] : waiting->due) work[socket].due = std::move(due);
    waiting->due.clear();
  }
  clear_all(strand, waiting, log, work);
}

// A flow is left once, so this comes to an end.
void ClientFlows::clear_all(Executor& strand, const std::shared_ptr<Waiting>& waiting,
                            const Log& log, const Work& work) {
  Work later = clear_some(work, *waiting, log);
  if (later.empty()) return;
  strand.after(kAnswerTime, [&strand, waiting, log, later = std::move(later)] {
    clear_all(strand, waiting, log, later);
  });
}

ClientFlows::Work ClientFlows::clear_some(const Work& work, Waiting& waiting, const Log& log) {
  const auto allowed = [&] {
    std::lock_guard lock(waiting.mutex);
    return waiting.allowed;
  };
  Work later;
  for (const auto& [socket, look] : work) {
    const Due& due = look.due;
    std::set<std::string> spared = look.spared;
    const bool spare = due.by == LedBy::kNftables;
    const auto deleted =
        delete_stale_flows(*socket, due.by, due.vips, allowed, spare ? &spared : nullptr);
    if (!deleted) {
      log->warn("cannot clear stale connections of a container: {}", deleted.error().message());
    } else if (*deleted != 0) {
      log->debug("{} stale connections of a container cleared", *deleted);
    }
    if (deleted && !spared.empty()) later.emplace(socket, Look{due, std::move(spared)});
  }
  return later;
}

}  // namespace muster::overlay
