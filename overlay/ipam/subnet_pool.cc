#include "overlay/ipam/subnet_pool.h"

#include <algorithm>

namespace muster::overlay {

SubnetPoolOptions SubnetPoolOptions::defaults() {
  SubnetPoolOptions options;
  options.pools.push_back({Ip::v4(10u << 24), 8});
  // A unique local prefix (RFC 4193); "muster" in its bytes instead of a random id, since all nodes
  // of all clusters that ever meet are one operator's.
  options.pools.push_back({Ip{true, (Uint128{0xfd6d'7573'7465} << 80)}, 48});
  return options;
}

SubnetPool::SubnetPool(SubnetPoolOptions options) : options_(std::move(options)) {}

const Prefix* SubnetPool::used_overlap(const Prefix& p) const {
  // Subnets in use never overlap one another, so it is enough to look at the one that starts last
  // at or before the end of `p`.
  auto it = taken_.upper_bound(p.last());
  if (it == taken_.begin()) return nullptr;
  --it;
  return it->second.overlaps(p) ? &it->second : nullptr;
}

const Prefix* SubnetPool::blocker(const Prefix& p) const {
  if (const Prefix* used = used_overlap(p)) return used;
  for (const Prefix& avoid : options_.avoid) {
    if (avoid.overlaps(p)) return &avoid;
  }
  return nullptr;
}

Result<Prefix> SubnetPool::take_next(bool v6, int mask_bits) {
  if (mask_bits == 0) mask_bits = v6 ? options_.mask_bits_v6 : options_.mask_bits_v4;
  bool any = false;
  for (const Prefix& pool : options_.pools) {
    if (pool.base.v6 != v6) continue;
    any = true;
    Prefix candidate{pool.base, std::max(mask_bits, pool.length)};
    while (true) {
      const Prefix* in_the_way = blocker(candidate);
      if (in_the_way == nullptr) {
        taken_.emplace(candidate.base, candidate);
        return candidate;
      }
      // Continue behind whatever is in the way, at the next multiple of the wanted size.
      const Ip end = std::max(in_the_way->last(), candidate.last());
      const Uint128 size = candidate.last().value - candidate.base.value + 1;
      if (end >= pool.last()) break;
      candidate.base.value = (end.value / size + 1) * size;
      if (!pool.contains(candidate.base)) break;
    }
  }
  if (!any) {
    return fail(resource_exhausted("no {} address pool is configured", v6 ? "IPv6" : "IPv4"));
  }
  return fail(
      resource_exhausted("no free /{} subnet is left in the {} address pools ({} subnets in use)",
                         mask_bits, v6 ? "IPv6" : "IPv4", taken_.size()));
}

Status SubnetPool::take(const Prefix& subnet) {
  if (const Prefix* used = used_overlap(subnet)) {
    return already_exists("subnet {} overlaps {}, which another network uses", subnet.str(),
                          used->str());
  }
  taken_.emplace(subnet.base, subnet);
  return ok_status();
}

bool SubnetPool::put_back(const Prefix& subnet) {
  const auto it = taken_.find(subnet.base);
  if (it == taken_.end() || it->second != subnet) return false;
  taken_.erase(it);
  return true;
}

}  // namespace muster::overlay
