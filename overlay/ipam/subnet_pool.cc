#include "overlay/ipam/subnet_pool.h"

#include <algorithm>
#include <string>
#include <string_view>

namespace muster::overlay {

SubnetPoolOptions SubnetPoolOptions::defaults() {
  SubnetPoolOptions options;
  options.pools.push_back({Ip::v4(10u << 24), 8});
  options.pools.push_back({Ip::v4(172u << 24 | 16u << 16), 12});
  options.pools.push_back({Ip::v4(192u << 24 | 168u << 16), 16});
  // A unique local prefix (RFC 4193); "muster" in its bytes instead of a random id, since all nodes
  // of all clusters that ever meet are one operator's.
  options.pools.push_back({Ip{true, (Uint128{0xfd6d'7573'7465} << 80)}, 48});
  return options;
}

std::optional<Prefix> neighbourhood(const Ip& address) {
  static const Prefix kPrivate[] = {{Ip::v4(10u << 24), 8},
                                    {Ip::v4(172u << 24 | 16u << 16), 12},
                                    {Ip::v4(192u << 24 | 168u << 16), 16},
                                    {Ip::v4(100u << 24 | 64u << 16), 10}};
  for (const Prefix& range : kPrivate) {
    if (!range.contains(address)) continue;
    return Prefix{Ip::v4(static_cast<uint32_t>(address.value) & 0xffff'0000u), 16};
  }
  return std::nullopt;
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

std::optional<Prefix> SubnetPool::take_from(const Prefix& pool, int mask_bits, bool near) {
  Prefix candidate{pool.base, std::max(mask_bits, pool.length)};
  while (true) {
    const Prefix* in_the_way = used_overlap(candidate);
    if (in_the_way == nullptr) in_the_way = avoid_.overlap(candidate);
    if (in_the_way == nullptr && !near) in_the_way = near_.overlap(candidate);
    if (in_the_way == nullptr) {
      taken_.emplace(candidate.base, candidate);
      return candidate;
    }
    // Continue behind whatever is in the way, at the next multiple of the wanted size.
    const Ip end = std::max(in_the_way->last(), candidate.last());
    const Uint128 size = candidate.last().value - candidate.base.value + 1;
    if (end >= pool.last()) return std::nullopt;
    candidate.base.value = (end.value / size + 1) * size;
    if (!pool.contains(candidate.base)) return std::nullopt;
  }
}

Result<Prefix> SubnetPool::take_next(bool v6, int mask_bits) {
  if (mask_bits == 0) mask_bits = v6 ? options_.mask_bits_v6 : options_.mask_bits_v4;
  const Prefix* avoided = nullptr;
  bool any = false;
  for (const bool near : {false, true}) {
    for (const Prefix& pool : options_.pools) {
      if (pool.base.v6 != v6) continue;
      any = true;
      if (const auto subnet = take_from(pool, mask_bits, near)) return *subnet;
      if (avoided == nullptr) avoided = avoid_.overlap(pool);
    }
  }
  const std::string_view family = v6 ? "IPv6" : "IPv4";
  if (!any) return fail(resource_exhausted("no {} address pool is configured", family));
  std::string why = fmt::format("{} subnet{} in use", taken_.size(), taken_.size() == 1 ? "" : "s");
  if (avoided != nullptr) {
    why += fmt::format("; routes of nodes are kept away from, such as {}", avoided->str());
  }
  return fail(resource_exhausted(
      "no free /{} subnet is left in the {} address pools ({}): name one by --subnet, also from "
      "outside of them",
      mask_bits, family, why));
}

int SubnetPool::shared_mask_bits() const {
  const auto first = std::find_if(options_.pools.begin(), options_.pools.end(),
                                  [](const Prefix& pool) { return !pool.base.v6; });
  if (first == options_.pools.end()) return options_.mask_bits_v4;
  return std::min(std::max(16, first->length + 4), options_.mask_bits_v4);
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
