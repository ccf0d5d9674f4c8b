#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "base/status.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// What of the flows to a backend goes on.
enum class Lasting : uint8_t {
  kNone,  // the backend is gone
  // Connections that nobody has begun to end: the backend may be alive, though it is not seen.
  kEstablished,
  // TCP connections and SCTP associations that the backend has answered and not both sides have
  // ended: it may be alive and draining. What may be answered at this moment is left for a second
  // look: what it has yet to answer, and flows of datagrams with one within the last second.
  kAnswered,
};

// After how long a namespace forgets flows of datagrams that nothing is sent by any more.
struct DatagramTimeouts {
  uint32_t plain_s = 30;
  uint32_t stream_s = 120;
};
// Whether the last datagram of a flow that is forgotten in `expires_in_s` went within the last
// `seconds` of at least 1: the kernel tells whole ones, rounded down. `streams`: it has the longer
// timeout. Pure.
bool datagram_within(uint32_t seconds, uint32_t expires_in_s, bool streams,
                     const DatagramTimeouts& timeouts = {});
// What has come within so long may be answered at this moment.
inline constexpr uint32_t kDatagramAnswerS = 1;
// Whether an answer of a flow of datagrams may be under way, by an entry's status (IPS_*) and when
// it expires: there was none yet, or a datagram within kDatagramAnswerS. Where somebody has set
// other timeouts than the usual, some that are silent count, or none that was answered. Pure.
bool awaits_datagram(uint32_t status, uint32_t expires_in_s);

// Which entries of the connection table to delete: flows that were sent to a backend.
struct FlowFilter {
  Ip backend;                       // the source of the replies
  std::optional<uint8_t> protocol;  // IPPROTO_*
  uint16_t backend_port = 0;        // 0 = any
  uint16_t asked_port = 0;          // what the client had asked for; 0 = any
  Lasting lasting = Lasting::kNone;
};

// Whether an SCTP association has been answered and is not over, by what connection tracking knows:
// `state` is one of SCTP_CONNTRACK_*, `answered` whether packets went both ways. Pure.
bool association_runs(uint8_t state, bool answered);

struct SweptFlows {
  size_t deleted = 0;
  size_t established = 0;      // those that stay by Lasting::kEstablished
  std::set<uint32_t> awaited;  // the kernel's ids of those that were left for a second look
};

// Deletes the entries that match any of the filters. To be called once nothing leads to the backend
// any more, else a packet in between makes the stale entry anew. `awaited`: of a first look; these
// go now, unless they are answered connections. An entry that came in the place of a matching one
// since it was listed stays, unless it has the kernel's memory of that one, too, and thereby its
// id. `socket` is of NETLINK_NETFILTER.
//
// Slow: the kernel walks its whole table for it (10-20 ms with 256 k buckets), whatever the number
// of filters, so they are best gathered.
Result<SweptFlows> delete_flows(NetlinkSocket& socket, const std::vector<FlowFilter>& filters,
                                const std::set<uint32_t>& awaited = {});

// The backends in these subnets that flows were led to. As slow.
Result<std::set<Ip>> led_backends(NetlinkSocket& socket, const std::vector<Prefix>& subnets);

}  // namespace muster::overlay
