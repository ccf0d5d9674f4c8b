#pragma once

#include "muster/v1/specs.pb.h"

namespace muster::overlay {

// Networks that reach from node to node; others are of each node by itself.
inline bool is_overlay_driver(const v1::NetworkSpec& spec) {
  return spec.driver().empty() || spec.driver() == "overlay";
}

}  // namespace muster::overlay
