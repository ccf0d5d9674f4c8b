#pragma once

#include <string_view>

#include "muster/v1/specs.pb.h"

namespace muster::overlay {

// What a node says (NodeDescription.limitations) whose kernel has no way to other nodes, before the
// reason: managers place no task of an overlay network there.
inline constexpr std::string_view kNoOverlays = "no container can enter an overlay network here: ";

// Networks that reach from node to node; others are of each node by itself.
inline bool is_overlay_driver(const v1::NetworkSpec& spec) {
  return spec.driver().empty() || spec.driver() == "overlay";
}

}  // namespace muster::overlay
