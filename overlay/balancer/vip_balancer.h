#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "overlay/balancer/spread_policy.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// What leads virtual addresses to tasks on this node, as `muster info` shows it.
inline constexpr std::string_view kNftablesBalancer = "nftables";
inline constexpr std::string_view kIpvsBalancer = "ipvs";

// How the new flows to one virtual address are spread over a map of slots: the same for every place
// but for where its count begins. Immutable and shared between places.
struct VipSpread {
  std::vector<Ip> slots;  // each names a backend; empty: no backends, new flows are refused at once
  Ip fallback;            // for the flow that meets a slot under exchange
  bool by_source = false;  // all flows of one client go to one backend

  friend bool operator==(const VipSpread&, const VipSpread&) = default;
};
using VipSpreadPtr = std::shared_ptr<const VipSpread>;

// The same for a kernel that does the spreading itself.
struct VipPool {
  SpreadPolicy policy;
  // Sorted. Of weight 0: it keeps the flows that it has and gets no more. Datagrams apart, since
  // they leave a backend earlier.
  std::vector<VipBackend> backends;
  std::vector<VipBackend> datagrams;

  friend bool operator==(const VipPool&, const VipPool&) = default;
};
using VipPoolPtr = std::shared_ptr<const VipPool>;

// One virtual address as a place shall have it. It has a part for each kind of balancer that there
// is on the node.
struct VipWish {
  Ip vip;
  VipSpreadPtr spread;
  VipPoolPtr pool;
  std::string name;  // of the service, for whoever looks at the kernel
  Ip source;         // the client's own address: what backends see
  uint32_t mtu = 0;  // of the way to the backends; segments are cut to it

  // This address is to go.
  bool gone() const { return spread == nullptr && pool == nullptr; }
};

// Leads virtual addresses to backends for the clients of one place; the place is a parameter: here
// it is a client container's own network namespace, so that there is no hop between and backends
// see the client's address. A virtual address has every port, answers pings, and refuses new flows
// at once when it has no backends; flows that run stay where they are. One implementation writes
// nftables maps, the other IPVS services (client_place.h and ipvs_place.h in overlay/dataplane);
// each goes by its own part of a wish. Not thread-safe; calls block.
class VipBalancer {
 public:
  virtual ~VipBalancer() = default;

  virtual std::string_view name() const = 0;
  // Learns what the kernel has: from a former process, or after somebody else changed it.
  virtual Status load() = 0;
  // Makes these wishes true and leaves other addresses alone; in force on return. One transaction,
  // or a few when it is very large; touches only what differs. What failed is not remembered as
  // done: the same wishes may be asked for again. Also clears away what former changes left, which
  // is all it does without wishes.
  virtual Status apply(const std::vector<VipWish>& wishes) = 0;
  // All addresses that anything is there for, sorted.
  virtual std::vector<Ip> in_force() const = 0;
  // How an address is spread over slots; nullptr: it is not there, or not as anything that is asked
  // for, or not over slots.
  virtual VipSpreadPtr spread_of(const Ip& vip) const = 0;
  virtual bool as_wished(const VipWish& wish) const = 0;
  // Whether the kernel may have anything else by now than what was made of it: load() finds out.
  virtual Result<bool> drifted() = 0;
};

}  // namespace muster::overlay
