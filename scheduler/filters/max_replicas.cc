#include "scheduler/filters/max_replicas.h"

#include <fmt/format.h>

namespace muster::scheduler {

bool MaxReplicasFilter::set_group(const TaskShape& shape, ClusterState&) {
  max_replicas_ = shape.max_replicas;
  return max_replicas_ > 0;
}

bool MaxReplicasFilter::check(const Candidate& candidate) const {
  return candidate.service_tasks < max_replicas_;
}

// Swarm's text has no number of nodes and this spelling.
std::string MaxReplicasFilter::why(const Candidate& candidate) const {
  return fmt::format("{} {} of the service on it, {} at most", candidate.service_tasks,
                     candidate.service_tasks == 1 ? "task" : "tasks", max_replicas_);
}

std::string MaxReplicasFilter::explain(size_t) const {
  return "max replicas per node limit exceed";
}

}  // namespace muster::scheduler
