#pragma once

#include <optional>

#include "base/status.h"
#include "overlay/dataplane/vip/client_wire.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// What a namespace tells of first flows to virtual addresses (ipvs_rules.h), by NFLOG. The packet
// does not wait for whoever listens, and nothing happens when nobody does.

// Whether this kernel tells of packets, tried in the namespace that the calling thread is in, in
// which it leaves table inet muster_vip. The kernel loads its module (nfnetlink_log) meanwhile.
Status try_first_use();
// `socket` gets them from now on: of NETLINK_NETFILTER, opened in the namespace, and for nothing
// else. Fails when somebody else in the namespace listens.
Status listen_for_first_use(WireSocket& socket);
// ... and no more: closing a socket takes the kernel a while, in which nobody else can listen.
void stop_listening_for_first_use(WireSocket& socket);
// Where the packet was sent that `message` tells of; nullopt: it is something else.
std::optional<Ip> read_first_use(const nlmsghdr* message);

}  // namespace muster::overlay
