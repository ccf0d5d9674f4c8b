#pragma once

#include <cstddef>
#include <cstdint>

#include "manager/store/store.h"

namespace muster::manager::dispatcher {

// Whether published ports that do not say otherwise hide their clients behind the node that they
// come in by (ClusterFeed.masquerade): in clusters of more nodes than the way back of answers was
// tried with, and where a node's kernel cannot find that way. Nodes are counted once, then
// followed; on the dispatcher's strand.
class Masquerade {
 public:
  static constexpr size_t kNodesMax = 1000;

  bool wanted(const store::Snapshot& view);
  // True if it is wanted where it was not, or the other way round.
  bool follow(const store::CommitEvent& event);
  // Commits are not followed any more: count anew.
  void forget() { known_ = false; }

 private:
  bool now() const { return nodes_ > kNodesMax || hiding_ > 0; }
  void count(const v1::Node& node, int change);

  bool known_ = false;
  uint64_t version_ = 0;  // of the state that was counted
  size_t nodes_ = 0;
  size_t hiding_ = 0;  // that cannot
};

}  // namespace muster::manager::dispatcher
