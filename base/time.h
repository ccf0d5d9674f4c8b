#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace muster {

using Duration = std::chrono::nanoseconds;
using std::chrono_literals::operator""h;
using std::chrono_literals::operator""min;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""us;
using std::chrono_literals::operator""ns;

// A point on the monotonic clock of one process (or of one simulation). Never stored, never sent.
struct TimePoint {
  Duration since_start{0};

  friend auto operator<=>(const TimePoint&, const TimePoint&) = default;
  friend TimePoint operator+(TimePoint t, Duration d) { return {t.since_start + d}; }
  friend TimePoint operator-(TimePoint t, Duration d) { return {t.since_start - d}; }
  friend Duration operator-(TimePoint a, TimePoint b) { return a.since_start - b.since_start; }
};

// Wall-clock time: nanoseconds since the Unix epoch. What is stored, sent and shown.
struct WallTime {
  int64_t unix_ns = 0;

  friend auto operator<=>(const WallTime&, const WallTime&) = default;
  friend WallTime operator+(WallTime t, Duration d) { return {t.unix_ns + d.count()}; }
  friend WallTime operator-(WallTime t, Duration d) { return {t.unix_ns - d.count()}; }
  friend Duration operator-(WallTime a, WallTime b) { return Duration(a.unix_ns - b.unix_ns); }
};

// RFC 3339 in UTC with nanoseconds: "2026-01-31T08:05:00.000000000Z".
std::string format_rfc3339(WallTime t);
// Accepts RFC 3339 with 0-9 fractional digits and Z or a numeric offset.
Result<WallTime> parse_rfc3339(std::string_view text);

// Go's duration syntax, which Docker and Compose use: "1h30m", "1.5s", "500ms", "0", "-2m".
// Units ns us ms s m h. Fails on an unknown unit, a missing unit, an empty text or overflow.
Result<Duration> parse_duration(std::string_view text);
// The same syntax, shortest exact form as Go prints it: "1m30s", "1.5s", "500ms", "0s".
std::string format_duration(Duration d);
// "About a minute", "3 hours", "Less than a second": the coarse human form of docker's tables.
std::string human_duration(Duration d);

}  // namespace muster
