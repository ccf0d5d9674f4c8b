#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "deploy/lab/plan.h"

// Which nodes do not hear which. Pure.
namespace muster::deploy::lab {

enum class Cut {
  kSilent,  // packets vanish
  kRefuse,  // TCP is answered with a reset, everything else with "unreachable"
};

// A cut has a direction: nothing of `first` reaches `second`.
using Cuts = std::map<std::pair<std::string, std::string>, Cut>;

// "a,b" as nodes of the plan, without repetition. NOT_FOUND names the first that is none.
Result<std::vector<std::string>> parse_group(const LabPlan& plan, std::string_view text);
// All nodes but those of `group` and the registry.
std::vector<std::string> others(const LabPlan& plan, const std::vector<std::string>& group);

// INVALID_ARGUMENT when a node is in both groups.
Status add_cuts(Cuts& cuts, const std::vector<std::string>& a, const std::vector<std::string>& b,
                bool one_way, Cut kind);
// Both directions, whatever their kind. Returns how many cuts are gone.
size_t heal_cuts(Cuts& cuts, const std::vector<std::string>& a, const std::vector<std::string>& b);

// "manager2, worker1 (only from it)": whom the node has cuts with; "" for none.
std::string describe_cuts(const Cuts& cuts, std::string_view node);

// The table of cuts of the one node, as nftables commands that replace a former one in one
// transaction: the receiver drops. A packet is judged by the address of the node it comes from,
// which containers' packets have as well.
std::string cut_rules(const LabPlan& plan, const Cuts& cuts, std::string_view node);

}  // namespace muster::deploy::lab
