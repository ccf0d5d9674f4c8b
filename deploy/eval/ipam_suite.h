#pragma once

#include <boost/json.hpp>

#include "base/status.h"

namespace muster::deploy::eval {

// `muster debug eval ipam`: runs operations on an address space, in their order. The JSON of input
// and output is in docs/debug-eval.md. INVALID_ARGUMENT when the input is not of that form; an
// operation that fails is part of the output.
Result<boost::json::value> eval_ipam(const boost::json::value& input);

}  // namespace muster::deploy::eval
