#include "scheduler/explain.h"

#include <algorithm>

#include "scheduler/pipeline.h"

namespace muster::scheduler {

std::vector<NodeVerdict> explain_nodes(ClusterState& state, std::string_view service_id,
                                       uint64_t revision) {
  const ShapeIndex index = state.retain_shape(service_id, revision);
  std::vector<NodeVerdict> verdicts;
  if (const TaskShape* shape = state.shape(index)) {
    Pipeline pipeline;
    pipeline.set_group(*shape, state);
    const ClusterState::Counts* counts = state.service_tasks(index);
    for (const NodeInfo& node : state.nodes()) {
      if (!node.present) continue;
      NodeVerdict& verdict = verdicts.emplace_back();
      verdict.node = node.index;
      if (counts != nullptr) {
        const auto at = counts->find(node.index);
        if (at != counts->end()) verdict.tasks = at->second;
      }
      const Candidate candidate{node, verdict.tasks};
      const Filter* against = pipeline.first_against(candidate);
      verdict.fits = against == nullptr;
      if (against == nullptr) continue;
      verdict.filter = against->name();
      verdict.why = against->why(candidate);
    }
  }
  state.release_shape(index);
  std::sort(verdicts.begin(), verdicts.end(), [&](const NodeVerdict& a, const NodeVerdict& b) {
    return state.nodes()[a.node].facts.id < state.nodes()[b.node].facts.id;
  });
  return verdicts;
}

}  // namespace muster::scheduler
