#pragma once

#include <boost/json/value.hpp>

#include "base/status.h"

namespace muster::deploy::eval {

// The judgement of an update under way on data; docs/debug-eval.md has the fields.
Result<boost::json::value> eval_update(const boost::json::value& input);

}  // namespace muster::deploy::eval
