#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace muster::security {

// The bytes as one big-endian number in base 36, lower case, left-padded with zeros to `width`
// (no padding when it is wider already). The form of ids, digests and secrets in tokens.
std::string base36(std::string_view bytes, size_t width);

}  // namespace muster::security
