#pragma once

#include <boost/json.hpp>

#include "base/status.h"

namespace muster::deploy::eval {

// `muster debug eval compose`: loads Compose files given as texts and converts them. The JSON of
// input and output is in docs/debug-eval.md. INVALID_ARGUMENT when the input is not of that form;
// files that do not load are part of the output.
Result<boost::json::value> eval_compose(const boost::json::value& input);

}  // namespace muster::deploy::eval
