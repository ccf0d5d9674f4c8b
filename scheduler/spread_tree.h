#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "scheduler/cluster_state.h"
#include "scheduler/node_columns.h"

namespace muster::scheduler {

// A node in the order of preference: the smallest is the best.
struct RankedNode {
  uint32_t failures = 0;       // recent ones, once they are enough to avoid the node; else 0
  uint32_t service_tasks = 0;  // active tasks of the service
  uint32_t active_tasks = 0;   // of all services
  uint32_t load_permille = 0;  // of what is reserved: prefers headroom among equals
  uint32_t rank = 0;           // order of node ids: decides the rest, the same way every time
  NodeIndex node = kNoIndex;

  friend bool operator<(const RankedNode& a, const RankedNode& b) {
    const uint64_t a1 = (uint64_t{a.failures} << 32) | a.service_tasks;
    const uint64_t b1 = (uint64_t{b.failures} << 32) | b.service_tasks;
    if (a1 != b1) return a1 < b1;
    const uint64_t a2 = (uint64_t{a.active_tasks} << 32) | a.load_permille;
    const uint64_t b2 = (uint64_t{b.active_tasks} << 32) | b.load_permille;
    if (a2 != b2) return a2 < b2;
    return a.rank < b.rank;
  }
};

// The nodes that can take one more task of a group, arranged so that the next one is at hand:
// at each level of the spread preferences the branch with the fewest tasks of the service, there
// the best node; branches with equally many tasks go by their best node. That evens branches out
// one task at a time, and a branch that is full simply drops out.
//
// Without preferences it is one heap. Building is linear in the nodes, a step logarithmic.
class SpreadTree {
 public:
  // `feasible` in any order; `service_tasks` has the service's active tasks on all nodes, also
  // those that take no more. `layout` must outlive the tree.
  SpreadTree(const SpreadLayout& layout, std::vector<RankedNode> feasible,
             const ClusterState::Counts* service_tasks);

  bool empty() const { return branches_[0].size == 0 && branches_[0].children.empty(); }
  // The node for the next task. Not when empty.
  RankedNode& top();
  // The top node got a task and its ranking was updated in place; `more` says whether it can take
  // another.
  void placed(bool more);

 private:
  struct Branch {
    uint64_t tasks = 0;
    uint32_t begin = 0;  // leaf: its heap is ranked_[begin, begin + size)
    uint32_t size = 0;
    std::vector<uint32_t> children;  // inner branch: heap of the children with nodes left
  };

  bool better(uint32_t a, uint32_t b) const;
  const RankedNode& best_of(uint32_t branch) const;
  void sift_nodes(const Branch& leaf, size_t at);
  void sift_children(Branch& branch, size_t at);
  void fill_leaves(std::vector<RankedNode> feasible);

  const SpreadLayout& layout_;
  std::vector<Branch> branches_;
  std::vector<RankedNode> ranked_;
};

}  // namespace muster::scheduler
