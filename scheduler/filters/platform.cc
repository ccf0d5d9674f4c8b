#include "scheduler/filters/platform.h"

#include <algorithm>
#include <string_view>

namespace muster::scheduler {
namespace {

std::string_view canonical(std::string_view architecture) {
  if (architecture == "x86_64") return "amd64";
  if (architecture == "aarch64") return "arm64";
  return architecture;
}

}  // namespace

bool runs_on(const v1::Platform& wanted, std::string_view os, std::string_view architecture) {
  return (wanted.os().empty() || wanted.os() == os) &&
         (wanted.architecture().empty() ||
          canonical(wanted.architecture()) == canonical(architecture));
}

bool PlatformFilter::set_group(const TaskShape& shape, ClusterState&) {
  shape_ = &shape;
  return !shape.platforms.empty();
}

bool PlatformFilter::check(const Candidate& candidate) const {
  const NodeFacts& node = candidate.node.facts;
  // A node that has not said what it is cannot be trusted with an image for something particular.
  if (node.os.empty() && node.architecture.empty()) return false;
  return std::any_of(
      shape_->platforms.begin(), shape_->platforms.end(),
      [&](const v1::Platform& wanted) { return runs_on(wanted, node.os, node.architecture); });
}

std::string PlatformFilter::why(const Candidate& candidate) const {
  return details(candidate).front();
}

std::string PlatformFilter::explain(size_t nodes) const {
  return "unsupported platform on " + count_nodes(nodes);
}

std::vector<std::string> PlatformFilter::details(const Candidate& candidate) const {
  const NodeFacts& node = candidate.node.facts;
  if (node.os.empty() && node.architecture.empty()) return {"platform unknown"};
  return {"image not built for " + node.os + "/" + std::string(canonical(node.architecture))};
}

}  // namespace muster::scheduler
