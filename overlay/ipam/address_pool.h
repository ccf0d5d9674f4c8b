#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "muster/v1/specs.pb.h"
#include "overlay/ipam/ip.h"
#include "overlay/ipam/serial_set.h"

namespace muster::overlay {

// The addresses of one subnet of a network. The network and broadcast address (IPv4), the gateway
// and the auxiliary addresses are never given out; automatic addresses come from the ip-range when
// there is one, serially (SerialSet). Wanted static addresses may lie anywhere in the subnet.
//
// Of a subnet larger than 2^62 addresses only the first 2^62 are tracked.
class AddressPool {
 public:
  // `config` has its subnet set. An empty gateway becomes the first address of the subnet that is
  // not an auxiliary one. INVALID_ARGUMENT for a range, gateway or auxiliary address outside the
  // subnet, for an address named twice, and for a subnet too small to hold a container.
  static Result<AddressPool> make(const v1::IpamPool& config);

  const Prefix& subnet() const { return subnet_; }
  const Ip& gateway() const { return gateway_; }
  // The configuration as allocated: subnet and gateway filled in, in canonical form.
  v1::IpamPool config() const;

  // RESOURCE_EXHAUSTED when every address is taken.
  Result<Ip> take_next();
  // ALREADY_EXISTS when taken or reserved, INVALID_ARGUMENT when outside the subnet.
  Status take(const Ip& ip);
  // While state is rebuilt: like take(), and later automatic addresses start behind this one.
  Status restore(const Ip& ip);
  // False when it was not taken, or is reserved.
  bool put_back(const Ip& ip);

  // Addresses that can be given out automatically, and how many of those are free.
  uint64_t capacity() const { return capacity_; }
  uint64_t free() const { return capacity_ - taken_in_range_; }

 private:
  AddressPool(Prefix subnet, uint64_t size) : subnet_(subnet), set_(size) {}

  uint64_t offset(const Ip& ip) const {
    return static_cast<uint64_t>(ip.value - subnet_.base.value);
  }
  Ip at(uint64_t offset) const { return {subnet_.base.v6, subnet_.base.value + offset}; }
  bool tracked(const Ip& ip) const;
  bool in_range(uint64_t offset) const { return offset >= range_from_ && offset < range_to_; }
  bool is_reserved(const Ip& ip) const;
  Status reserve(const v1::IpamPool& config);

  Prefix subnet_;
  Ip gateway_;
  std::string ip_range_;
  std::vector<std::pair<std::string, Ip>> aux_;
  SerialSet set_;
  uint64_t range_from_ = 0;
  uint64_t range_to_ = 0;
  uint64_t capacity_ = 0;
  uint64_t taken_in_range_ = 0;
};

}  // namespace muster::overlay
