#pragma once

#include <boost/json/value.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

// muster's pure parts on data: one JSON case in, one JSON result out. docs/debug-eval.md describes
// each suite's format.
namespace muster::deploy::eval {

// All names, sorted.
std::vector<std::string> suites();

// INVALID_ARGUMENT that lists the suites when there is no such one.
Status check_suite(std::string_view suite);

// Runs a case. INVALID_ARGUMENT: no such suite, or the case is not what the suite takes.
Result<boost::json::value> evaluate(std::string_view suite, const boost::json::value& request);

}  // namespace muster::deploy::eval
