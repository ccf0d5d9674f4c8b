#include "deploy/daemon/address_pools.h"

#include "overlay/ipam/ip.h"

namespace muster::daemon {
namespace {

constexpr uint32_t kMaskDefault = 24;
constexpr uint32_t kMaskMax = 29;

}  // namespace

Status check_address_pools(const std::vector<std::string>& pools, uint32_t mask_bits) {
  const uint32_t mask = mask_bits == 0 ? kMaskDefault : mask_bits;
  if (mask > kMaskMax) {
    return invalid_argument("subnets of /{} are too small: at most /{}", mask, kMaskMax);
  }
  std::vector<overlay::Prefix> seen;
  for (const std::string& text : pools) {
    const auto pool = overlay::Prefix::parse(text);
    if (!pool) {
      return invalid_argument(
          "invalid default address pool \"{}\": expected a CIDR like "
          "10.20.0.0/16",
          text);
    }
    if (!pool->base.v6 && pool->length > static_cast<int>(mask)) {
      return invalid_argument("default address pool {} is smaller than one subnet of /{}", text,
                              mask);
    }
    for (const overlay::Prefix& other : seen) {
      if (pool->overlaps(other)) {
        return invalid_argument("default address pools {} and {} overlap", other.str(),
                                pool->str());
      }
    }
    seen.push_back(*pool);
  }
  return ok_status();
}

}  // namespace muster::daemon
