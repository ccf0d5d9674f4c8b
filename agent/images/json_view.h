#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace muster::agent {

// Lenient reads of JSON that strangers wrote: an absent member or one of another type is the empty
// value, never an exception.
Result<boost::json::value> parse_json(std::string_view text, std::string_view what);

const boost::json::value* json_member(const boost::json::value& v, std::string_view key);
std::string json_string(const boost::json::value& v, std::string_view key);
int64_t json_int(const boost::json::value& v, std::string_view key);
std::vector<std::string> json_strings(const boost::json::value& v, std::string_view key);
// The array under `key`, or an empty one.
const boost::json::array& json_array(const boost::json::value& v, std::string_view key);
// The object under `key`, or an empty one.
const boost::json::object& json_object(const boost::json::value& v, std::string_view key);

boost::json::array json_of(const std::vector<std::string>& strings);
std::string std_string(const boost::json::string& s);

}  // namespace muster::agent
