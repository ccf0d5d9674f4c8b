#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "overlay/balancer/slots.h"
#include "overlay/balancer/vip_balancer.h"

namespace muster::overlay {

// From what is in a place's nftables and what shall be to the steps between, as data; what they are
// in the kernel is overlay/dataplane's (client_rules.h). Pure.

// Spreads over `backends` (any order, duplicates dropped) by their weights, changing no more of
// `before` (may be null) than evenness asks for: the same pointer when nothing changes. The number
// of slots is that of slot_count(); where slots are not scarce it shrinks only when it is four
// times too large (kept_slot_count()), unless `snug`. By source, a map of another size leads as
// many clients as it can where the old one did. More backends than slots: as many of them as there
// are slots, from number `first` on.
VipSpreadPtr spread_vip(const VipSpreadPtr& before, std::vector<VipBackend> backends,
                        bool by_source, size_t first = 0, const SlotScale& scale = {},
                        bool snug = false);

// Which slots differ, and what they name in `to`. Both have as many slots.
std::vector<std::pair<uint32_t, Ip>> differing_slots(const VipSpread& from, const VipSpread& to);

// One virtual address as the kernel has it: its chain and its map of slots carry a generation in
// their names.
struct VipHeld {
  uint32_t generation = 0;
  VipSpreadPtr spread;  // no slots: it has neither chain nor map
  // Its chain or map is not what we would have made: to be made anew beside.
  bool broken = false;
  bool guarded = true;

  friend bool operator==(const VipHeld&, const VipHeld&) = default;
};

struct VipState {
  std::map<Ip, VipHeld> vips;
  uint32_t next_generation = 0;  // above all that are in use
  // What nothing leads to any more, by name.
  std::vector<std::string> dead_chains;
  std::vector<std::string> dead_maps;
};

struct VipStep {
  enum class What : uint8_t {
    kDropChain,    // `name`
    kDropMap,      // `name`
    kMakeMap,      // with all slots of `spread`
    kMakeChain,    // with its rules; `name` = the service's
    kSetRules,     // exchanges the rules of a chain
    kDeleteSlots,  // `slots`
    kAddSlots,     // `slots`
    kLead,         // new flows to `vip` go to the chain
    kUnlead,       // ... no longer
    kGuard,        // what is still addressed to `vip` after that is refused
    kUnguard,
  };
  What what;
  Ip vip;
  uint32_t generation = 0;
  VipSpreadPtr spread;
  std::vector<std::pair<uint32_t, Ip>> slots;
  std::string name;
};

struct VipPlan {
  std::vector<VipStep> steps;  // one transaction; empty = nothing to do
  // What they make of the state; nullopt: gone.
  std::vector<std::pair<Ip, std::optional<VipHeld>>> made;
  uint32_t next_generation = 0;
  std::vector<std::string> dead_chains;
  std::vector<std::string> dead_maps;
};

// Rules, beside those of nft_plan.h (backends change by exchanging slots, another shape is built
// beside the old and switched to by one element, what a plan retires is deleted by a following
// one): an address is guarded as long as it is there, so that no packet to it can reach the
// client's own listeners; it is led somewhere as long as it has backends.
VipPlan plan_vips(const VipState& now, const std::vector<VipWish>& wishes);
void commit(VipState& state, VipPlan plan);

// "to_10.0.1.5_0", "slots_fd00__5_0"
std::string vip_chain(const Ip& vip, uint32_t generation);
std::string vip_map(const Ip& vip, uint32_t generation);
// The other way round; nullopt for other names. `chain`: of a chain, else of a map.
struct VipName {
  Ip vip;
  uint32_t generation = 0;
  bool chain = false;
};
std::optional<VipName> parse_vip_name(std::string_view name);

// In words: "slots of 10.0.1.5_0: 3 = 10.0.1.8".
std::string describe(const VipStep& step);

}  // namespace muster::overlay
