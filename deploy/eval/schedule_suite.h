#pragma once

#include <boost/json/value.hpp>

#include "base/status.h"

namespace muster::deploy::eval {

// `muster debug eval schedule`: nodes, services and tasks to placements and reasons, by the very
// code the leader runs. docs/debug-eval.md has the format. INVALID_ARGUMENT names the place in the
// input that is wrong.
Result<boost::json::value> eval_schedule(const boost::json::value& input);

}  // namespace muster::deploy::eval
