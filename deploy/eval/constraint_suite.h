#pragma once

#include <boost/json/value.hpp>

#include "base/status.h"

namespace muster::deploy::eval {

// `muster debug eval constraint`: which nodes match placement constraints. docs/debug-eval.md has
// the format. INVALID_ARGUMENT names the place in the input that is wrong; a constraint that does
// not parse is part of the answer instead.
Result<boost::json::value> eval_constraint(const boost::json::value& input);

}  // namespace muster::deploy::eval
