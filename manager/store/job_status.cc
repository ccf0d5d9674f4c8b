#include "manager/store/job_status.h"

#include <algorithm>

namespace muster::manager::store {

bool is_job(const v1::ServiceSpec& spec) {
  return spec.has_replicated_job() || spec.has_global_job();
}

uint64_t slots_in(const SlotRanges& ranges) {
  uint64_t count = 0;
  for (const v1::SlotRange& range : ranges) count += range.last() - range.first() + 1;
  return count;
}

const v1::SlotRange* range_of(const SlotRanges& ranges, uint64_t slot) {
  const auto after =
      std::upper_bound(ranges.begin(), ranges.end(), slot,
                       [](uint64_t value, const auto& range) { return value < range.first(); });
  if (after == ranges.begin()) return nullptr;
  const v1::SlotRange& range = *std::prev(after);
  return slot <= range.last() ? &range : nullptr;
}

void add_slot(SlotRanges& ranges, uint64_t slot) {
  if (range_of(ranges, slot) != nullptr) return;
  int at = 0;  // of the first range behind the slot
  while (at < ranges.size() && ranges[at].first() < slot) ++at;
  const bool joins_before = at > 0 && ranges[at - 1].last() + 1 == slot;
  const bool joins_behind = at < ranges.size() && ranges[at].first() == slot + 1;
  if (joins_before && joins_behind) {
    ranges[at - 1].set_last(ranges[at].last());
    ranges.erase(ranges.begin() + at);
  } else if (joins_before) {
    ranges[at - 1].set_last(slot);
  } else if (joins_behind) {
    ranges[at].set_first(slot);
  } else {
    v1::SlotRange* added = ranges.Add();
    added->set_first(slot);
    added->set_last(slot);
    std::rotate(ranges.begin() + at, ranges.end() - 1, ranges.end());
  }
}

}  // namespace muster::manager::store
