#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/status.h"
#include "muster/v1/objects.pb.h"
#include "overlay/ipam/address_pool.h"
#include "overlay/ipam/port_pool.h"
#include "overlay/ipam/serial_set.h"
#include "overlay/ipam/subnet_pool.h"

namespace muster::overlay {

// Everything a cluster's networks give out: subnets, addresses, VXLAN numbers, published ports.
// Pure and single-threaded. It holds no truth of its own: it is rebuilt from the stored objects
// with the restore_ functions, and every take_ must be put back when it could not be stored.
//
// Figures: take and put back of an address under 1 us; restoring 100,000 addresses under 0.1 s.
class Ipam {
 public:
  static constexpr uint32_t kVniFirst = 4096;
  // The 4,096 above are the tunnels' with which nodes examine their networks (probe_tunnel.h).
  static constexpr uint32_t kVniLast = 0xffefff;

  explicit Ipam(SubnetPoolOptions options);
  // With VNIs up to that one alone.
  Ipam(SubnetPoolOptions options, uint32_t vni_last);

  // Where automatic subnets come from, from now on.
  void set_pools(SubnetPoolOptions options) { subnets_.set_options(std::move(options)); }
  // What automatic subnets keep away from, and where they lie only when nothing else is left, from
  // now on.
  void avoid(RangeSet ranges, RangeSet near = {}) {
    subnets_.avoid(std::move(ranges), std::move(near));
  }

  // The VNI that the network's options ask for; 0 when they do not. INVALID_ARGUMENT with the
  // reason.
  static Result<uint32_t> wanted_vni(const v1::NetworkSpec& spec);

  // Whether networks of this driver get subnets: "overlay", "bridge" and "" (overlay) do.
  static bool allocates(const v1::NetworkSpec& spec);

  // Gives the network its subnets (wanted ones, else automatic: always one of IPv4, and one of IPv6
  // when the spec says ipv6), gateways and, for an overlay, a VNI. All or nothing. `mask_bits`
  // overrides the size of an automatic IPv4 subnet; 0 = configured size.
  Result<v1::NetworkState> take_network(const v1::Network& network, int mask_bits = 0);
  // The same for a network that all nodes and services share: as large as the pools allow.
  Result<v1::NetworkState> take_shared_network(const v1::Network& network);
  // The subnets that the network's spec names and that it was not given yet.
  static std::vector<v1::IpamPool> missing_pools(const v1::Network& network);
  // Further subnets for a network that has some; returns them as given. All or nothing.
  Result<std::vector<v1::IpamPool>> grow_network(std::string_view network_id,
                                                 const std::vector<v1::IpamPool>& pools);
  // Undoes that. No address of them may be taken any more.
  void shrink_network(std::string_view network_id, const std::vector<v1::IpamPool>& pools);
  // Registers a network as stored.
  Status restore_network(const v1::Network& network);
  // Forgets the network and every address in it.
  void put_back_network(std::string_view network_id);
  bool has_network(std::string_view network_id) const;

  // Addresses for one interface, as CIDRs with the subnet's length: one of each family the network
  // has, IPv4 first. `wanted` (with or without length) are taken as given, the missing family is
  // filled up. All or nothing.
  Result<std::vector<std::string>> take_addresses(std::string_view network_id,
                                                  const std::vector<std::string>& wanted = {});
  // One address for a service: IPv4 where the network has it.
  Result<std::string> take_virtual_ip(std::string_view network_id);
  Status restore_address(std::string_view network_id, std::string_view cidr);
  // False when it was not taken.
  bool put_back_address(std::string_view network_id, std::string_view cidr);

  PortPool& ports() { return ports_; }
  const PortPool& ports() const { return ports_; }

  // Addresses of a network that can still be given out, of the family that has fewest.
  uint64_t free_addresses(std::string_view network_id) const;

 private:
  struct Held {
    std::vector<AddressPool> pools;
    uint32_t vni = 0;
  };

  Result<Ip> take_one(Held& held, bool v6, int* length);
  Result<std::vector<v1::IpamPool>> wanted_pools(const v1::Network& network, int mask_bits,
                                                 std::vector<Prefix>& taken);
  Result<uint32_t> take_vni(const v1::Network& network);
  Held* find(std::string_view network_id);
  const Held* find(std::string_view network_id) const;

  SubnetPool subnets_;
  SerialSet vnis_;
  PortPool ports_;
  std::unordered_map<std::string, Held> networks_;
};

}  // namespace muster::overlay
