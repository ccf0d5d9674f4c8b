#pragma once

#include <cstdint>
#include <string_view>

#include "base/status.h"

namespace muster::overlay {

// What leads virtual addresses to tasks in the containers that are made from now on. Those that are
// there keep what they began with as long as the kernel has it, so that no connection breaks.
struct BalancerChoice {
  bool ipvs = false;
  uint16_t ipvs_family = 0;  // 0 = this kernel has no IPVS
  // With IPVS an address has few of its tasks in a container until the container uses it
  // (ipvs_plan.h); false: this kernel does not tell of that, so that it has all of them at once.
  bool on_use = false;

  std::string_view name() const;
};

// `wanted`: "auto" (IPVS where the kernel has it), "nftables" or "ipvs", which fails where it does
// not. Tries the kernel.
Result<BalancerChoice> choose_balancer(std::string_view wanted);

}  // namespace muster::overlay
