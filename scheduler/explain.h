#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/cluster_state.h"

namespace muster::scheduler {

// What one node is to one more task of a service.
struct NodeVerdict {
  NodeIndex node = kNoIndex;
  bool fits = false;
  std::string filter;  // the first that turns it away, in the pipeline's order: "constraint"
  std::string why;     // "constraint node.labels.disk == ssd: the label is absent"
  uint32_t tasks = 0;  // active ones of the service
};

// Every node, in the order of ids, and why it would or would not get one more task of (service,
// revision); none when the state does not have the revision.
std::vector<NodeVerdict> explain_nodes(ClusterState& state, std::string_view service_id,
                                       uint64_t revision);

}  // namespace muster::scheduler
