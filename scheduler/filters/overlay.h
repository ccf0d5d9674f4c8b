#pragma once

#include "scheduler/filter.h"

namespace muster::scheduler {

// The node can be in overlay networks, where the group is in one.
class OverlayFilter final : public Filter {
 public:
  bool set_group(const TaskShape& shape, ClusterState& state) override;
  bool check(const Candidate& candidate) const override;
  const char* name() const override { return "overlay"; }
  std::string why(const Candidate& candidate) const override;
  std::string explain(size_t nodes) const override;
  std::vector<std::string> details(const Candidate& candidate) const override;
};

}  // namespace muster::scheduler
