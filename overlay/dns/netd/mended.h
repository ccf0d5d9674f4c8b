#pragma once

#include <string_view>

namespace muster::overlay::dns {

// What netd tells musterd unasked: a `state` that holds nothing but records of this key with a
// container's id behind it, one each time that rules which lead that container to its resolver were
// made anew. Whoever does not know it takes no notice of a state that it has not asked for.
inline constexpr std::string_view kMendedPrefix = "mended/";

}  // namespace muster::overlay::dns
