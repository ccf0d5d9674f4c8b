#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "overlay/ipam/address_pool.h"
#include "overlay/ipam/range_set.h"

namespace muster::overlay {

// The addresses that containers have towards their own node alone. Every node chooses its subnets
// itself, so that they lie where neither its host nor its containers reach anything else; an
// address means nothing to anybody but this node. Subnets are taken as they are needed: one is
// enough for 4,093 containers, and a further one serves containers in a network that the first
// overlaps. Pure.
//
// IPv6 addresses follow from the IPv4 ones: the node has one /64, and a container the address in it
// that ends in its IPv4 address.
class GatewayPool {
 public:
  // The /64 is worked out of the instance's id: unique local, the same after every restart.
  explicit GatewayPool(std::string_view instance_id);

  // Where a container leads to and what it is called there.
  struct Place {
    Ip address;
    Ip gateway;
  };

  // A subnet that overlaps neither `avoid` nor one of ours; to be made ours by add(). Private
  // ranges that Docker and EC2 use themselves come last; nullopt when all is taken.
  std::optional<Prefix> propose(const RangeSet& avoid) const;
  // INVALID_ARGUMENT when it is too small to hold a container.
  Status add(const Prefix& subnet);
  // In the order of add().
  const std::vector<Prefix>& subnets() const { return order_; }
  // Nothing is given out, nothing is ours.
  void clear();

  // The next free address of a subnet that overlaps nothing of `avoid`; nullopt when there is none.
  // An address that came back is given out again as late as can be.
  std::optional<Place> take(const RangeSet& avoid);
  // An address that is in use already; outside all subnets is fine.
  void hold(const Ip& address);
  void put_back(const Ip& address);

  const Prefix& subnet_v6() const { return subnet_v6_; }
  // `v4` in IPv6. Its gateway is gateway_v6().
  Ip to_v6(const Ip& v4) const { return {true, subnet_v6_.base.value | v4.value}; }
  Ip gateway_v6() const { return {true, subnet_v6_.base.value | 1}; }

 private:
  AddressPool* pool_of(const Ip& address);

  Prefix subnet_v6_;
  std::vector<Prefix> order_;
  std::vector<AddressPool> pools_;  // one for each of order_
};

}  // namespace muster::overlay
