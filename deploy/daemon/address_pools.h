#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace muster::daemon {

// Whether a new swarm can take its networks' subnets from these pools: each a CIDR, none within
// another, and none smaller than one subnet of `mask_bits` (0 = 24; at most 29; of IPv4).
Status check_address_pools(const std::vector<std::string>& pools, uint32_t mask_bits);

}  // namespace muster::daemon
