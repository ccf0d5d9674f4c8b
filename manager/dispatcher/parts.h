#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "muster/v1/dispatcher.pb.h"

namespace muster::manager::dispatcher {

// Messages stay below this, so that a heartbeat passes between the parts of a large feed.
inline constexpr size_t kMessageBytesMax = 256 * 1024;

using Bytes = std::shared_ptr<const std::string>;

// One feed step as serialised v1::ManagerMessages in the order of sending; the last has
// `FeedUpdate.last` set. A payload or a network larger than the limit is cut into pieces; any other
// single item that is larger travels alone.
std::vector<Bytes> cut_into_parts(v1::FeedUpdate step, size_t bytes_max = kMessageBytesMax);

Bytes serialise(const v1::ManagerMessage& message);

}  // namespace muster::manager::dispatcher
