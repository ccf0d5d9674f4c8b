#pragma once

#include <string>

#include "deploy/cli/run.h"

namespace muster::deploy::cli {

// Asks the user on a terminal; without one, only `force` says yes, and everything else is a usage
// error that says so.
Result<bool> confirm(Run& run, bool force, const std::string& warning);

}  // namespace muster::deploy::cli
