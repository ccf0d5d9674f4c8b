#pragma once

#include "scheduler/filter.h"

namespace muster::scheduler {

// What the tasks on the node leave of its CPU, memory and generic resources covers the group's
// reservations.
class ResourceFilter final : public Filter {
 public:
  bool set_group(const TaskShape& shape, ClusterState& state) override;
  bool check(const Candidate& candidate) const override;
  const char* name() const override { return "resource"; }
  std::string why(const Candidate& candidate) const override;
  std::string explain(size_t nodes) const override;
  std::vector<std::string> details(const Candidate& candidate) const override;

 private:
  const TaskShape* shape_ = nullptr;
};

}  // namespace muster::scheduler
