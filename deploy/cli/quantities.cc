#include "deploy/cli/quantities.h"

#include <charconv>
#include <limits>

#include "base/time.h"
#include "deploy/cli/listing.h"

namespace muster::deploy::cli {
namespace {

// "12.345" times 10^digits, exactly; false when it is no such number.
bool parse_decimal(std::string_view text, int digits, int64_t* out) {
  int64_t value = 0;
  int after_point = -1;
  bool any = false;
  for (const char c : text) {
    if (c == '.' && after_point < 0) {
      after_point = 0;
      continue;
    }
    if (c < '0' || c > '9' || after_point == digits) return false;
    if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, c - '0', &value))
      return false;
    if (after_point >= 0) ++after_point;
    any = true;
  }
  for (int i = std::max(after_point, 0); i < digits; ++i)
    if (__builtin_mul_overflow(value, 10, &value)) return false;
  *out = value;
  return any;
}

template <class T>
bool parse_whole(std::string_view text, T* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

}  // namespace

Result<int64_t> parse_bytes(std::string_view text) {
  size_t end = 0;
  while (end < text.size() && (text[end] == '.' || (text[end] >= '0' && text[end] <= '9'))) ++end;
  std::string unit = lower(text.substr(end));
  while (!unit.empty() && unit.front() == ' ') unit.erase(0, 1);
  if (unit.size() > 1 && unit.ends_with("b")) unit.pop_back();
  if (unit.size() > 1 && unit.ends_with("i")) unit.pop_back();
  static constexpr std::string_view kUnits = "bkmgtp";
  const size_t power = unit.empty() ? 0 : kUnits.find(unit[0]);
  int64_t thousandths = 0;
  int64_t bytes = 0;
  if (unit.size() > 1 || power == std::string_view::npos ||
      !parse_decimal(text.substr(0, end), 3, &thousandths))
    return fail(invalid_argument("invalid size: '{}'", text));
  if (__builtin_mul_overflow(thousandths, int64_t{1} << (10 * power), &bytes))
    return fail(invalid_argument("size '{}' is too large", text));
  return bytes / 1000;
}

Result<int64_t> parse_nano_cpus(std::string_view text) {
  int64_t nano = 0;
  if (!parse_decimal(text, 9, &nano))
    return fail(invalid_argument(
        "\"{}\" is not a number of CPUs (decimal, at most 9 digits after the point)", text));
  return nano;
}

Result<uint64_t> parse_unsigned(std::string_view text) {
  uint64_t value = 0;
  if (!parse_whole(text, &value))
    return fail(invalid_argument("\"{}\" is not a whole number of 0 or more", text));
  return value;
}

Result<int64_t> parse_signed(std::string_view text) {
  int64_t value = 0;
  if (!parse_whole(text, &value)) return fail(invalid_argument("\"{}\" is not a number", text));
  return value;
}

Result<int64_t> parse_duration_ns(std::string_view text) {
  MUSTER_ASSIGN(const Duration duration, parse_duration(text));
  if (duration.count() < 0) return fail(invalid_argument("\"{}\" is negative", text));
  return duration.count();
}

Result<uint32_t> parse_ratio_ppm(std::string_view text) {
  int64_t ppm = 0;
  if (!parse_decimal(text, 6, &ppm) || ppm > 1'000'000)
    return fail(invalid_argument("\"{}\" is not a ratio between 0 and 1", text));
  return static_cast<uint32_t>(ppm);
}

Result<std::vector<std::string>> parse_csv(std::string_view text) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c != '"') {
        fields.back() += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        fields.back() += text[++i];
      } else {
        quoted = false;
      }
    } else if (c == ',') {
      fields.emplace_back();
    } else if (c == '"' && fields.back().empty()) {
      quoted = true;
    } else if (c == '"') {
      return fail(invalid_argument("bare \" in \"{}\"", text));
    } else {
      fields.back() += c;
    }
  }
  if (quoted) return fail(invalid_argument("missing closing \" in \"{}\"", text));
  return fields;
}

Result<std::vector<std::string>> parse_shell_words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  char quote = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote != 0) {
      if (c == quote)
        quote = 0;
      else if (c == '\\' && quote == '"' && i + 1 < text.size())
        word += text[++i];
      else
        word += c;
    } else if (c == '\'' || c == '"') {
      quote = c;
      in_word = true;
    } else if (c == '\\' && i + 1 < text.size()) {
      word += text[++i];
      in_word = true;
    } else if (c == ' ' || c == '\t' || c == '\n') {
      if (in_word) words.push_back(std::move(word));
      word.clear();
      in_word = false;
    } else {
      word += c;
      in_word = true;
    }
  }
  if (quote != 0) return fail(invalid_argument("missing closing {} in: {}", quote, text));
  if (in_word) words.push_back(std::move(word));
  return words;
}

Result<int64_t> parse_moment(std::string_view text, int64_t now_ns) {
  int64_t thousand_millions = 0;
  if (parse_decimal(text, 9, &thousand_millions)) return thousand_millions;
  if (const auto duration = parse_duration(text)) return now_ns - duration->count();
  if (const auto time = parse_rfc3339(text)) return time->unix_ns;
  // A date, or a time without its zone: UTC.
  std::string full(text);
  if (full.size() == 10) full += "T00:00:00";
  if (const auto time = parse_rfc3339(full + "Z")) return time->unix_ns;
  return fail(invalid_argument(
      "\"{}\" is neither a time (2026-01-31T08:05:00Z), nor Unix seconds, nor a duration (10m)",
      text));
}

}  // namespace muster::deploy::cli
