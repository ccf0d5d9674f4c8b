#include "deploy/cli/network_waits.h"

#include <fmt/format.h>

#include <utility>

#include "overlay/ipam/ipam.h"

namespace muster::deploy::cli {

Result<v1::Network> wait_for_network(Run& run, v1::Network network) {
  if (!overlay::Ipam::allocates(network.spec())) return network;
  const std::string name = network.spec().annotations().name();
  v1::GetNetworkRequest ask;
  ask.set_network(network.id());
  const auto done = wait_until(kCreateWait, [&]() -> Result<bool> {
    if (!network.state().pools().empty() || !network.allocation_error().empty()) return true;
    MUSTER_ASSIGN(auto now, run.client().call(ask));
    network = std::move(*now.mutable_network());
    return false;
  });
  if (!done) {
    return fail(done.error().with_context(
        fmt::format("network {} is made; whether it can be used is not known", name)));
  }
  if (!network.state().pools().empty()) return network;
  return fail(failed_precondition(
      "network {} is made, but cannot be used yet: {}; this is tried again whenever something is "
      "given back, until `network rm`",
      name,
      network.allocation_error().empty() ? "the leader has not come to it"
                                         : network.allocation_error()));
}

Status wait_for_subnets(Run& run, v1::Network network) {
  v1::GetNetworkRequest ask;
  ask.set_network(network.id());
  MUSTER_ASSIGN(const bool done, wait_until(kChangeWait, [&]() -> Result<bool> {
                  if (overlay::Ipam::missing_pools(network).empty()) return true;
                  if (!network.allocation_error().empty()) {
                    return fail(failed_precondition("{}", network.allocation_error()));
                  }
                  MUSTER_ASSIGN(auto now, run.client().call(ask));
                  network = std::move(*now.mutable_network());
                  return false;
                }));
  if (done) return ok_status();
  return Status(StatusCode::kDeadlineExceeded,
                "the subnet is not in force yet; the leader goes on by itself");
}

}  // namespace muster::deploy::cli
