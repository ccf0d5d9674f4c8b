#pragma once

#include <map>
#include <vector>

#include "base/status.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// Where automatic subnets come from.
struct SubnetPoolOptions {
  // Tried in order. Swarm's default for IPv4; IPv6 pools may be among them.
  std::vector<Prefix> pools;
  int mask_bits_v4 = 24;
  int mask_bits_v6 = 64;
  // Ranges that automatic subnets keep away from: routes, resolvers and data paths of the nodes.
  // Wanted subnets may use them: the user knows better.
  std::vector<Prefix> avoid;

  // 10.0.0.0/8 in /24, and one unique local /48 in /64.
  static SubnetPoolOptions defaults();
};

// The subnets in use by networks: no two overlap. Automatic ones are the first that fit, in the
// order of the pools, as in Swarm.
class SubnetPool {
 public:
  explicit SubnetPool(SubnetPoolOptions options);

  // A free subnet; `mask_bits` 0 takes the configured size. A mask wider than a pool takes the
  // whole pool. RESOURCE_EXHAUSTED when nothing fits.
  Result<Prefix> take_next(bool v6, int mask_bits = 0);
  // ALREADY_EXISTS when it overlaps a subnet in use.
  Status take(const Prefix& subnet);
  bool put_back(const Prefix& subnet);
  size_t taken() const { return taken_.size(); }

 private:
  // A subnet in use, or a range to avoid, that overlaps `p`; null when there is none.
  const Prefix* blocker(const Prefix& p) const;
  const Prefix* used_overlap(const Prefix& p) const;

  SubnetPoolOptions options_;
  std::map<Ip, Prefix> taken_;  // by first address
};

}  // namespace muster::overlay
