#pragma once

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/status.h"
#include "overlay/ipam/ip.h"
#include "overlay/ipam/range_set.h"

namespace muster::overlay {

// Where automatic subnets come from.
struct SubnetPoolOptions {
  // Tried in order. IPv6 pools may be among them.
  std::vector<Prefix> pools;
  int mask_bits_v4 = 24;
  int mask_bits_v6 = 64;

  // 10.0.0.0/8 in /24 as in Swarm; behind it 172.16.0.0/12 and 192.168.0.0/16, for hosts that reach
  // all of 10.0.0.0/8 by routes of their own; and one unique local /48 in /64.
  static SubnetPoolOptions defaults();
};

// Where the hosts beside one with this address may be, whatever its routes say: its /16, when the
// address is private (RFC 1918, RFC 6598). That is what a VPC of EC2 is at most, of which a host
// knows its own subnet only and sends the rest to a router. nullopt for other addresses.
std::optional<Prefix> neighbourhood(const Ip& address);

// The subnets in use by networks: no two overlap. Automatic ones are the first that fit, in the
// order of the pools, as in Swarm, and that no node reaches by a route of its own; one where hosts
// may be that no route tells of only when nothing else is left in the pools.
class SubnetPool {
 public:
  explicit SubnetPool(SubnetPoolOptions options);

  // Where automatic subnets come from, from now on. What is in use stays.
  void set_options(SubnetPoolOptions options) { options_ = std::move(options); }

  // Routes and resolvers of the nodes; `near`: their neighbourhoods. What is in use stays, and
  // wanted subnets may lie there: the user knows better.
  void avoid(RangeSet ranges, RangeSet near = {}) {
    avoid_ = std::move(ranges);
    near_ = std::move(near);
  }

  // A free subnet; `mask_bits` 0 takes the configured size. A mask wider than a pool takes the
  // whole pool. RESOURCE_EXHAUSTED when nothing fits.
  Result<Prefix> take_next(bool v6, int mask_bits = 0);
  // ALREADY_EXISTS when it overlaps a subnet in use.
  Status take(const Prefix& subnet);
  bool put_back(const Prefix& subnet);
  // Lengths of automatic IPv4 subnets: the configured one, and that of the few networks which all
  // nodes and services share: a sixteenth of the first pool, at most a /16.
  int mask_bits() const { return options_.mask_bits_v4; }
  int shared_mask_bits() const;
  size_t taken() const { return taken_.size(); }

 private:
  // The first subnet of the pool that is free and in no range to avoid, nor in a neighbourhood
  // unless `near`; takes it.
  std::optional<Prefix> take_from(const Prefix& pool, int mask_bits, bool near);
  const Prefix* used_overlap(const Prefix& p) const;

  SubnetPoolOptions options_;
  RangeSet avoid_;
  RangeSet near_;
  std::map<Ip, Prefix> taken_;  // by first address
};

}  // namespace muster::overlay
