#pragma once

#include <map>
#include <string>
#include <vector>

#include "manager/store/store.h"
#include "overlay/ipam/range_set.h"

namespace muster::manager::control {

// Where a network's subnet and what a node reaches by itself are the same addresses: containers of
// the one do not reach the other there. Worked out when somebody reads, since nothing follows from
// it but that people are told. Pure.
class Overlaps {
 public:
  // Looks at all networks that have a subnet or want a certain one.
  explicit Overlaps(const store::Snapshot& state);

  // What is to be said of a node, or of a network; kWarningsMax at most, the last one counting the
  // rest.
  static constexpr size_t kWarningsMax = 8;
  std::vector<std::string> of(const v1::Node& node) const;
  std::vector<std::string> of(const v1::Network& network) const;

 private:
  const store::Snapshot& state_;
  overlay::RangeSet subnets_;
  std::map<overlay::Ip, std::string> networks_;  // names, by the first address of the subnet
};

}  // namespace muster::manager::control
