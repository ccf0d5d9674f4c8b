#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "overlay/balancer/vip_plan.h"
#include "overlay/dataplane/vip/client_batch.h"
#include "overlay/dataplane/vip/client_listing.h"
#include "overlay/dataplane/vip/client_wire.h"

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

// A transaction being written. `origin` turns every map by so many slots, so that the first flows
// of many clients do not all meet in one backend.
class VipTransaction : public NftBatch {
 public:
  VipTransaction(uint32_t generation, uint32_t origin) : NftBatch(generation), origin_(origin) {}

  // Makes the table with all but the addresses, in place of a former one.
  void make_base();
  void add(const VipStep& step);

 private:
  void slots_of(const VipStep& step, bool put);
  void rules(const VipStep& step);
  // To a chain; nullptr: no longer.
  void lead(const Ip& vip, const std::string* chain);

  uint32_t origin_;
};

// What a namespace has. `base_whole` false: there is no table, or it is not as make_base() makes
// it, and all of it is to be made anew.
struct VipListing {
  VipState state;
  bool base_whole = false;
};
Result<VipListing> list_vips(WireSocket& socket, uint32_t origin);

// Name of an empty chain that tells which version of these rules a table holds.
std::string_view vip_rules_marker();

}  // namespace muster::overlay
