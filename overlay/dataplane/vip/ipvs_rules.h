#pragma once

#include <map>

#include "overlay/balancer/ipvs_plan.h"
#include "overlay/dataplane/vip/client_batch.h"

namespace muster::overlay {

// The nftables beside IPVS in a client's namespace, table inet muster_vip:
//
//   set vips4 { type ipv4_addr; }                    every VIP
//   map marks4 { type ipv4_addr : mark; }            ... and the mark of its flows
//   map flows4, datagrams4 { type ipv4_addr : mark; }   those that new flows may go to
//   chain marking { type filter hook output priority -150;
//                meta l4proto != udp meta mark set ip daddr map @flows4; ...; udp ... @datagrams4 }
//   chain guard { type filter hook output priority 0; ip daddr @vips4 goto refuse; ... }
//   chain refuse { counter; meta l4proto tcp reject with tcp reset; reject }
// and the same for IPv6. IPVS comes between: what it leads has another address when it meets the
// guard. Flows that run need no mark. Pings are let through to the local route of each VIP.

class IpvsTransaction : public NftBatch {
 public:
  using NftBatch::NftBatch;

  // Makes the table with all but the addresses, in place of a former one.
  void make_base();
  // One of IpvsPlan's `before` and `after`.
  void add(const IpvsStep& step);
};

// What a namespace has. `base_whole` false: there is no table, or it is not as make_base() makes
// it, and all of it is to be made anew.
struct IpvsRules {
  bool base_whole = false;
  std::map<Ip, uint32_t> marks, flows, datagrams;
};
Result<IpvsRules> list_ipvs_rules(WireSocket& socket);

// Name of an empty chain that tells which version of these rules a table holds.
std::string_view ipvs_rules_marker();

}  // namespace muster::overlay
