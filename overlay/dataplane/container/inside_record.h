#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "overlay/dataplane/container/inside_state.h"

namespace muster::overlay {

// What a container was given inside, for a musterd that finds it running.
struct InsideRecord {
  InsideState wanted;
  // It was entering or leaving networks: of interfaces that are gone nobody knows who took them.
  bool changing = false;
};

// A line "muster-inside 1" (format and version), "changing" where it is so, and a line for each
// thing: its kind and its values, "-" for none. Pure.
std::string format_inside_record(const InsideRecord& record);
// INVALID_ARGUMENT: it is of another version, or damaged.
Result<InsideRecord> parse_inside_record(std::string_view text);

}  // namespace muster::overlay
