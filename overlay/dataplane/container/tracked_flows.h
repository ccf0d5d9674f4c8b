#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "overlay/dataplane/kernel/conntrack.h"
#include "overlay/dataplane/kernel/netlink.h"

namespace muster::overlay {

// Flows without a socket of their own that could be listed, as a namespace's connection tracking
// knows them: those of datagrams (UDP) and associations (SCTP). Addresses as bytes of the wire.
struct DatagramFlow {
  std::string client;  // who sent the first one
  std::string server;  // who answers
  uint16_t server_port = 0;
  bool answered = false;      // datagrams went both ways
  bool streams = false;       // for more than two seconds: it has the longer timeout
  uint32_t expires_in_s = 0;  // unless another one comes
};

// Where a namespace's processes take datagrams from others: ports of sockets that are bound to no
// address of the loopback, and not connected.
using DatagramPorts = std::set<uint16_t>;

// A flow by which nothing was sent for longer is over: datagrams have no other end.
inline constexpr uint32_t kDatagramSilenceS = 2;

// Whether any is a flow from elsewhere to a port of `ports` at one of the namespace's `own`
// addresses, both ways with a datagram within the last kDatagramSilenceS, or one that was not
// answered within kDatagramAnswerS yet. Pure.
bool any_incoming_datagrams(const std::vector<DatagramFlow>& flows, const DatagramPorts& ports,
                            const std::set<std::string>& own, const DatagramTimeouts& timeouts);

// An SCTP association. Of one with several addresses each way is a flow, and the first one tells
// how it stands.
struct AssociationFlow {
  std::string client;
  std::string server;
  uint16_t server_port = 0;
  bool runs = false;  // association_runs()
};
// Ports of SCTP sockets that listen, by what /proc/net/sctp/eps says. Pure.
std::set<uint16_t> read_association_ports(std::string_view endpoints);
// Whether any is one from elsewhere to a port of `ports` at one of the namespace's `own` addresses.
// Pure.
bool any_incoming_associations(const std::vector<AssociationFlow>& flows,
                               const std::set<uint16_t>& ports, const std::set<std::string>& own);

// Either of the calling thread's namespace. Takes a walk through the kernel's whole table of
// connections (10-20 ms with 256 k buckets) where something takes datagrams or associations at all.
// What is not tracked, there or in this kernel, is none.
Result<bool> any_incoming_tracked(NetlinkSocket& sockets);

}  // namespace muster::overlay
