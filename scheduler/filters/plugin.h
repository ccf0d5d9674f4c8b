#pragma once

#include "scheduler/filter.h"

namespace muster::scheduler {

// The node has the volume and log drivers that the group names. A node that reports no plugin of a
// type is given the benefit of the doubt.
class PluginFilter final : public Filter {
 public:
  bool set_group(const TaskShape& shape, ClusterState& state) override;
  bool check(const Candidate& candidate) const override;
  const char* name() const override { return "plugin"; }
  std::string why(const Candidate& candidate) const override;
  std::string explain(size_t nodes) const override;
  std::vector<std::string> details(const Candidate& candidate) const override;

 private:
  const TaskShape* shape_ = nullptr;
};

}  // namespace muster::scheduler
