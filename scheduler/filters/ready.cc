#include "scheduler/filters/ready.h"

namespace muster::scheduler {

bool ReadyFilter::set_group(const TaskShape&, ClusterState&) {
  return true;
}

bool ReadyFilter::check(const Candidate& candidate) const {
  return candidate.node.ready();
}

std::string ReadyFilter::why(const Candidate& candidate) const {
  const std::vector<std::string> found = details(candidate);
  return found.empty() ? std::string() : found.front();
}

std::string ReadyFilter::explain(size_t nodes) const {
  return count_nodes(nodes) + " not available for new tasks";
}

std::vector<std::string> ReadyFilter::details(const Candidate& candidate) const {
  switch (candidate.node.state) {
    case v1::NodeStatus::READY: break;
    case v1::NodeStatus::DOWN: return {"status down"};
    case v1::NodeStatus::DISCONNECTED: return {"status disconnected"};
    default: return {"status unknown"};
  }
  return {candidate.node.availability == v1::NodeSpec::DRAIN ? "availability drain"
                                                             : "availability pause"};
}

}  // namespace muster::scheduler
