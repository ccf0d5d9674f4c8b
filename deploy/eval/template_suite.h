#pragma once

#include <boost/json.hpp>

#include "base/status.h"

namespace muster::deploy::eval {

// `muster debug eval template`: renders a template. The JSON of input and output is in
// docs/debug-eval.md. INVALID_ARGUMENT when the input is not of that form; a template that fails
// is part of the output.
Result<boost::json::value> eval_template(const boost::json::value& input);

}  // namespace muster::deploy::eval
