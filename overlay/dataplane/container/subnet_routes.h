#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "muster/v1/objects.pb.h"
#include "overlay/dataplane/kernel/namespaces.h"
#include "overlay/dataplane/kernel/routing.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// What follows in containers that run when a network changes. Interfaces are told by their
// addresses. Containers (pins by name) that are gone are left out. Blocks; opens each namespace.

// An interface has an address in one subnet of its network. The others are on the same link:
// without a route that says so, what goes there would leave by the default route.

// Those routes of an interface with these addresses. Pure.
Result<std::vector<TableRoute>> further_routes(const v1::Network& network,
                                               const std::vector<Cidr>& addresses, int interface);
// Whether some address may need one: the network has several subnets of one family.
bool has_further_subnets(const v1::Network& network);
// To those of `subnets` that no address of theirs is in.
std::vector<TableRoute> further_routes(const std::vector<Prefix>& subnets,
                                       const std::vector<Cidr>& addresses, int interface);

// Gives the containers what their interfaces lack of these routes, for a network that has got
// another subnet. `mended`: names of those that lacked some.
Status lead_to_further_subnets(const NamespaceDir& pins, const std::vector<std::string>& containers,
                               const v1::Network& network, std::vector<std::string>& mended);

// Makes the MTU of their interfaces in these subnets no larger than this: the network drops what is
// larger without a word, so that connections that run would hang.
Status lower_mtu(const NamespaceDir& pins, const std::vector<std::string>& containers,
                 const std::vector<Prefix>& subnets, uint32_t mtu);

}  // namespace muster::overlay
