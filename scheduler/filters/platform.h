#pragma once

#include "scheduler/filter.h"

namespace muster::scheduler {

// Whether an image for `wanted` runs on a node of this platform; either half may be empty.
bool runs_on(const v1::Platform& wanted, std::string_view os, std::string_view architecture);

// The node's platform is one of those the image was built for.
class PlatformFilter final : public Filter {
 public:
  bool set_group(const TaskShape& shape, ClusterState& state) override;
  bool check(const Candidate& candidate) const override;
  const char* name() const override { return "platform"; }
  std::string why(const Candidate& candidate) const override;
  std::string explain(size_t nodes) const override;
  std::vector<std::string> details(const Candidate& candidate) const override;

 private:
  const TaskShape* shape_ = nullptr;
};

}  // namespace muster::scheduler
