#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/time.h"
#include "deploy/eval/placement_json.h"

// Values that several suites' cases have.
namespace muster::deploy::eval {

// "5s" or nanoseconds; absent: `fallback`.
inline Result<Duration> duration_at(ObjectReader& in, std::string_view key, Duration fallback) {
  const boost::json::value* value = in.child(key);
  if (value == nullptr) return fallback;
  if (value->is_int64()) return Duration(value->get_int64());
  if (value->is_string()) {
    if (const auto parsed = parse_duration(std::string_view(value->get_string()))) return *parsed;
  }
  return fail(invalid_argument("{} must be nanoseconds or a text such as \"5s\"", in.path(key)));
}

// A text that stands for a value.
template <class Value>
Result<Value> one_of(ObjectReader& in, std::string_view key, std::string fallback,
                     const std::map<std::string, Value>& values) {
  const auto found = values.find(in.text(key, std::move(fallback)));
  if (found != values.end()) return found->second;
  std::string names;
  for (const auto& [name, value] : values) names += (names.empty() ? "" : ", ") + name;
  return fail(invalid_argument("{} must be one of {}", in.path(key), names));
}

}  // namespace muster::deploy::eval
