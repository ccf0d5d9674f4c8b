#pragma once

#include <list>
#include <map>
#include <optional>
#include <string>

#include "base/time.h"

namespace muster::overlay::dns {

// Other resolvers' answers for as long as they said. Bounded in bytes: what was used longest ago
// goes first. Pure.
class AnswerCache {
 public:
  explicit AnswerCache(size_t bytes_max) : bytes_max_(bytes_max) {}

  struct Found {
    std::string packet;
    Duration age{0};
  };
  void put(TimePoint now, const std::string& key, std::string packet, Duration ttl);
  std::optional<Found> get(TimePoint now, const std::string& key);
  size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    std::string key;
    std::string packet;
    TimePoint at;
    TimePoint until;
  };
  using Entries = std::list<Entry>;  // the one used last in front
  void erase(Entries::iterator entry);

  size_t bytes_max_;
  size_t bytes_ = 0;
  Entries entries_;
  std::map<std::string, Entries::iterator> by_key_;
};

}  // namespace muster::overlay::dns
