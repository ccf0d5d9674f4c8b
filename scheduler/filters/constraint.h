#pragma once

#include "scheduler/filter.h"

namespace muster::scheduler {

// The node matches every placement constraint.
class ConstraintFilter final : public Filter {
 public:
  bool set_group(const TaskShape& shape, ClusterState& state) override;
  bool check(const Candidate& candidate) const override;
  const char* name() const override { return "constraint"; }
  std::string why(const Candidate& candidate) const override;
  std::string explain(size_t nodes) const override;
  std::vector<std::string> details(const Candidate& candidate) const override;

 private:
  const TaskShape* shape_ = nullptr;
  std::vector<NodeColumns::Column> columns_;  // one a constraint
};

}  // namespace muster::scheduler
