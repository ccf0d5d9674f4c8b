#pragma once

#include <boost/json/value.hpp>
#include <string>

#include "agent/secrets/payloads.h"
#include "base/status.h"
#include "muster/v1/specs.pb.h"

namespace muster::agent {

// The content of the file a task sees: the payload as it is, or with its template expanded.
//
// Besides the task's variables (`data`, see TaskTemplateContext) a payload's template may call
//   secret "TARGET", config "TARGET"   the content, unexpanded, of what the container refers to
//                                      under that target
//   env "NAME"                         of the service's environment; empty when it is not set
// as in Swarm. INVALID_ARGUMENT names the payload and the place in it. It quotes the template only
// of a config, and only as long as no secret went into it.
Result<std::string> expand_payload(const Payload& payload, const v1::ContainerSpec& container,
                                   const PayloadSet& payloads, const boost::json::value& data);

}  // namespace muster::agent
