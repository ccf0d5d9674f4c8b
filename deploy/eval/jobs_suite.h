#pragma once

#include <boost/json/value.hpp>

#include "base/status.h"

namespace muster::deploy::eval {

// The plan of a job on data; docs/debug-eval.md has the fields.
Result<boost::json::value> eval_jobs(const boost::json::value& input);

}  // namespace muster::deploy::eval
