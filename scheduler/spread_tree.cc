#include "scheduler/spread_tree.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace muster::scheduler {

SpreadTree::SpreadTree(const SpreadLayout& layout, std::vector<RankedNode> feasible,
                       const ClusterState::Counts* service_tasks)
    : layout_(layout), branches_(layout.branches.size()) {
  fill_leaves(std::move(feasible));
  if (branches_.size() == 1) return;  // one leaf: nothing to even out
  if (service_tasks != nullptr) {
    for (const auto& [node, tasks] : *service_tasks) {
      uint32_t branch = node < layout.leaf_of_node.size() ? layout.leaf_of_node[node] : kNoIndex;
      for (; branch != kNoIndex; branch = layout.branches[branch].parent) {
        branches_[branch].tasks += tasks;
      }
    }
  }
  // Children come after their parents, so that going backwards finds every child complete.
  for (size_t b = branches_.size(); b-- > 0;) {
    Branch& branch = branches_[b];
    const SpreadLayout::Branch& shape = layout.branches[b];
    for (uint32_t child = shape.first_child; child < shape.end_child; ++child) {
      if (branches_[child].size > 0 || !branches_[child].children.empty()) {
        branch.children.push_back(child);
      }
    }
    for (size_t at = branch.children.size() / 2; at-- > 0;) sift_children(branch, at);
  }
}

void SpreadTree::fill_leaves(std::vector<RankedNode> feasible) {
  if (branches_.size() == 1) {
    branches_[0].size = static_cast<uint32_t>(feasible.size());
    ranked_ = std::move(feasible);
  } else {
    for (const RankedNode& node : feasible) ++branches_[layout_.leaf_of_node[node.node]].size;
    uint32_t begin = 0;
    for (Branch& branch : branches_) {
      branch.begin = begin;
      begin += std::exchange(branch.size, 0);
    }
    ranked_.resize(feasible.size());
    for (const RankedNode& node : feasible) {
      Branch& leaf = branches_[layout_.leaf_of_node[node.node]];
      ranked_[leaf.begin + leaf.size++] = node;
    }
  }
  for (const Branch& leaf : branches_) {
    for (size_t at = leaf.size / 2; at-- > 0;) sift_nodes(leaf, at);
  }
}

const RankedNode& SpreadTree::best_of(uint32_t branch) const {
  while (!branches_[branch].children.empty()) branch = branches_[branch].children.front();
  return ranked_[branches_[branch].begin];
}

bool SpreadTree::better(uint32_t a, uint32_t b) const {
  if (branches_[a].tasks != branches_[b].tasks) return branches_[a].tasks < branches_[b].tasks;
  return best_of(a) < best_of(b);
}

void SpreadTree::sift_nodes(const Branch& leaf, size_t at) {
  RankedNode* heap = ranked_.data() + leaf.begin;
  const size_t size = leaf.size;
  const RankedNode moving = heap[at];
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= size) break;
    if (child + 1 < size && heap[child + 1] < heap[child]) ++child;
    if (!(heap[child] < moving)) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = moving;
}

void SpreadTree::sift_children(Branch& branch, size_t at) {
  auto& heap = branch.children;
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= heap.size()) return;
    if (child + 1 < heap.size() && better(heap[child + 1], heap[child])) ++child;
    if (!better(heap[child], heap[at])) return;
    std::swap(heap[at], heap[child]);
    at = child;
  }
}

RankedNode& SpreadTree::top() {
  MUSTER_CHECK(!empty(), "no node left");
  return const_cast<RankedNode&>(best_of(0));
}

void SpreadTree::placed(bool more) {
  uint32_t at = 0;
  while (!branches_[at].children.empty()) at = branches_[at].children.front();
  Branch& leaf = branches_[at];
  if (!more) ranked_[leaf.begin] = ranked_[leaf.begin + --leaf.size];
  if (leaf.size > 0) sift_nodes(leaf, 0);
  ++leaf.tasks;
  bool exhausted = leaf.size == 0;
  for (at = layout_.branches[at].parent; at != kNoIndex; at = layout_.branches[at].parent) {
    Branch& branch = branches_[at];
    ++branch.tasks;
    if (exhausted) {
      branch.children.front() = branch.children.back();
      branch.children.pop_back();
    }
    exhausted = branch.children.empty();
    if (!exhausted) sift_children(branch, 0);
  }
}

}  // namespace muster::scheduler
