#include "overlay/balancer/slots.h"

#include <algorithm>
#include <bit>
#include <unordered_map>

namespace muster::overlay {

size_t slot_count(size_t backends) {
  constexpr size_t kSlotsMin = 64;
  constexpr size_t kSlotsMax = 4096;
  return std::clamp(std::bit_ceil(backends * 4), kSlotsMin, kSlotsMax);
}

std::vector<std::string> assign_slots(const std::vector<std::string>& old,
                                      const std::vector<std::string>& backends, size_t count) {
  std::vector<std::string> slots(count);
  const size_t used = std::min(backends.size(), count);
  if (used == 0) return {};
  if (old.size() != count) {
    for (size_t i = 0; i < count; ++i) slots[i] = backends[i % used];
    return slots;
  }
  // `spare` backends may hold one slot more than the others.
  const size_t share = count / used;
  size_t spare = count % used;
  std::unordered_map<std::string_view, size_t> held;
  for (size_t i = 0; i < used; ++i) held.emplace(backends[i], 0);
  std::vector<size_t> empty;
  for (size_t i = 0; i < count; ++i) {
    const auto it = held.find(old[i]);
    const bool below = it != held.end() && it->second < share;
    const bool extra = it != held.end() && it->second == share && spare > 0;
    if (!below && !extra) {
      empty.push_back(i);
      continue;
    }
    if (extra) --spare;
    ++it->second;
    slots[i] = old[i];
  }
  // Round by round, so that the slots a newcomer gets lie apart.
  size_t next = 0;
  while (next < empty.size()) {
    const size_t before = next;
    for (size_t b = 0; b < used && next < empty.size(); ++b) {
      size_t& n = held[backends[b]];
      if (n >= share && !(n == share && spare > 0)) continue;
      if (n == share) --spare;
      ++n;
      slots[empty[next++]] = backends[b];
    }
    if (next == before) break;
  }
  return slots;
}

}  // namespace muster::overlay
