#include "deploy/cli/network_pools.h"

#include <fmt/format.h>

#include <utility>

#include "deploy/cli/quantities.h"
#include "deploy/cli/run.h"
#include "deploy/cli/spec_flags.h"
#include "overlay/ipam/ip.h"

namespace muster::deploy::cli {
namespace {

// The pool whose subnet holds what an option says; `what` names it.
Result<v1::IpamPool*> pool_of(NetworkPools& pools, const std::string& what,
                              const std::string& text) {
  const auto wanted = overlay::Cidr::parse_lenient(text);
  if (!wanted) return fail(usage_error(fmt::format("{} {}", what, wanted.error().message())));
  for (v1::IpamPool& pool : pools) {
    const auto subnet = overlay::Prefix::parse(pool.subnet());
    if (!subnet) return fail(usage_error(subnet.error().message()));
    if (subnet->contains(wanted->ip)) return &pool;
  }
  std::string given;
  for (const v1::IpamPool& pool : pools) given += (given.empty() ? "" : ", ") + pool.subnet();
  return fail(usage_error(
      fmt::format("no matching subnet for {} {}{}", what, text,
                  given.empty() ? ": name it by --subnet" : " among those given: " + given)));
}

}  // namespace

Result<NetworkPools> make_pools(const std::vector<std::string>& subnets,
                                const std::vector<std::string>& gateways,
                                const std::vector<std::string>& ranges,
                                const std::vector<std::string>& aux) {
  if (gateways.size() > subnets.size() || ranges.size() > subnets.size()) {
    return fail(usage_error("every gateway and ip-range must have a corresponding subnet"));
  }
  NetworkPools pools;
  for (const std::string& subnet : subnets) pools.Add()->set_subnet(subnet);
  for (const std::string& gateway : gateways) {
    MUSTER_ASSIGN(v1::IpamPool * pool, pool_of(pools, "gateway", gateway));
    if (!pool->gateway().empty()) {
      return fail(usage_error(
          fmt::format("cannot configure multiple gateways ({}, {}) for the same subnet ({})",
                      gateway, pool->gateway(), pool->subnet())));
    }
    pool->set_gateway(gateway);
  }
  for (const std::string& range : ranges) {
    MUSTER_ASSIGN(v1::IpamPool * pool, pool_of(pools, "range", range));
    if (!pool->ip_range().empty()) {
      return fail(usage_error(
          fmt::format("cannot configure multiple ranges ({}, {}) on the same subnet ({})", range,
                      pool->ip_range(), pool->subnet())));
    }
    pool->set_ip_range(range);
  }
  for (const std::string& text : aux) {
    const v1::KeyValue pair = parse_key_value(text);
    MUSTER_ASSIGN(v1::IpamPool * pool, pool_of(pools, "aux-address", pair.value()));
    set_pair(pool->mutable_aux_addresses(), pair);
  }
  return pools;
}

void PoolFlags::declare(Flags& flags, bool added) {
  const std::string of = added ? "of an added subnet, " : "";
  flags.list("subnet", &subnets_, "CIDR", added ? "add a subnet" : "subnet");
  flags.list("gateway", &gateways_, "IP",
             added ? "gateway of an added subnet" : "gateway of a subnet");
  flags.list("ip-range", &ranges_, "CIDR",
             added ? of + "give out this part only" : "give out addresses from this part only");
  flags.list("aux-address", &aux_, "NAME=IP", of + "never give out this address");
}

void print_warnings(Run& run, const v1::Network& network) {
  for (const auto& warning : network.warnings()) run.warn("WARNING: " + warning);
}

}  // namespace muster::deploy::cli
