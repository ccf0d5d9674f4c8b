#include "agent/session/manager_list.h"

#include <algorithm>
#include <span>

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
    if (!address.empty() && !twice && find(address) == nullptr) fresh.push_back({address, {}, 0});
  }
  if (fresh.empty()) return changed;
  rng.shuffle(std::span<Entry>(fresh));
  entries_.insert(entries_.end(), fresh.begin(), fresh.end());
  return true;
}

bool ManagerList::prefer(const std::vector<std::string>& addresses) {
  bool changed = false;
  for (auto it = addresses.rbegin(); it != addresses.rend(); ++it) {
    if (it->empty()) continue;
    Entry entry{*it, {}, 0};
    if (const Entry* known = find(*it)) {
      entry = *known;
      std::erase_if(entries_, [&](const Entry& e) { return e.address == *it; });
    } else {
      changed = true;
    }
    entries_.insert(entries_.begin(), entry);
  }
  return changed;
}

std::optional<ManagerList::Choice> ManagerList::next(TimePoint now) const {
  // Of equal ones min_element takes the first.
  const auto it =
      std::min_element(entries_.begin(), entries_.end(), [&](const Entry& a, const Entry& b) {
        return std::max(a.not_before, now) < std::max(b.not_before, now);
      });
  if (it == entries_.end()) return std::nullopt;
  return Choice{it->address, it->not_before};
}

void ManagerList::failed(const std::string& address, TimePoint now, Rng& rng) {
  Entry* entry = find(address);
  if (entry == nullptr) return;
  Duration backoff = kBackoffMin;
  for (int i = 0; i < entry->failures && backoff < kBackoffMax; ++i) backoff *= 2;
  backoff = std::min(backoff, kBackoffMax);
  ++entry->failures;
  // Full jitter keeps thousands of agents from returning in step.
  const auto spread = static_cast<uint64_t>(backoff.count());
  entry->not_before = now + backoff / 2 + Duration(static_cast<int64_t>(rng.below(spread) / 2));
  const auto at = entries_.begin() + (entry - entries_.data());
  std::rotate(at, at + 1, entries_.end());
}

void ManagerList::succeeded(const std::string& address) {
  if (Entry* entry = find(address)) {
    entry->failures = 0;
    entry->not_before = {};
  }
}

int ManagerList::failures(const std::string& address) const {
  for (const Entry& entry : entries_) {
    if (entry.address == address) return entry.failures;
  }
  return 0;
}

std::vector<std::string> ManagerList::addresses() const {
  std::vector<std::string> out;
  for (const Entry& entry : entries_) out.push_back(entry.address);
  return out;
}

}  // namespace muster::agent
