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
  // All managers that answer and do not serve are together asked once in an eighth of the time for
  // which nobody has served, within these bounds: who leads again is found soon, and thousands of
  // nodes without a leader do not keep its voters busy with handshakes. The upper one leaves room
  // in the time that a new leader gives nodes to come.
  static constexpr Duration kDeclinedMin = 300ms;
  static constexpr Duration kDeclinedMax = 5s;
  static constexpr int kDeclinedShare = 8;

  ManagerList(const std::vector<std::string>& addresses, Rng& rng);

  // All there are, as a manager says. Those known before keep their backoff. `in_use`, if not
  // empty, stays although it is not named: the node reaches a manager by it. True when the list
  // changed.
  bool replace(const std::vector<std::string>& addresses, const std::string& in_use, Rng& rng);
  // Where to go first, best first; those not known are added. The best one is tried at once,
  // however often nobody answered there; if it declined before, after half the time in which all
  // that decline are asked once. True when the list changed.
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
    TimePoint if_named;  // of one that declined: not before, when somebody says that it leads
    int failures = 0;
    int declines = 0;  // in a row
  };
  Entry* find(const std::string& address);
  // Not before some time from half of `backoff` to the whole of it, and last.
  void put_off(Entry& entry, Duration backoff, TimePoint now, Rng& rng);
  // In which all that decline are asked once.
  Duration pace(TimePoint now) const;

  std::vector<Entry> entries_;  // in the order of preference
  // Nobody serves since then, and nobody was heard of who was not known.
  std::optional<TimePoint> unserved_since_;
};

}  // namespace muster::agent
