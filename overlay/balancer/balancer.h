#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "muster/v1/specs.pb.h"
#include "overlay/balancer/spread_policy.h"

namespace muster::overlay {

// What traffic is addressed to.
struct FrontendKey {
  v1::PortConfig::Protocol protocol = v1::PortConfig::TCP;
  uint32_t port = 0;
  // An address of this host, or the name of an interface that it comes in by; empty = whatever.
  std::string bind{};

  friend auto operator<=>(const FrontendKey&, const FrontendKey&) = default;
};

// One frontend and where its flows go.
struct Frontend {
  FrontendKey key;
  uint32_t target_port = 0;
  // Addresses of one network or several, IPv4 and IPv6 mixed; each family is spread on its own.
  // Order does not matter, duplicates are dropped. Empty: no frontend.
  std::vector<std::string> backends;
  bool masquerade = false;  // backends see this host in place of the client
  SpreadPolicy policy{};
  std::map<std::string, uint32_t> weights{};  // by backend; not named = 1
};

// A flow's way that has ended: what stands in the connection table for it is stale.
struct RemovedBackend {
  FrontendKey key;
  uint32_t target_port = 0;
  std::string address;
};

// Spreads new flows to frontends over backends in the kernel of one network namespace; flows that
// run stay where they are. One implementation writes nftables maps (nft_balancer.h), kernels with
// IPVS can have another. Not thread-safe; calls block.
class Balancer {
 public:
  virtual ~Balancer() = default;

  // Learns what the kernel has from a former process. Called once, before the first apply().
  virtual Status load() = 0;
  // Makes exactly these frontends true, in one transaction that touches only what differs. On
  // failure nothing has changed. Returns the backends that left, for the caller to clear away their
  // stale flows: after this returns, never before.
  virtual Result<std::vector<RemovedBackend>> apply(const std::vector<Frontend>& frontends) = 0;
  // As many backends of a family a frontend leads to at a time.
  virtual size_t most() const { return SIZE_MAX; }
  // The next apply() leads to others of those frontends that have more.
  virtual void turn() {}
  // The frontends in force.
  virtual std::vector<FrontendKey> in_force() const = 0;
};

}  // namespace muster::overlay
