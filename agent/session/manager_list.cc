#include "agent/session/manager_list.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

namespace muster::agent {

ManagerList::ManagerList(const std::vector<std::string>& addresses, Rng& rng) {
  replace(addresses, {}, rng);
}

ManagerList::Entry* ManagerList::find(const std::string& address) {
  const auto it = std::find_if(entries_.begin(), entries_.end(),
                               [&](const Entry& entry) { return entry.address == address; });
  return it == entries_.end() ? nullptr : &*it;
}

bool ManagerList::replace(const std::vector<std::string>& addresses, const std::string& in_use,
                          Rng& rng) {
  bool changed = false;
  const size_t before = entries_.size();
  std::erase_if(entries_, [&](const Entry& entry) {
    return entry.address != in_use &&
           std::find(addresses.begin(), addresses.end(), entry.address) == addresses.end();
  });
  changed = entries_.size() != before;
  // Every node in an order of its own, so that those of a lost manager spread over the others.
  std::vector<Entry> fresh;
  for (const std::string& address : addresses) {
    const bool twice = std::any_of(fresh.begin(), fresh.end(),
                                   [&](const Entry& entry) { return entry.address == address; });
    if (!address.empty() && !twice && find(address) == nullptr) fresh.push_back({address, {}});
  }
  if (changed || !fresh.empty()) unserved_since_.reset();
  if (fresh.empty()) return changed;
  rng.shuffle(std::span<Entry>(fresh));
  entries_.insert(entries_.end(), fresh.begin(), fresh.end());
  return true;
}

bool ManagerList::prefer(const std::vector<std::string>& addresses) {
  bool changed = false;
  for (auto it = addresses.rbegin(); it != addresses.rend(); ++it) {
    if (it->empty()) continue;
    Entry entry{*it, {}};
    if (const Entry* known = find(*it)) {
      entry = *known;
      std::erase_if(entries_, [&](const Entry& e) { return e.address == *it; });
    } else {
      changed = true;
    }
    // Two that name each other would else be asked in turns without a pause.
    if (std::next(it) == addresses.rend()) {
      entry.not_before =
          entry.declines == 0 ? TimePoint{} : std::min(entry.not_before, entry.if_named);
    }
    entries_.insert(entries_.begin(), entry);
  }
  if (changed) unserved_since_.reset();
  return changed;
}

std::optional<ManagerList::Choice> ManagerList::next(TimePoint now) const {
  // Of those that may be tried, one that failed comes after one that answered, since it may cost
  // patience. Of equal ones min_element takes the first.
  const auto rank = [&](const Entry& entry) {
    return std::pair(std::max(entry.not_before, now),
                     entry.failures > 0 && entry.not_before != TimePoint{});
  };
  const auto it =
      std::min_element(entries_.begin(), entries_.end(),
                       [&](const Entry& a, const Entry& b) { return rank(a) < rank(b); });
  if (it == entries_.end()) return std::nullopt;
  return Choice{it->address, it->not_before};
}

namespace {

Duration doubled(int times, Duration max) {
  Duration backoff = ManagerList::kBackoffMin;
  for (int i = 0; i < times && backoff < max; ++i) backoff *= 2;
  return std::min(backoff, max);
}

}  // namespace

void ManagerList::failed(const std::string& address, TimePoint now, Rng& rng) {
  Entry* entry = find(address);
  if (entry == nullptr) return;
  entry->declines = 0;
  if (!unserved_since_) unserved_since_ = now;
  put_off(*entry, doubled(entry->failures++, kBackoffMax), now, rng);
}

Duration ManagerList::pace(TimePoint now) const {
  const Duration unserved = unserved_since_ ? now - *unserved_since_ : Duration(0);
  return std::clamp(Duration(unserved / kDeclinedShare), kDeclinedMin, kDeclinedMax);
}

void ManagerList::declined(const std::string& address, TimePoint now, Rng& rng) {
  Entry* entry = find(address);
  if (entry == nullptr) return;
  entry->failures = 0;
  if (!unserved_since_) unserved_since_ = now;
  const int times = entry->declines++;
  const Duration all_once = pace(now);
  entry->if_named = now + all_once / 2;
  const auto answering = std::count_if(entries_.begin(), entries_.end(),
                                       [](const Entry& e) { return e.declines > 0; });
  put_off(*entry, doubled(times, all_once * answering), now, rng);
}

void ManagerList::put_off(Entry& entry, Duration backoff, TimePoint now, Rng& rng) {
  // Jitter keeps thousands of agents from returning in step.
  const auto spread = static_cast<uint64_t>(backoff.count());
  entry.not_before = now + backoff / 2 + Duration(static_cast<int64_t>(rng.below(spread) / 2));
  const auto at = entries_.begin() + (&entry - entries_.data());
  std::rotate(at, at + 1, entries_.end());
}

void ManagerList::succeeded(const std::string& address) {
  unserved_since_.reset();
  if (Entry* entry = find(address)) {
    entry->failures = 0;
    entry->declines = 0;
    entry->not_before = {};
  }
}

int ManagerList::failures(const std::string& address) const {
  for (const Entry& entry : entries_) {
    if (entry.address == address) return entry.failures;
  }
  return 0;
}

bool ManagerList::others_answer(const std::string& address) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return entry.declines > 0 && entry.address != address;
  });
}

std::vector<std::string> ManagerList::addresses() const {
  std::vector<std::string> out;
  for (const Entry& entry : entries_) out.push_back(entry.address);
  return out;
}

}  // namespace muster::agent
