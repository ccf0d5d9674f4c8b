#pragma once

#include <string>
#include <string_view>

namespace muster {

// "10.0.0.2" of "10.0.0.2/24"; what has no prefix length stays as it is.
inline std::string without_prefix_length(std::string_view cidr) {
  return std::string(cidr.substr(0, cidr.find('/')));
}

}  // namespace muster
