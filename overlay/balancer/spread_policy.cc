#include "overlay/balancer/spread_policy.h"

namespace muster::overlay {

std::string_view balancing_name(v1::EndpointSpec::Balancing balancing) {
  switch (balancing) {
    case v1::EndpointSpec::LEAST_CONNECTION: return "least-connection";
    case v1::EndpointSpec::SOURCE_HASH: return "source-hash";
    default: return "round-robin";
  }
}

Result<v1::EndpointSpec::Balancing> parse_balancing(std::string_view name) {
  for (const auto balancing : {v1::EndpointSpec::ROUND_ROBIN, v1::EndpointSpec::LEAST_CONNECTION,
                               v1::EndpointSpec::SOURCE_HASH}) {
    if (name == balancing_name(balancing)) return balancing;
  }
  return fail(invalid_argument(
      "unknown balancing \"{}\": round-robin, least-connection or source-hash", name));
}

}  // namespace muster::overlay
