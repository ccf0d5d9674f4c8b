#include "overlay/dns/answer_cache.h"

#include <utility>

namespace muster::overlay::dns {
namespace {

// What an entry costs beside its bytes, roughly.
constexpr size_t kEntryOverhead = 200;

}  // namespace

void AnswerCache::erase(Entries::iterator entry) {
  bytes_ -= entry->packet.size() + kEntryOverhead;
  by_key_.erase(entry->key);
  entries_.erase(entry);
}

void AnswerCache::put(TimePoint now, const std::string& key, std::string packet, Duration ttl) {
  if (const auto found = by_key_.find(key); found != by_key_.end()) erase(found->second);
  if (ttl <= Duration(0) || packet.size() + kEntryOverhead > bytes_max_) return;
  bytes_ += packet.size() + kEntryOverhead;
  entries_.push_front({key, std::move(packet), now, now + ttl});
  by_key_[key] = entries_.begin();
  while (bytes_ > bytes_max_) erase(std::prev(entries_.end()));
}

std::optional<AnswerCache::Found> AnswerCache::get(TimePoint now, const std::string& key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return std::nullopt;
  if (now >= found->second->until) {
    erase(found->second);
    return std::nullopt;
  }
  entries_.splice(entries_.begin(), entries_, found->second);
  return Found{found->second->packet, now - found->second->at};
}

}  // namespace muster::overlay::dns
