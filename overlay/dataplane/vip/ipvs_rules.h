#pragma once

#include <cstdint>
#include <map>
#include <set>

#include "overlay/balancer/ipvs_plan.h"
#include "overlay/dataplane/vip/client_batch.h"

namespace muster::overlay {

// The nftables beside IPVS in a client's namespace, table inet muster_vip:
//
//   set vips4 { type ipv4_addr; }                    every VIP
//   map marks4 { type ipv4_addr : mark; }            ... and the mark of its flows
//   map flows4, datagrams4 { type ipv4_addr : mark; }   those that new flows may go to
//   set unused4 { type ipv4_addr; }                  those whose first flow is to be told of
//   chain fresh { ip daddr @unused4 limit rate 50/second burst 500 packets log group 19827; ... }
//   chain marking { type filter hook output priority -150;
//                meta l4proto tcp ct state established accept; ct state new jump fresh;
//                meta l4proto != udp meta mark set ip daddr map @flows4; ...; udp ... @datagrams4 }
//   chain unique { type nat hook postrouting priority 100; }
//   chain guard { type filter hook output priority 0; ip daddr @vips4 goto refuse; ... }
//   chain refuse { counter; meta l4proto tcp reject with tcp reset; reject }
// and the same for IPv6. IPVS comes between: what it leads has another address when it meets the
// guard. Chain unique is empty: with it the kernel gives a flow another port where the task knows
// the client's own already, from a connection that did not go by the virtual address; IPVS alone
// would have its first packet dropped. Flows that run need no mark. Pings are let through to the
// local route of each VIP. What is in two lines of unused4 is left out where first flows are not
// watched for.

// NFLOG's group of a place's first flows. Any number would do, as long as nobody else in a
// container has it: one listener each.
inline constexpr uint16_t kFirstUseGroup = 19827;
// Enough of a packet to tell where it goes: IPv6's header.
inline constexpr uint32_t kFirstUseBytes = 40;
// Many services at once, but no flood from datagrams that nobody answers (each is a new flow) while
// there is nobody to act on it. What is left out is found by IPVS's counts.
inline constexpr uint64_t kFirstUsesPerSecond = 50;
inline constexpr uint32_t kFirstUsesAtOnce = 500;

class IpvsTransaction : public NftBatch {
 public:
  using NftBatch::NftBatch;

  // Makes the table with all but the addresses, in place of a former one.
  void make_base(bool watch);
  // One of IpvsPlan's `before` and `after`.
  void add(const IpvsStep& step);
};

// What a namespace has. `base_whole` false: there is no table, or it is not as make_base() makes
// it, and all of it is to be made anew.
struct IpvsRules {
  bool base_whole = false;
  std::map<Ip, uint32_t> marks, flows, datagrams;
  std::set<Ip> watched;
};
Result<IpvsRules> list_ipvs_rules(WireSocket& socket, bool watch);

// Name of an empty chain that tells which version of these rules a table holds.
std::string_view ipvs_rules_marker();

}  // namespace muster::overlay
