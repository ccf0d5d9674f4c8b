#pragma once

#include <vector>

#include "overlay/ipam/ip.h"

namespace muster::overlay {

// Ranges of addresses, none inside another, in order. Pure.
class RangeSet {
 public:
  RangeSet() = default;
  // Ranges inside others are dropped.
  explicit RangeSet(std::vector<Prefix> ranges);

  // The first range that overlaps `p`, or null. In logarithmic time.
  const Prefix* overlap(const Prefix& p) const;
  // All of them, in order.
  template <class Visit>
  void each_overlap(const Prefix& p, const Visit& visit) const {
    for (const Prefix* r = overlap(p); r != nullptr && r != end() && r->overlaps(p); ++r) visit(*r);
  }
  const std::vector<Prefix>& all() const { return ranges_; }
  // Keeps the `max` with the shortest prefixes, so that those of IPv6, which are longer, never push
  // out the wide ones of IPv4. How many are gone.
  size_t trim(size_t max);

  friend bool operator==(const RangeSet&, const RangeSet&) = default;

 private:
  const Prefix* end() const { return ranges_.data() + ranges_.size(); }

  std::vector<Prefix> ranges_;  // by address; disjoint
};

}  // namespace muster::overlay
