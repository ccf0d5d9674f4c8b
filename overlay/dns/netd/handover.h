#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/time.h"
#include "muster/v1/netd.pb.h"
#include "overlay/dns/netd/namespace_sockets.h"
#include "overlay/dns/netd/relays.h"

namespace muster::overlay::dns {

// How a netd passes on to its successor, another program after an upgrade: the state, and the
// sockets themselves, so that a question that waits in one is answered by the successor.
//
// On the control socket: the reply with the state, then for each container kHandoverMessage bytes
// that hold its id, with its three descriptors beside them; for each listener and connection of a
// relay, and each socket that holds a port, as many that begin with kHandedRelay, with what
// HandedRelay says; in the end as many zeros.
inline constexpr size_t kHandoverMessage = 128;
inline constexpr std::string_view kHandedRelay = "relay ";  // no container's id has a blank

struct Handover {
  v1::NetdUpdate state;
  std::map<std::string, NamespaceHopper::ResolverSockets> sockets;  // by container
  std::vector<HandedRelay> relays;
};

// Sends all but the end. Blocks, for kHandoverTimeout at most a message.
inline constexpr Duration kHandoverTimeout = 2s;
struct HandedSockets {
  int ns = -1;
  int udp = -1;
  int tcp = -1;
};
Status send_handover(int fd, const v1::NetdUpdate& state,
                     const std::map<std::string, HandedSockets>& sockets,
                     const std::vector<HandedRelay>& relays);
Status send_handover_end(int fd);

// Asks the netd behind the socket for everything. When this returns it, the other one serves no
// more and has released its lock. NOT_FOUND or UNAVAILABLE when there is none.
Result<Handover> receive_handover(const std::string& socket_path);

}  // namespace muster::overlay::dns
