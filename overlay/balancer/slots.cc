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

namespace {

struct Holding {
  size_t had = 0;    // slots in the old map
  size_t seen = 0;   // of those, looked at so far
  size_t kept = 0;   // slots in the new map so far
  size_t quota = 0;  // slots in the new map at the end

  // Whether the backend keeps the next slot it had. What it gives up is taken evenly out of its
  // run, so that those who get it lie between, not behind.
  bool keeps_next() {
    const size_t keep = std::min(quota, had);
    const bool keeps = (seen + 1) * keep / had > seen * keep / had;
    ++seen;
    if (keeps) ++kept;
    return keeps;
  }
};

using Holdings = std::unordered_map<std::string_view, Holding>;

// Everybody gets an equal share; what does not divide goes first to those who would otherwise have
// to give up a slot.
void set_quotas(const std::vector<std::string>& backends, size_t used, size_t count,
                Holdings& holdings) {
  const size_t share = count / used;
  size_t spare = count % used;
  for (size_t i = 0; i < used; ++i) {
    Holding& holding = holdings[backends[i]];
    holding.quota = share;
    if (spare > 0 && holding.had > share) {
      ++holding.quota;
      --spare;
    }
  }
  for (size_t i = 0; i < used && spare > 0; ++i) {
    Holding& holding = holdings[backends[i]];
    if (holding.quota != share) continue;
    ++holding.quota;
    --spare;
  }
}

}  // namespace

std::vector<std::string> assign_slots(const std::vector<std::string>& old,
                                      const std::vector<std::string>& backends, size_t count) {
  std::vector<std::string> slots(count);
  const size_t used = std::min(backends.size(), count);
  if (used == 0) return {};
  if (old.size() != count) {
    for (size_t i = 0; i < count; ++i) slots[i] = backends[i % used];
    return slots;
  }
  Holdings holdings;
  for (size_t i = 0; i < used; ++i) holdings.emplace(backends[i], Holding());
  for (const std::string& backend : old) {
    if (const auto it = holdings.find(backend); it != holdings.end()) ++it->second.had;
  }
  set_quotas(backends, used, count, holdings);

  std::vector<size_t> empty;
  for (size_t i = 0; i < count; ++i) {
    const auto it = holdings.find(old[i]);
    if (it != holdings.end() && it->second.keeps_next()) {
      slots[i] = old[i];
    } else {
      empty.push_back(i);
    }
  }
  // Round by round, so that the slots a newcomer gets lie apart.
  for (size_t next = 0; next < empty.size();) {
    for (size_t b = 0; b < used && next < empty.size(); ++b) {
      Holding& holding = holdings[backends[b]];
      if (holding.kept == holding.quota) continue;
      ++holding.kept;
      slots[empty[next++]] = backends[b];
    }
  }
  return slots;
}

}  // namespace muster::overlay
