#pragma once

#include "scheduler/filter.h"

namespace muster::scheduler {

// Fewer active tasks of the service on the node than its limit per node.
class MaxReplicasFilter final : public Filter {
 public:
  bool set_group(const TaskShape& shape, ClusterState& state) override;
  bool check(const Candidate& candidate) const override;
  const char* name() const override { return "max-replicas"; }
  std::string why(const Candidate& candidate) const override;
  std::string explain(size_t nodes) const override;

 private:
  uint64_t max_replicas_ = 0;
};

}  // namespace muster::scheduler
