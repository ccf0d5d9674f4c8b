#pragma once

#include <string_view>

#include "deploy/cli/listing.h"
#include "deploy/cli/run.h"

namespace muster::deploy::cli {

// Prints the default table. On a terminal the last column, whose header is given, is broken at
// blanks, so that sentences in it stay a column.
Status print_wrapped(Run& run, const Listing& listing, std::string_view last_header);

}  // namespace muster::deploy::cli
