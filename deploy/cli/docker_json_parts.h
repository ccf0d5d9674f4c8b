#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <string>
#include <string_view>

#include "base/time.h"
#include "muster/v1/objects.pb.h"

// What both halves of docker_json.h are made of.
namespace muster::deploy::cli::internal {

template <class Pairs>
boost::json::object pairs_json(const Pairs& pairs) {
  boost::json::object out;
  for (const auto& pair : pairs) out[pair.key()] = pair.value();
  return out;
}

template <class Strings>
boost::json::array strings_json(const Strings& strings) {
  boost::json::array out;
  for (const auto& text : strings) out.emplace_back(text);
  return out;
}

// Sets the member unless the value is empty.
inline void put(boost::json::object& object, const char* name, const std::string& value) {
  if (!value.empty()) object[name] = value;
}
inline void put(boost::json::object& object, const char* name, boost::json::array value) {
  if (!value.empty()) object[name] = std::move(value);
}
inline void put(boost::json::object& object, const char* name, boost::json::object value) {
  if (!value.empty()) object[name] = std::move(value);
}
inline void put_number(boost::json::object& object, const char* name, int64_t value) {
  if (value != 0) object[name] = value;
}
inline void put_true(boost::json::object& object, const char* name, bool value) {
  if (value) object[name] = true;
}

inline std::string time_json(int64_t unix_ns) {
  return format_rfc3339(WallTime{unix_ns});
}

std::string base64(std::string_view bytes);
boost::json::array ports_json(const google::protobuf::RepeatedPtrField<v1::PortConfig>& ports);
boost::json::array generic_json(
    const google::protobuf::RepeatedPtrField<v1::GenericResource>& resources);
boost::json::object endpoint_spec_json(const v1::EndpointSpec& endpoint);

}  // namespace muster::deploy::cli::internal
