#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "scheduler/node_info.h"

namespace muster::scheduler {

// The tree that a list of spread preferences makes of the nodes: one level a descriptor, one branch
// a label value. Says nothing of tasks, so it is shared by all groups with the same preferences.
struct SpreadLayout {
  struct Branch {
    uint32_t parent = kNoIndex;
    uint32_t first_child = 0;  // children are consecutive, in the order of their label values
    uint32_t end_child = 0;    // no children: a leaf, which holds nodes
  };
  std::vector<Branch> branches;        // the root first
  std::vector<uint32_t> leaf_of_node;  // by NodeIndex; kNoIndex for nodes that are not present
};

// Answers about nodes that only change when a node's description does, kept from one group and one
// round to the next: which nodes match a constraint, how spread preferences divide them. Bounded:
// starts anew when more than kColumnsMax constraints or kLayoutsMax preference lists are in use.
class NodeColumns {
 public:
  static constexpr size_t kColumnsMax = 1024;
  static constexpr size_t kLayoutsMax = 128;
  using Column = std::shared_ptr<const std::vector<uint8_t>>;

  // By NodeIndex, 1 where the node matches.
  Column matches(const Constraint& constraint, const std::vector<NodeInfo>& nodes);
  std::shared_ptr<const SpreadLayout> layout(const std::vector<std::string>& descriptors,
                                             const std::vector<NodeInfo>& nodes);

  // The node's facts or presence changed.
  void node_changed(const NodeInfo& node);

 private:
  struct Entry {
    Constraint constraint;
    std::shared_ptr<std::vector<uint8_t>> column;
  };
  std::unordered_map<std::string, Entry> columns_;
  std::unordered_map<std::string, std::shared_ptr<const SpreadLayout>> layouts_;
};

}  // namespace muster::scheduler
