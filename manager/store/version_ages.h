#pragma once

#include <cstdint>
#include <deque>

#include "base/time.h"

namespace muster::manager::store {

// Which versions of a store have been there for so long, by a clock that nobody sets: how old an
// object is cannot be told by the time that is written on it once somebody has set a leader's
// clock. Looks at the version once in a while, so that it takes versions for up to that much
// younger than they are, and those of before its beginning for as young as itself; never for older.
// Pure.
class VersionAges {
 public:
  // Of `kept` it remembers no more than kept / every + 2 looks.
  VersionAges(Duration kept, Duration every) : kept_(kept), every_(every) {}

  // `version` is the newest at `now`. Neither goes backwards.
  void saw(TimePoint now, uint64_t version) {
    if (!looks_.empty() && now - looks_.back().at < every_) return;
    looks_.push_back({now, version});
    forget(now);
  }

  // This version and all before it were there `kept` before `now`. 0: none that is known of.
  uint64_t there_for_long(TimePoint now) {
    forget(now);
    return !looks_.empty() && old_enough(looks_.front(), now) ? looks_.front().version : 0;
  }

 private:
  struct Look {
    TimePoint at;
    uint64_t version = 0;
  };
  bool old_enough(const Look& look, TimePoint now) const { return now - look.at >= kept_; }
  // All that are old enough but the last of them.
  void forget(TimePoint now) {
    while (looks_.size() > 1 && old_enough(looks_[1], now)) looks_.pop_front();
  }

  const Duration kept_;
  const Duration every_;
  std::deque<Look> looks_;
};

}  // namespace muster::manager::store
