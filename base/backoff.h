#pragma once

#include <algorithm>
#include <utility>

#include "base/time.h"

namespace muster {

// How long to wait before the next attempt at something that has failed: `first`, then twice as
// long each time, up to `max`. Without jitter, for loops of which there is one; deterministic.
class Backoff {
 public:
  Backoff(Duration first, Duration max) : first_(first), max_(max), next_(first) {}

  // The delay to keep now. Calling it counts as one more failure.
  Duration next() { return std::exchange(next_, std::min(next_ * 2, max_)); }
  void reset() { next_ = first_; }
  // Nothing has failed since the last reset(): worth a line in the log.
  bool fresh() const { return next_ == first_; }

 private:
  Duration first_;
  Duration max_;
  Duration next_;
};

}  // namespace muster
