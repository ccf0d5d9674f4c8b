#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "deploy/cli/flags.h"
#include "deploy/cli/run.h"
#include "muster/v1/objects.pb.h"
#include "muster/v1/specs.pb.h"

namespace muster::deploy::cli {

using NetworkPools = google::protobuf::RepeatedPtrField<v1::IpamPool>;

// The subnets that options of `network create` and `network update` describe. Options stand in any
// order: as in Docker, each belongs to the subnet it lies in. Errors of usage. Pure.
Result<NetworkPools> make_pools(const std::vector<std::string>& subnets,
                                const std::vector<std::string>& gateways,
                                const std::vector<std::string>& ranges,
                                const std::vector<std::string>& aux);

// Those options. Has to outlive Flags::parse().
class PoolFlags {
 public:
  // `added`: to a network that there is.
  void declare(Flags& flags, bool added);
  bool none() const { return subnets_.empty() && aux_.empty(); }
  Result<NetworkPools> pools() const { return make_pools(subnets_, gateways_, ranges_, aux_); }

 private:
  std::vector<std::string> subnets_, gateways_, ranges_, aux_;
};

// What the managers find strange about a network.
void print_warnings(Run& run, const v1::Network& network);

}  // namespace muster::deploy::cli
