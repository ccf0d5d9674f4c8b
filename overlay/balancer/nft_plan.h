#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "overlay/balancer/balancer.h"
#include "overlay/balancer/slots.h"

namespace muster::overlay {

// What one frontend has in the kernel: a chain and, per family with backends, a map of slots. Chain
// and maps carry a generation in their name: a change of shape (target port, number of slots,
// family) builds new ones beside the old, and one exchange in the dispatching map switches over.
struct NftFrontend {
  uint32_t generation = 0;
  uint32_t target_port = 0;
  bool masquerade = false;
  std::vector<std::string> slots_v4;  // empty = family unused
  std::vector<std::string> slots_v6;
  std::string fallback_v4;  // backend of the trailing plain rule
  std::string fallback_v6;
  bool by_source = false;  // a slot is chosen by the client's address, not in turn

  friend bool operator==(const NftFrontend&, const NftFrontend&) = default;
};

// The frontends of one nftables table, as they are or shall be.
struct NftState {
  std::map<FrontendKey, NftFrontend> frontends;
  // Chains and maps of earlier generations that nothing leads to any more.
  std::vector<std::string> dead_chains;
  std::vector<std::string> dead_maps;

  friend bool operator==(const NftState&, const NftState&) = default;
};

// The commands from one state to the next, and what they make of it.
struct NftPlan {
  std::string commands;  // one transaction; empty = nothing to do
  NftState next;
  std::vector<RemovedBackend> removed;
};

// Works out the commands for table `inet <table>`, which holds the verdict maps that the caller's
// nat chains dispatch through: `ports` (meta l4proto . th dport), and for those bound to a place
// `ports_at4`, `ports_at6` (the address before that) and `ports_in` (the interface's name); and
// sets of the same keys, `masquerade_ports`, `masquerade_at4` and so on, of flows whose source is
// to be hidden. Pure. Rules:
//  - a frontend's rules are "dnat to numgen inc mod N map @slots" ("jhash saddr mod N" by source)
//    and, behind it, a plain dnat to one backend, for the flow that meets a slot under exchange;
//  - backends change by deleting and adding slots in one transaction; the chain is touched only
//    when the plain rule's backend left;
//  - what a plan retires is deleted by the following plan, when no packet is under way in it.
//  - of more backends of a family than `most` those from number `turn` on are led to.
// INVALID_ARGUMENT for a backend that is no address, or a port out of range.
Result<NftPlan> plan_nft(std::string_view table, const NftState& now,
                         const std::vector<Frontend>& frontends, size_t turn = 0,
                         size_t most = kSlotsMax);

// The commands that make the frontends of this state anew, slot by slot, in a table that has none
// of them; those that somebody else has changed are left out.
std::string restore_nft(std::string_view table, const NftState& state);

// Reads the state back from `nft -j list table inet <table>`. Whatever carries our naming but does
// not fit together counts as dead. A frontend whose rules or map somebody else has changed comes
// back with target port 0, which no frontend has: the next plan builds it anew.
Result<NftState> parse_nft(std::string_view json);

// Whether a chain or map of this name is a frontend's.
bool is_frontend_name(std::string_view name);

}  // namespace muster::overlay
