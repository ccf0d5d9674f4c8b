#pragma once

#include "scheduler/filter.h"

namespace muster::scheduler {

// The node can provide every mount. Local volumes are made where the task goes and bind mounts are
// the user's business, so only cluster volumes matter; no node has them in this version.
class VolumesFilter final : public Filter {
 public:
  bool set_group(const TaskShape& shape, ClusterState& state) override;
  bool check(const Candidate& candidate) const override;
  const char* name() const override { return "volume"; }
  std::string why(const Candidate& candidate) const override;
  std::string explain(size_t nodes) const override;
};

}  // namespace muster::scheduler
