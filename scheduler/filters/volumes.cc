#include "scheduler/filters/volumes.h"

namespace muster::scheduler {

bool VolumesFilter::set_group(const TaskShape& shape, ClusterState&) {
  return shape.cluster_volumes;
}

bool VolumesFilter::check(const Candidate&) const {
  return false;
}

std::string VolumesFilter::why(const Candidate& candidate) const {
  return candidate.node.present ? "no node provides the mounts of this type" : "";
}

std::string VolumesFilter::explain(size_t nodes) const {
  return "cannot fulfill requested CSI volume mounts on " + count_nodes(nodes);
}

}  // namespace muster::scheduler
