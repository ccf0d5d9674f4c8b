#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace muster::overlay {

inline constexpr std::string_view kNoVxlan =
    "this kernel has no VXLAN (module vxlan), by which other nodes are reached";

// Why this kernel makes no VXLAN device, in words that begin with kNoVxlan; empty: it does.
// nullopt: it could not be tried. Tried in a namespace that goes with the call; may load the
// module. Takes some milliseconds.
std::optional<std::string> vxlan_trouble();

}  // namespace muster::overlay
