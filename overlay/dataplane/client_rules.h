#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "overlay/balancer/vip_plan.h"
#include "overlay/dataplane/client_wire.h"

namespace muster::overlay {

// The nftables of virtual addresses in a client's namespace, as netlink messages: writing them by
// hand costs 0.1 ms a change where libnftables, which reads and parses the rules first, costs one
// and more. What is written lists as text that nft takes back: table inet muster_vip.
//
//   map services4 { type ipv4_addr : verdict; }     VIP : goto to_VIP_GENERATION
//   set vips4 { type ipv4_addr; }                   every VIP, with backends or without
//   map slots_VIP_G { typeof numgen inc mod N : ip daddr; }
//   chain to_VIP_G { dnat ip to numgen inc mod N map @slots_VIP_G; dnat ip to BACKEND }
//   chain output { type nat hook output priority -100; ip daddr vmap @services4; ... }
//   chain guard { type filter hook output priority 0; ip daddr @vips4 goto refuse; ... }
//   chain refuse { counter; meta l4proto tcp reject with tcp reset; reject }
// and the same for IPv6. Pings are let through to the local route of each VIP.
inline constexpr std::string_view kVipTable = "muster_vip";

// A transaction being written. `origin` turns every map by so many slots, so that the first flows
// of many clients do not all meet in one backend.
class VipTransaction {
 public:
  // `generation`: refused (ERESTART) unless the namespace's nftables are of this generation; 0 =
  // whatever they are.
  VipTransaction(uint32_t generation, uint32_t origin);

  // Makes the table with all but the addresses, in place of a former one.
  void make_base();
  void drop_base();
  void add(const VipStep& step);
  // Closes it and asks for an answer.
  const Wire& finish();
  size_t size() const { return wire_.bytes().size(); }
  // In words, what message `sequence` does.
  std::string what(uint32_t sequence) const;

 private:
  void make_base_rules();
  void begin(uint16_t message, uint16_t flags, std::string what);
  void slots_of(const VipStep& step, bool put);
  void element(std::string_view set, const Ip& vip, const std::string* chain, bool put);
  void rules(const VipStep& step);
  void drop(uint16_t message, uint16_t name_attribute, const std::string& name);

  Wire wire_;
  uint32_t origin_;
  std::vector<std::string> whats_;  // by sequence number, from 1
};

// What a namespace has. `base_whole` false: there is no table, or it is not as make_base() makes
// it, and all of it is to be made anew.
struct VipListing {
  VipState state;
  bool base_whole = false;
};
Result<VipListing> list_vips(WireSocket& socket, uint32_t origin);
// The generation of the namespace's nftables: it rises by one with every transaction by anybody.
Result<uint32_t> nft_generation(WireSocket& socket);

// Name of an empty chain that tells which version of these rules a table holds.
std::string_view vip_rules_marker();

// From the bytes of an address in network order.
Ip ip_of_wire(std::string_view bytes);

}  // namespace muster::overlay
