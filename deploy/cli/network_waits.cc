#include "deploy/cli/network_waits.h"

#include <fmt/format.h>

#include <utility>

#include "overlay/ipam/ipam.h"

namespace muster::deploy::cli {

Result<v1::Network> wait_for_network(Run& run, v1::Network network) {
  if (!overlay::Ipam::allocates(network.spec())) return network;
  v1::GetNetworkRequest ask;
  ask.set_network(network.id());
  const auto decided = [&] {
    return !network.state().pools().empty() || !network.allocation_error().empty();
  };
  const auto done = wait_until(kCreateWait, [&]() -> Result<bool> {
    if (decided()) return true;
    MUSTER_ASSIGN(auto now, run.client().call(ask));
    network = std::move(*now.mutable_network());
    return decided();
  });
  if (!network.state().pools().empty()) return network;
  const std::string name = network.spec().annotations().name();
  if (!network.allocation_error().empty()) {
    return fail(failed_precondition(
        "network {} is made, but cannot be used yet: {}; it waits until something is given back, "
        "or `network rm {}` takes it back",
        name, network.allocation_error(), name));
  }
  run.warn(fmt::format(
      "WARNING: network {} is made; the leader has not given it its subnet yet{}, and goes on by "
      "itself",
      name, done ? "" : fmt::format(", as far as is known ({})", done.error().message())));
  return network;
}

Status wait_for_subnets(Run& run, v1::Network network) {
  v1::GetNetworkRequest ask;
  ask.set_network(network.id());
  const auto look = [&]() -> Result<bool> {
    if (overlay::Ipam::missing_pools(network).empty()) return true;
    if (network.allocation_error().empty()) return false;
    return fail(failed_precondition("{}", network.allocation_error()));
  };
  MUSTER_ASSIGN(const bool done, wait_until(kChangeWait, [&]() -> Result<bool> {
                  MUSTER_ASSIGN(const bool known, look());
                  if (known) return true;
                  MUSTER_ASSIGN(auto now, run.client().call(ask));
                  network = std::move(*now.mutable_network());
                  return look();
                }));
  if (done) return ok_status();
  return Status(StatusCode::kDeadlineExceeded,
                "the subnet is not in force yet; the leader goes on by itself");
}

}  // namespace muster::deploy::cli
