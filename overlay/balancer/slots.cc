#include "overlay/balancer/slots.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <numeric>
#include <tuple>
#include <unordered_map>

namespace muster::overlay {

namespace {

// From the most generous on. Each step is a quarter of the one before or less, for small services
// or for all.
constexpr SlotScale kScales[] = {
    {64, 4, kSlotsMax}, {16, 4, kSlotsMax}, {4, 4, kSlotsMax}, {4, 1, kSlotsMax}};

}  // namespace

size_t slot_count(size_t backends, const SlotScale& scale) {
  return std::min(std::max(std::bit_ceil(backends * scale.times), scale.least), scale.most);
}

size_t as_equal_backends(const std::vector<uint32_t>& weights) {
  if (weights.empty()) return 0;
  size_t sum = 0;
  size_t least = SIZE_MAX;
  for (const uint32_t weight : weights) {
    sum += std::max(weight, 1u);
    least = std::min<size_t>(least, std::max(weight, 1u));
  }
  return (sum + least - 1) / least;
}

SlotScale slot_scale(const std::vector<size_t>& backends, const SlotScale& now) {
  bool generous = true;  // more than now
  for (const SlotScale& scale : kScales) {
    generous = generous && scale != now;
    size_t sum = 0;
    for (const size_t count : backends) sum += count == 0 ? 0 : slot_count(count, scale);
    if (sum <= (generous ? kSlotsOfNetwork / 2 : kSlotsOfNetwork)) return scale;
  }
  return kScales[std::size(kScales) - 1];
}

size_t kept_slot_count(size_t backends, size_t have, const SlotScale& scale) {
  const size_t want = slot_count(backends, scale);
  return have == 0 || want > have || want * 4 <= have ? want : have;
}

SlotScale scale_of(const std::vector<HeldSlots>& maps) {
  const auto fits = [&](const SlotScale& scale) {
    return std::all_of(maps.begin(), maps.end(), [&](const HeldSlots& map) {
      return map.slots >= slot_count(map.backends, scale);
    });
  };
  const auto found = std::find_if(std::begin(kScales), std::end(kScales), fits);
  return found == std::end(kScales) ? kScales[std::size(kScales) - 1] : *found;
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

// How many slots each backend gets: its share of what is left once those whose share is less than
// one slot have got one. What does not divide goes to the largest remainders; among equal ones
// first to those who would otherwise have to give up a slot.
std::vector<size_t> quotas(const std::vector<uint64_t>& weights, const std::vector<size_t>& had,
                           size_t count) {
  std::vector<size_t> order(weights.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return weights[a] < weights[b]; });
  uint64_t sum = std::accumulate(weights.begin(), weights.end(), uint64_t{0});
  std::vector<size_t> out(weights.size(), 1);
  size_t light = 0;
  for (; light < order.size() && count * weights[order[light]] < sum; ++light) {
    sum -= weights[order[light]];
    --count;
  }
  order.erase(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(light));
  size_t spare = count;
  for (const size_t i : order) {
    out[i] = count * weights[i] / sum;
    spare -= out[i];
  }
  const auto rank = [&](size_t i) {
    return std::tuple(sum - count * weights[i] % sum, had[i] > out[i] ? 0 : 1, i);
  };
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return rank(a) < rank(b); });
  for (size_t i = 0; i < spare; ++i) ++out[order[i]];
  return out;
}

// From nothing: each backend's slots at equal distances.
std::vector<std::string> lay_out(const std::vector<std::string>& backends,
                                 const std::vector<size_t>& quota, size_t count) {
  std::vector<std::string> slots;
  slots.reserve(count);
  if (std::is_sorted(quota.rbegin(), quota.rend()) && quota.front() - quota.back() <= 1) {
    for (size_t i = 0; i < count; ++i) slots.push_back(backends[i % quota.size()]);
    return slots;
  }
  // Each begins a little later than the one before, so that equal ones do not go hand in hand.
  const uint64_t n = quota.size();
  std::vector<std::pair<uint64_t, size_t>> wanted;
  wanted.reserve(count);
  for (size_t i = 0; i < n; ++i) {
    for (uint64_t k = 0; k < quota[i]; ++k) {
      wanted.emplace_back(((2 * n * k + 2 * i + 1) << 32) / (2 * n * quota[i]), i);
    }
  }
  std::sort(wanted.begin(), wanted.end());
  for (const auto& [at, i] : wanted) slots.push_back(backends[i]);
  return slots;
}

}  // namespace

std::vector<std::string> assign_slots(const std::vector<std::string>& old,
                                      const std::vector<std::string>& backends, size_t count,
                                      const std::vector<uint32_t>& weights) {
  const size_t used = std::min(backends.size(), count);
  if (used == 0) return {};
  const bool fresh = old.size() != count;
  Holdings holdings;
  for (size_t i = 0; i < used; ++i) holdings.emplace(backends[i], Holding());
  for (const std::string& backend : old) {
    if (fresh) break;
    if (const auto it = holdings.find(backend); it != holdings.end()) ++it->second.had;
  }
  std::vector<uint64_t> shares;
  std::vector<size_t> had;
  for (size_t i = 0; i < used; ++i) {
    shares.push_back(i < weights.size() ? std::max(weights[i], 1u) : 1);
    had.push_back(holdings[backends[i]].had);
  }
  const std::vector<size_t> quota = quotas(shares, had, count);
  if (fresh) return lay_out(backends, quota, count);
  for (size_t i = 0; i < used; ++i) holdings[backends[i]].quota = quota[i];

  std::vector<std::string> slots(count);
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

std::vector<std::string> resize_slots(const std::vector<std::string>& slots, size_t count) {
  std::vector<std::string> out;
  out.reserve(count);
  // The kernel takes the upper bits of a hash: slot i of n is slots 2i and 2i + 1 of 2n.
  for (size_t i = 0; i < count && !slots.empty(); ++i)
    out.push_back(slots[i * slots.size() / count]);
  return out;
}

}  // namespace muster::overlay
