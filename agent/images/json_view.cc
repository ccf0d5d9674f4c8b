#include "agent/images/json_view.h"

#include <boost/json/parse.hpp>

namespace muster::agent {

namespace json = boost::json;

Result<json::value> parse_json(std::string_view text, std::string_view what) {
  boost::system::error_code error;
  json::value value = json::parse(json::string_view(text.data(), text.size()), error);
  if (error) return fail(data_loss("{} is not valid JSON: {}", what, error.message()));
  return value;
}

const json::value* json_member(const json::value& v, std::string_view key) {
  const json::object* object = v.if_object();
  return object == nullptr ? nullptr
                           : object->if_contains(json::string_view(key.data(), key.size()));
}

std::string json_string(const json::value& v, std::string_view key) {
  const json::value* member = json_member(v, key);
  const json::string* s = member == nullptr ? nullptr : member->if_string();
  return s == nullptr ? std::string() : std_string(*s);
}

int64_t json_int(const json::value& v, std::string_view key) {
  const json::value* member = json_member(v, key);
  if (member == nullptr) return 0;
  if (const int64_t* i = member->if_int64()) return *i;
  if (const uint64_t* u = member->if_uint64()) return static_cast<int64_t>(*u >> 1);
  return 0;
}

const json::array& json_array(const json::value& v, std::string_view key) {
  static const json::array kEmpty;
  const json::value* member = json_member(v, key);
  const json::array* array = member == nullptr ? nullptr : member->if_array();
  return array == nullptr ? kEmpty : *array;
}

const json::object& json_object(const json::value& v, std::string_view key) {
  static const json::object kEmpty;
  const json::value* member = json_member(v, key);
  const json::object* object = member == nullptr ? nullptr : member->if_object();
  return object == nullptr ? kEmpty : *object;
}

std::vector<std::string> json_strings(const json::value& v, std::string_view key) {
  std::vector<std::string> result;
  for (const json::value& item : json_array(v, key)) {
    if (const json::string* s = item.if_string()) result.push_back(std_string(*s));
  }
  return result;
}

json::array json_of(const std::vector<std::string>& strings) {
  json::array result;
  for (const std::string& s : strings) result.emplace_back(json::string_view(s.data(), s.size()));
  return result;
}

std::string std_string(const json::string& s) {
  return std::string(s.data(), s.size());
}

}  // namespace muster::agent
