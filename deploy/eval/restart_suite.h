#pragma once

#include <boost/json/value.hpp>

#include "base/status.h"
#include "manager/orchestrator/restart_policy.h"

namespace muster::deploy::eval {

// The restart policy on data; docs/debug-eval.md has the fields.
Result<boost::json::value> eval_restart(const boost::json::value& input);

// The field "policy" of a case; null: Swarm's defaults.
Result<manager::orchestrator::RestartRules> restart_rules_from_json(
    const boost::json::value* policy);

}  // namespace muster::deploy::eval
