#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "overlay/balancer/vip_balancer.h"

namespace muster::overlay {

// From what is in a place's IPVS and nftables and what shall be to the steps between, as data; what
// they are in the kernel is overlay/dataplane's (ipvs_wire.h, ipvs_rules.h). Pure.
//
// A virtual address has every port, so nftables marks what is addressed to it and an IPVS service
// is one of such a mark. Each address has two: IPVS does not tell protocols apart by marks, and
// datagrams leave a backend that is about to stop earlier than connections do. What is to keep its
// flows and get no more has weight 0; what is taken away has its flows reset.
//
// Each client has all addresses of its networks, of which it uses few. So that what a client costs
// goes by what it uses, and not by all tasks of its networks, an address can be led to a few
// backends until its first flow, which is watched for, and which those few serve.

// How the kernel is to spread.
struct IpvsShape {
  std::string scheduler;
  uint32_t flags = 0;      // IP_VS_SVC_F_*
  uint32_t timeout_s = 0;  // of a client's memory

  friend bool operator==(const IpvsShape&, const IpvsShape&) = default;
};
IpvsShape ipvs_shape(const SpreadPolicy& policy);

struct IpvsService {
  IpvsShape shape;
  std::map<Ip, uint32_t> weights;  // by backend

  friend bool operator==(const IpvsService&, const IpvsService&) = default;
};

enum IpvsHalf : size_t { kIpvsFlows = 0, kIpvsDatagrams = 1 };

// One virtual address as the kernel has it.
struct IpvsHeld {
  // Of its flows' service; that of its datagrams is one more. 0 = none.
  uint32_t mark = 0;
  std::array<std::optional<IpvsService>, 2> services;
  std::array<bool, 2> led{};  // new flows are marked
  bool guarded = false;
  bool watched = false;  // new flows are told of

  friend bool operator==(const IpvsHeld&, const IpvsHeld&) = default;
};

// Backends that take new flows, of an address that nobody has used: two, so that there is another
// one when nobody is there to notice that the first has failed.
inline constexpr size_t kIpvsFew = 2;

// Marks of ours: even ones from here on, as many as a place may have addresses.
inline constexpr uint32_t kIpvsMarkFirst = 0x49000000;
inline constexpr uint32_t kIpvsMarkEnd = 0x4a000000;
inline bool is_ipvs_mark(uint32_t mark) {
  return mark >= kIpvsMarkFirst && mark < kIpvsMarkEnd;
}

struct IpvsState {
  std::map<Ip, IpvsHeld> vips;
  // Services of ours that belong to no address: whether of IPv6, and the mark.
  std::set<std::pair<bool, uint32_t>> strays;
  // Whether an address has few of its backends until it is used, and those that were.
  bool on_use = false;
  std::set<Ip> used;
};

struct IpvsStep {
  enum class What : uint8_t {
    kMakeService,    // with `shape`, without backends
    kChangeService,  // to `shape`
    kDropService,    // with its backends
    kMakeBackend,    // `backend`
    kWeighBackend,
    kDropBackend,
    kLead,    // new flows to `vip`, of the half that `mark` says, get the mark
    kUnlead,  // ... no longer
    kGuard,   // what is still addressed to `vip` after that is refused; remembers its mark
    kUnguard,
    kWatch,  // new flows to `vip` are told of
    kUnwatch,
  };
  What what;
  bool v6 = false;
  uint32_t mark = 0;
  Ip vip;
  IpvsShape shape;
  VipBackend backend;
};

// In this order, so that nothing is led where there is nothing.
struct IpvsPlan {
  std::vector<IpvsStep> before;    // in nftables, one transaction
  std::vector<IpvsStep> services;  // in IPVS, one after another
  std::vector<IpvsStep> after;     // in nftables, one transaction
  // What they make of the state; nullopt: gone.
  std::vector<std::pair<Ip, std::optional<IpvsHeld>>> made;

  bool empty() const { return before.empty() && services.empty() && after.empty(); }
};

// `origin`: which backend of a new service is the first, and which are the few, so that the first
// flows of many clients do not all meet in one.
IpvsPlan plan_ipvs(const IpvsState& now, const std::vector<VipWish>& wishes, uint32_t origin);
void commit(IpvsState& state, const IpvsPlan& plan);
// For a plan that makes all of nftables anew: addresses that it has no wishes for, of networks that
// were not told of yet, are led as before.
void keep_others(const IpvsState& now, IpvsPlan& plan);

// Whether the kernel has what is wished for, or will have as soon as it is noticed that it is used.
bool as_wished(const IpvsState& state, const Ip& vip, const VipPool& pool);

// In words: "weigh 10.0.1.8 of 49000000 0".
std::string describe(const IpvsStep& step);

// How a service is to be spread by a kernel that does it itself. `ready` and `draining` of one
// family, in any order; `others`: what may have flows still. The same pointer when nothing changes.
VipPoolPtr pool_vip(const VipPoolPtr& before, const SpreadPolicy& policy,
                    const std::vector<VipBackend>& ready, const std::vector<Ip>& draining,
                    const std::vector<Ip>& others);

}  // namespace muster::overlay
