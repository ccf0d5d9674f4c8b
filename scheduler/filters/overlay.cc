#include "scheduler/filters/overlay.h"

namespace muster::scheduler {

// Where every node can, as nearly always, no candidate is asked.
bool OverlayFilter::set_group(const TaskShape& shape, ClusterState& state) {
  return state.some_lack_overlays() && state.enters_overlays(shape);
}

bool OverlayFilter::check(const Candidate& candidate) const {
  return candidate.node.no_overlays.empty();
}

std::string OverlayFilter::why(const Candidate& candidate) const {
  return candidate.node.no_overlays;
}

std::string OverlayFilter::explain(size_t nodes) const {
  return "overlay networks not possible on " + count_nodes(nodes);
}

std::vector<std::string> OverlayFilter::details(const Candidate& candidate) const {
  return {why(candidate)};
}

}  // namespace muster::scheduler
