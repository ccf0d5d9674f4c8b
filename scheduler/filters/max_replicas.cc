#include "scheduler/filters/max_replicas.h"

namespace muster::scheduler {

bool MaxReplicasFilter::set_group(const TaskShape& shape, ClusterState&) {
  max_replicas_ = shape.max_replicas;
  return max_replicas_ > 0;
}

bool MaxReplicasFilter::check(const Candidate& candidate) const {
  return candidate.service_tasks < max_replicas_;
}

// Swarm's text has no number of nodes and this spelling.
std::string MaxReplicasFilter::explain(size_t) const {
  return "max replicas per node limit exceed";
}

}  // namespace muster::scheduler
