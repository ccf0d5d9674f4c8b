#pragma once

#include <algorithm>
#include <cstdint>

#include "base/time.h"

namespace muster::raft {

// Spreads bytes over time: an even rate, without credit for idle times. Pure.
class Throttle {
 public:
  // 0: no limit.
  explicit Throttle(uint64_t bytes_per_s) : bytes_per_s_(bytes_per_s) {}

  // Books `bytes`; they may leave after the returned time.
  Duration take(TimePoint now, uint64_t bytes) {
    if (bytes_per_s_ == 0) return {};
    const TimePoint due = std::max(now, free_at_);
    free_at_ = due + std::chrono::nanoseconds(static_cast<int64_t>(static_cast<__int128>(bytes) *
                                                                   1'000'000'000 / bytes_per_s_));
    return due - now;
  }

 private:
  uint64_t bytes_per_s_;
  TimePoint free_at_{};
};

}  // namespace muster::raft
