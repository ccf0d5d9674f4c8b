#include "scheduler/filters/resource.h"

#include <fmt/format.h>

#include <algorithm>

#include "scheduler/words.h"

namespace muster::scheduler {

bool ResourceFilter::set_group(const TaskShape& shape, ClusterState&) {
  shape_ = &shape;
  return shape.reserves();
}

bool ResourceFilter::check(const Candidate& candidate) const {
  const NodeInfo& node = candidate.node;
  // A node that has less than its tasks hold still takes tasks that reserve nothing of that kind.
  if (shape_->nano_cpus > 0 && shape_->nano_cpus > node.available_nano_cpus()) return false;
  if (shape_->memory_bytes > 0 && shape_->memory_bytes > node.available_memory()) return false;
  return std::all_of(
      shape_->generics.begin(), shape_->generics.end(),
      [&](const GenericNeed& need) { return need.count <= node.available_generic(need.kind); });
}

std::string ResourceFilter::why(const Candidate& candidate) const {
  const NodeInfo& node = candidate.node;
  std::vector<std::string> lacking;
  if (shape_->nano_cpus > 0 && shape_->nano_cpus > node.available_nano_cpus()) {
    lacking.push_back(fmt::format("CPUs: {} asked, {} free of {}", cpus_text(shape_->nano_cpus),
                                  cpus_text(std::max<int64_t>(0, node.available_nano_cpus())),
                                  cpus_text(node.total_nano_cpus())));
  }
  if (shape_->memory_bytes > 0 && shape_->memory_bytes > node.available_memory()) {
    lacking.push_back(fmt::format("memory: {} asked, {} free of {}",
                                  bytes_text(shape_->memory_bytes),
                                  bytes_text(std::max<int64_t>(0, node.available_memory())),
                                  bytes_text(node.total_memory())));
  }
  for (const GenericNeed& need : shape_->generics) {
    const int64_t free = node.available_generic(need.kind);
    if (need.count <= free) continue;
    lacking.push_back(
        fmt::format("{}: {} asked, {} free", need.kind, need.count, std::max<int64_t>(0, free)));
  }
  return fmt::format("{}", fmt::join(lacking, "; "));
}

std::string ResourceFilter::explain(size_t nodes) const {
  return "insufficient resources on " + count_nodes(nodes);
}

std::vector<std::string> ResourceFilter::details(const Candidate& candidate) const {
  const NodeInfo& node = candidate.node;
  std::vector<std::string> lacking;
  if (shape_->nano_cpus > 0 && shape_->nano_cpus > node.available_nano_cpus()) {
    lacking.push_back("insufficient cpu");
  }
  if (shape_->memory_bytes > 0 && shape_->memory_bytes > node.available_memory()) {
    lacking.push_back("insufficient memory");
  }
  for (const GenericNeed& need : shape_->generics) {
    if (need.count > node.available_generic(need.kind)) {
      lacking.push_back("insufficient generic resource " + need.kind);
    }
  }
  return lacking;
}

}  // namespace muster::scheduler
