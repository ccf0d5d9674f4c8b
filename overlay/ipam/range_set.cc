#include "overlay/ipam/range_set.h"

#include <algorithm>
#include <utility>

namespace muster::overlay {
namespace {

// A range comes before those inside it.
bool before(const Prefix& a, const Prefix& b) {
  return a.base != b.base ? a.base < b.base : a.length < b.length;
}

}  // namespace

RangeSet::RangeSet(std::vector<Prefix> ranges) {
  std::sort(ranges.begin(), ranges.end(), before);
  for (Prefix& range : ranges) {
    if (!ranges_.empty() && ranges_.back().contains(range)) continue;
    ranges_.push_back(std::move(range));
  }
}

const Prefix* RangeSet::overlap(const Prefix& p) const {
  // Two prefixes overlap only when one holds the other: the range that begins last at or before `p`
  // may hold it, the one behind may be inside.
  const auto behind = std::lower_bound(ranges_.begin(), ranges_.end(), p, before);
  if (behind != ranges_.begin() && std::prev(behind)->overlaps(p)) return &*std::prev(behind);
  return behind != ranges_.end() && behind->overlaps(p) ? &*behind : nullptr;
}

size_t RangeSet::trim(size_t max) {
  if (ranges_.size() <= max) return 0;
  const size_t gone = ranges_.size() - max;
  std::stable_sort(ranges_.begin(), ranges_.end(),
                   [](const Prefix& a, const Prefix& b) { return a.length < b.length; });
  ranges_.resize(max);
  std::sort(ranges_.begin(), ranges_.end(), before);
  return gone;
}

}  // namespace muster::overlay
