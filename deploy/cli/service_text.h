#pragma once

#include <string>
#include <vector>

#include "deploy/cli/listing.h"

namespace muster::deploy::cli {

// The table of `service ls` and `stack services`, filtered and sorted by name.
Listing service_listing(std::vector<v1::GetServiceResponse> services, const ListOptions& options);
// "2/3", "2/3 (max 1 per node)", "0/1 (3/5 completed)".
std::string replicas_text(const v1::GetServiceResponse& service);
// inspect --pretty.
std::string service_pretty(const v1::Service& service);
// Two words and a number, for services created without a name.
std::string random_name();
Result<uint64_t> parse_replicas(const std::string& text);

}  // namespace muster::deploy::cli
