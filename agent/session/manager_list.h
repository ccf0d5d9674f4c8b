#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "base/time.h"

namespace muster::agent {

// The managers a node knows, and which of them to try next (pure). Each has a backoff of its own:
// one that is gone does not keep the node from those that live.
class ManagerList {
 public:
  static constexpr Duration kBackoffMin = 50ms;
  static constexpr Duration kBackoffMax = 8s;
  // For each of the managers that answer: together they are asked once in that time.
  static constexpr Duration kDeclinedMax = 300ms;

  ManagerList(const std::vector<std::string>& addresses, Rng& rng);

  // All there are, as a manager says. Those known before keep their backoff. `in_use`, if not
  // empty, stays although it is not named: the node reaches a manager by it. True when the list
  // changed.
  bool replace(const std::vector<std::string>& addresses, const std::string& in_use, Rng& rng);
  // Where to go first, best first; those not known are added. The best one is tried at once,
  // however often nobody answered there; unless it has just declined. True when the list changed.
  bool prefer(const std::vector<std::string>& addresses);

  struct Choice {
    std::string address;
    TimePoint not_before;
  };
  // The first in order that may be tried now, else the one that may be earliest. Nothing when no
  // manager is known.
  std::optional<Choice> next(TimePoint now) const;

  // Not to be tried for a while, twice as long as the last time, up to kBackoffMax; and after all
  // others from now on.
  void failed(const std::string& address, TimePoint now, Rng& rng);
  // The same for one that is there and cannot serve, as it says: soon it may, or know who does.
  void declined(const std::string& address, TimePoint now, Rng& rng);
  // It serves: its backoff is forgotten.
  void succeeded(const std::string& address);
  // How often it failed in a row.
  int failures(const std::string& address) const;
  // Whether the last that was heard of some other one is that it declined.
  bool others_answer(const std::string& address) const;

  std::vector<std::string> addresses() const;
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::string address;
    TimePoint not_before;
    int failures = 0;
    int declines = 0;  // in a row
  };
  Entry* find(const std::string& address);
  // Not before some time from half of `backoff` to the whole of it, and last.
  void put_off(Entry& entry, Duration backoff, TimePoint now, Rng& rng);

  std::vector<Entry> entries_;  // in the order of preference
};

}  // namespace muster::agent
