#include "base/time.h"

#include <charconv>
#include <cmath>
#include <ctime>
#include <limits>

namespace muster {
namespace {

bool parse_digits(std::string_view& text, size_t count, int& out) {
  if (text.size() < count) return false;
  int value = 0;
  for (size_t i = 0; i < count; ++i) {
    if (text[i] < '0' || text[i] > '9') return false;
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(count);
  out = value;
  return true;
}

bool take(std::string_view& text, char c) {
  if (text.empty() || text.front() != c) return false;
  text.remove_prefix(1);
  return true;
}

struct Unit {
  std::string_view name;
  int64_t ns;
};
// Longer names first, so that "ms" is not read as "m".
constexpr Unit kUnits[] = {{"ns", 1},
                           {"us", 1'000},
                           {"\xc2\xb5s", 1'000},
                           {"ms", 1'000'000},
                           {"s", 1'000'000'000},
                           {"m", 60'000'000'000},
                           {"h", 3'600'000'000'000}};

}  // namespace

std::string format_rfc3339(WallTime t) {
  int64_t seconds = t.unix_ns / 1'000'000'000;
  int64_t ns = t.unix_ns % 1'000'000'000;
  if (ns < 0) {
    ns += 1'000'000'000;
    --seconds;
  }
  std::time_t raw = seconds;
  std::tm tm{};
  gmtime_r(&raw, &tm);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z", tm.tm_year + 1900, tm.tm_mon + 1,
                     tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, ns);
}

Result<WallTime> parse_rfc3339(std::string_view text) {
  const auto bad = [&] { return fail(invalid_argument("bad RFC 3339 time \"{}\"", text)); };
  std::string_view rest = text;
  std::tm tm{};
  int year = 0, month = 0;
  if (!parse_digits(rest, 4, year) || !take(rest, '-') || !parse_digits(rest, 2, month) ||
      !take(rest, '-') || !parse_digits(rest, 2, tm.tm_mday) ||
      !(take(rest, 'T') || take(rest, 't') || take(rest, ' ')) ||
      !parse_digits(rest, 2, tm.tm_hour) || !take(rest, ':') || !parse_digits(rest, 2, tm.tm_min) ||
      !take(rest, ':') || !parse_digits(rest, 2, tm.tm_sec)) {
    return bad();
  }
  if (month < 1 || month > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 ||
      tm.tm_min > 59 || tm.tm_sec > 60) {
    return bad();
  }
  tm.tm_year = year - 1900;
  tm.tm_mon = month - 1;
  int64_t ns = 0;
  if (take(rest, '.')) {
    int64_t scale = 100'000'000;
    size_t digits = 0;
    while (!rest.empty() && rest.front() >= '0' && rest.front() <= '9') {
      ns += (rest.front() - '0') * scale;
      scale /= 10;
      rest.remove_prefix(1);
      ++digits;
    }
    if (digits == 0 || digits > 9) return bad();
  }
  int64_t offset_s = 0;
  if (!take(rest, 'Z') && !take(rest, 'z')) {
    if (rest.empty() || (rest.front() != '+' && rest.front() != '-')) return bad();
    const int sign = rest.front() == '-' ? -1 : 1;
    rest.remove_prefix(1);
    int hours = 0, minutes = 0;
    if (!parse_digits(rest, 2, hours) || !take(rest, ':') || !parse_digits(rest, 2, minutes)) {
      return bad();
    }
    offset_s = sign * (hours * 3600 + minutes * 60);
  }
  if (!rest.empty()) return bad();
  // The int64 range of nanoseconds ends in the years 1677 and 2262.
  if (year < 1678 || year > 2261) return bad();
  return WallTime{(static_cast<int64_t>(timegm(&tm)) - offset_s) * 1'000'000'000 + ns};
}

Result<Duration> parse_duration(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    return fail(invalid_argument("bad duration \"{}\": {}", text, why));
  };
  std::string_view rest = text;
  bool negative = false;
  if (!rest.empty() && (rest.front() == '-' || rest.front() == '+')) {
    negative = rest.front() == '-';
    rest.remove_prefix(1);
  }
  if (rest == "0") return Duration(0);
  if (rest.empty()) return bad("empty");
  long double total = 0;
  while (!rest.empty()) {
    size_t n = 0;
    long double value = 0, fraction_scale = 0;
    bool any = false;
    for (; n < rest.size(); ++n) {
      const char c = rest[n];
      if (c >= '0' && c <= '9') {
        any = true;
        if (fraction_scale > 0) {
          value += (c - '0') * fraction_scale;
          fraction_scale /= 10;
        } else {
          value = value * 10 + (c - '0');
        }
      } else if (c == '.' && fraction_scale == 0) {
        fraction_scale = 0.1L;
      } else {
        break;
      }
    }
    if (!any) return bad("a number is missing");
    rest.remove_prefix(n);
    const Unit* unit = nullptr;
    for (const Unit& candidate : kUnits) {
      if (rest.starts_with(candidate.name)) {
        unit = &candidate;
        break;
      }
    }
    if (unit == nullptr) {
      return bad(rest.empty() ? "a unit is missing (ns, us, ms, s, m, h)" : "unknown unit");
    }
    rest.remove_prefix(unit->name.size());
    total += value * static_cast<long double>(unit->ns);
    if (total > static_cast<long double>(std::numeric_limits<int64_t>::max())) {
      return bad("too large");
    }
  }
  const auto ns = static_cast<int64_t>(std::llround(total));
  return Duration(negative ? -ns : ns);
}

std::string format_duration(Duration d) {
  const int64_t ns = d.count();
  if (ns == 0) return "0s";
  const bool negative = ns < 0;
  uint64_t u = negative ? 0 - static_cast<uint64_t>(ns) : static_cast<uint64_t>(ns);
  const auto decimal = [](uint64_t value, uint64_t unit) {
    std::string text = fmt::format("{}", value / unit);
    std::string fraction;
    for (uint64_t rest = value % unit, scale = unit / 10; rest != 0; scale /= 10) {
      fraction.push_back(static_cast<char>('0' + rest / scale));
      rest %= scale;
    }
    return fraction.empty() ? text : text + "." + fraction;
  };
  std::string out = negative ? "-" : "";
  if (u < 1'000) return out + fmt::format("{}ns", u);
  if (u < 1'000'000) return out + decimal(u, 1'000) + "\xc2\xb5s";
  if (u < 1'000'000'000) return out + decimal(u, 1'000'000) + "ms";
  const uint64_t hours = u / 3'600'000'000'000;
  const uint64_t minutes = u / 60'000'000'000 % 60;
  if (hours > 0) out += fmt::format("{}h", hours);
  if (hours > 0 || minutes > 0) out += fmt::format("{}m", minutes);
  return out + decimal(u % 60'000'000'000, 1'000'000'000) + "s";
}

std::string human_duration(Duration d) {
  const int64_t seconds = d.count() / 1'000'000'000;
  if (seconds < 1) return "Less than a second";
  if (seconds == 1) return "1 second";
  if (seconds < 60) return fmt::format("{} seconds", seconds);
  const int64_t minutes = seconds / 60;
  if (minutes == 1) return "About a minute";
  if (minutes < 60) return fmt::format("{} minutes", minutes);
  const int64_t hours = (seconds + 1800) / 3600;
  if (hours == 1) return "About an hour";
  if (hours < 48) return fmt::format("{} hours", hours);
  if (hours < 24 * 7 * 2) return fmt::format("{} days", hours / 24);
  if (hours < 24 * 30 * 2) return fmt::format("{} weeks", hours / 24 / 7);
  if (hours < 24 * 365 * 2) return fmt::format("{} months", hours / 24 / 30);
  return fmt::format("{} years", hours / 24 / 365);
}

}  // namespace muster
