#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "muster/v1/specs.pb.h"

namespace muster::deploy::cli {

// The subnets that options of `network create` and `network update` describe. Options stand in any
// order: as in Docker, each belongs to the subnet it lies in. Errors of usage. Pure.
Result<google::protobuf::RepeatedPtrField<v1::IpamPool>> make_pools(
    const std::vector<std::string>& subnets, const std::vector<std::string>& gateways,
    const std::vector<std::string>& ranges, const std::vector<std::string>& aux);

}  // namespace muster::deploy::cli
