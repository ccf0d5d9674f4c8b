#pragma once

#include "base/status.h"
#include "overlay/dataplane/kernel/namespaces.h"

namespace muster::overlay {

bool has_bridge_netfilter();

// Lets namespaces choose that the frames their bridges forward pass through connection tracking and
// the rules of IPv4 and IPv6 (the kernel's br_netfilter). Loads the module where it is missing.
// That switches it on everywhere, so it is switched off again in the calling thread's namespace
// (the host's, whose own bridges have been without it) and in those that `pins` has.
// FAILED_PRECONDITION when the kernel has no such thing, beginning with kHidesClients
// (overlay/ipam/port_options.h).
Status provide_bridge_netfilter(NamespaceDir& pins);

// For the calling thread's namespace: whether IPv4 and IPv6 frames pass through. `changed` (may be
// null) tells whether that had to be set.
Status set_bridge_netfilter(bool on, bool* changed);

}  // namespace muster::overlay
