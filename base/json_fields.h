#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <string_view>

// Fields of JSON objects that files of ours hold: what is missing, or of another type, is empty.
namespace muster {

inline std::string text_at(const boost::json::object& object, std::string_view key) {
  const auto* value = object.if_contains({key.data(), key.size()});
  if (value == nullptr || !value->is_string()) return {};
  return std::string(value->get_string().data(), value->get_string().size());
}

inline bool flag_at(const boost::json::object& object, std::string_view key) {
  const auto* value = object.if_contains({key.data(), key.size()});
  return value != nullptr && value->is_bool() && value->get_bool();
}

}  // namespace muster
