#pragma once

#include <optional>
#include <string>
#include <vector>

#include "manager/store/store.h"

namespace muster::manager::control {

// Services that ask of nodes' balancers what those do not have. Worked out when somebody reads.
// Pure.
class BalancingLimits {
 public:
  explicit BalancingLimits(const store::Snapshot& state);

  std::vector<std::string> of(const v1::Node& node) const;
  std::vector<std::string> of(const v1::Network&) const { return {}; }

 private:
  std::vector<std::string> least_connection_;  // names of services that ask for it, a few
  size_t more_ = 0;
};

// The same for who makes or changes such a service.
std::optional<std::string> balancing_warning(const store::Snapshot& state,
                                             const v1::Service& service);

}  // namespace muster::manager::control
