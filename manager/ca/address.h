#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace muster::manager::ca {

// Whether other managers could dial it: "10.0.0.1:2377" or "[fd00::1]:2377" with a port of 1-65535,
// and no address that means "any" or many. Loopback is allowed: labs are on one machine.
// INVALID_ARGUMENT in Swarm's words.
Status check_manager_address(std::string_view address);

// The host in gRPC's name of a peer, "ipv4:10.0.0.1:40000" or "ipv6:%5Bfd00::1%5D:40000"; empty
// when it is no such name.
std::string peer_host(std::string_view peer);

}  // namespace muster::manager::ca
