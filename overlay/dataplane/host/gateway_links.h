#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "overlay/dataplane/kernel/netlink.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// Requests of rtnetlink about ways between a node and its containers.

// What the host's end needs: its alias, no address that it makes up for itself, and that processes
// of the host reach the container from 127.0.0.1.
Message set_routed(const std::string& name, std::string_view alias, bool kernel_has_ipv6);
// An address of one end of a link between two, `peer` is at the other one; an existing one is fine.
// Of IPv4 the kernel is not told the peer: with arp_ignore=1, which containers have for the sake of
// virtual addresses and some hosts for their own, it answers for an address only that is in its own
// prefix, which with a peer is the peer's (inet_confirm_addr).
Message add_peer_address(int index, const Ip& address, const Ip& peer);
// The route to the other end; the link has to be up. Of IPv6 the kernel makes it in the background,
// too; an existing one is fine.
Message add_peer_route(int index, const Ip& peer);
// A subnet behind a link. ALREADY_EXISTS when there is a route to just that one, of anybody.
Message claim_subnet(int index, const Prefix& subnet);
// Takes that back; no such route is fine.
Message give_up_subnet(int index, const Prefix& subnet);

}  // namespace muster::overlay
