#include "overlay/ipam/ipam.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "overlay/ipam/network_options.h"

namespace muster::overlay {
namespace {

bool has_family(const std::vector<AddressPool>& pools, bool v6) {
  return std::any_of(pools.begin(), pools.end(),
                     [&](const AddressPool& p) { return p.subnet().base.v6 == v6; });
}

}  // namespace

Ipam::Ipam(SubnetPoolOptions options) : Ipam(std::move(options), kVniLast) {}

Ipam::Ipam(SubnetPoolOptions options, uint32_t vni_last)
    : subnets_(std::move(options)), vnis_(uint64_t{vni_last} + 1) {
  vnis_.set_cursor(kVniFirst);
}

bool Ipam::allocates(const v1::NetworkSpec& spec) {
  return spec.driver().empty() || spec.driver() == "overlay" || spec.driver() == "bridge";
}

Ipam::Held* Ipam::find(std::string_view network_id) {
  const auto it = networks_.find(std::string(network_id));
  return it == networks_.end() ? nullptr : &it->second;
}

const Ipam::Held* Ipam::find(std::string_view network_id) const {
  const auto it = networks_.find(std::string(network_id));
  return it == networks_.end() ? nullptr : &it->second;
}

bool Ipam::has_network(std::string_view network_id) const {
  return find(network_id) != nullptr;
}

Result<std::vector<v1::IpamPool>> Ipam::wanted_pools(const v1::Network& network, int mask_bits,
                                                     std::vector<Prefix>& taken) {
  std::vector<v1::IpamPool> pools;
  bool v4 = false;
  bool v6 = false;
  const auto take_automatic = [&](v1::IpamPool pool, bool want_v6) -> Status {
    MUSTER_ASSIGN(const Prefix subnet, subnets_.take_next(want_v6, want_v6 ? 0 : mask_bits));
    taken.push_back(subnet);
    pool.set_subnet(subnet.str());
    pools.push_back(std::move(pool));
    return ok_status();
  };
  for (const auto& wanted : network.spec().pools()) {
    if (wanted.subnet().empty()) {
      if (!wanted.gateway().empty() || !wanted.ip_range().empty()) {
        return fail(invalid_argument("a gateway or ip-range needs a subnet"));
      }
      MUSTER_TRY(take_automatic(wanted, false));
      v4 = true;
      continue;
    }
    MUSTER_ASSIGN(const Prefix subnet, Prefix::parse(wanted.subnet()));
    MUSTER_TRY(subnets_.take(subnet));
    taken.push_back(subnet);
    pools.push_back(wanted);
    (subnet.base.v6 ? v6 : v4) = true;
  }
  if (!v4) MUSTER_TRY(take_automatic({}, false));
  if (!v6 && network.spec().ipv6()) MUSTER_TRY(take_automatic({}, true));
  return pools;
}

Result<uint32_t> Ipam::wanted_vni(const v1::NetworkSpec& spec) {
  if (spec.driver() == "bridge") return 0;
  for (const auto& option : spec.driver_options()) {
    if (option.key() != kVniOption) continue;
    uint32_t wanted = 0;
    const auto* end = option.value().data() + option.value().size();
    const auto parsed = std::from_chars(option.value().data(), end, wanted);
    // Docker's list has one for each subnet; here all subnets of a network share the first.
    const bool whole = parsed.ptr == end || *parsed.ptr == ',';
    if (parsed.ec != std::errc() || !whole || wanted == 0 || wanted > kVniLast) {
      return fail(invalid_argument("VXLAN id \"{}\" is not a number from 1 to {}", option.value(),
                                   kVniLast));
    }
    return wanted;
  }
  return 0;
}

Result<uint32_t> Ipam::take_vni(const v1::Network& network) {
  if (network.spec().driver() == "bridge") return 0;
  MUSTER_ASSIGN(const uint32_t wanted, wanted_vni(network.spec()));
  if (wanted != 0) {
    if (!vnis_.take(wanted)) return fail(already_exists("VXLAN id {} is in use", wanted));
    return wanted;
  }
  const auto vni = vnis_.take_next(kVniFirst, vnis_.size());
  if (!vni)
    return fail(resource_exhausted("no VXLAN id is free: all from {} to {} are in use", kVniFirst,
                                   vnis_.size() - 1));
  return static_cast<uint32_t>(*vni);
}

Result<v1::NetworkState> Ipam::take_network(const v1::Network& network, int mask_bits) {
  if (has_network(network.id())) {
    return fail(already_exists("network {} has its addresses already", network.id()));
  }
  if (!allocates(network.spec())) {
    return fail(
        invalid_argument("network driver \"{}\" is not supported", network.spec().driver()));
  }
  std::vector<Prefix> taken;
  const auto undo = [&](Status why) {
    for (const Prefix& subnet : taken) subnets_.put_back(subnet);
    return fail(std::move(why));
  };
  const auto pools = wanted_pools(network, mask_bits, taken);
  if (!pools) return undo(pools.error());
  Held held;
  v1::NetworkState state;
  for (const auto& config : *pools) {
    auto pool = AddressPool::make(config);
    if (!pool) return undo(pool.error());
    *state.add_pools() = pool->config();
    held.pools.push_back(*std::move(pool));
  }
  const auto vni = take_vni(network);
  if (!vni) return undo(vni.error());
  held.vni = *vni;
  state.set_vni(*vni);
  networks_.emplace(network.id(), std::move(held));
  return state;
}

Result<v1::NetworkState> Ipam::take_shared_network(const v1::Network& network) {
  for (int bits = subnets_.shared_mask_bits();; ++bits) {
    auto state = take_network(network, bits);
    if (state || state.error().code() != StatusCode::kResourceExhausted ||
        bits >= subnets_.mask_bits()) {
      return state;
    }
  }
}

std::vector<v1::IpamPool> Ipam::missing_pools(const v1::Network& network) {
  std::vector<v1::IpamPool> out;
  const auto& given = network.state().pools();
  for (const auto& wanted : network.spec().pools()) {
    const auto subnet = Prefix::parse(wanted.subnet());
    if (!subnet) continue;  // left to the allocator, which chose once
    const bool has = std::any_of(given.begin(), given.end(), [&](const v1::IpamPool& pool) {
      const auto other = Prefix::parse(pool.subnet());
      return other && *other == *subnet;
    });
    if (!has) out.push_back(wanted);
  }
  return out;
}

Result<std::vector<v1::IpamPool>> Ipam::grow_network(std::string_view network_id,
                                                     const std::vector<v1::IpamPool>& pools) {
  Held* held = find(network_id);
  if (held == nullptr) return fail(failed_precondition("the network has no addresses yet"));
  std::vector<v1::IpamPool> out;
  const auto undo = [&](Status why) {
    shrink_network(network_id, out);
    return fail(std::move(why));
  };
  for (const auto& config : pools) {
    auto pool = AddressPool::make(config);
    if (!pool) return undo(pool.error());
    if (Status taken = subnets_.take(pool->subnet()); !taken.ok()) return undo(taken);
    out.push_back(pool->config());
    held->pools.push_back(*std::move(pool));
  }
  return out;
}

void Ipam::shrink_network(std::string_view network_id, const std::vector<v1::IpamPool>& pools) {
  Held* held = find(network_id);
  if (held == nullptr) return;
  for (const auto& config : pools) {
    std::erase_if(held->pools, [&](const AddressPool& pool) {
      if (pool.subnet().str() != config.subnet()) return false;
      subnets_.put_back(pool.subnet());
      return true;
    });
  }
}

Status Ipam::restore_network(const v1::Network& network) {
  if (has_network(network.id())) return ok_status();
  Held held;
  std::vector<Prefix> taken;
  const auto undo = [&](Status why) {
    for (const Prefix& subnet : taken) subnets_.put_back(subnet);
    return why.with_context(network.spec().annotations().name());
  };
  for (const auto& config : network.state().pools()) {
    auto pool = AddressPool::make(config);
    if (!pool) return undo(pool.error());
    if (Status s = subnets_.take(pool->subnet()); !s.ok()) return undo(s);
    taken.push_back(pool->subnet());
    held.pools.push_back(*std::move(pool));
  }
  held.vni = network.state().vni();
  if (held.vni != 0) {
    if (!vnis_.take(held.vni)) {
      return undo(already_exists("VXLAN id {} is in use by another network", held.vni));
    }
    if (held.vni >= kVniFirst) {
      vnis_.set_cursor(std::max<uint64_t>(vnis_.cursor(), uint64_t{held.vni} + 1));
    }
  }
  networks_.emplace(network.id(), std::move(held));
  return ok_status();
}

void Ipam::put_back_network(std::string_view network_id) {
  const auto it = networks_.find(std::string(network_id));
  if (it == networks_.end()) return;
  for (const AddressPool& pool : it->second.pools) subnets_.put_back(pool.subnet());
  if (it->second.vni != 0) vnis_.put_back(it->second.vni);
  networks_.erase(it);
}

Result<Ip> Ipam::take_one(Held& held, bool v6, int* length) {
  std::vector<std::string> full;
  uint64_t capacity = 0;
  for (AddressPool& pool : held.pools) {
    if (pool.subnet().base.v6 != v6) continue;
    auto ip = pool.take_next();
    if (ip) {
      *length = pool.subnet().length;
      return ip;
    }
    full.push_back(pool.subnet().str());
    capacity += pool.capacity();
  }
  if (full.empty()) {
    return fail(resource_exhausted("the network has no {} subnet", v6 ? "IPv6" : "IPv4"));
  }
  const bool one = full.size() == 1;
  return fail(resource_exhausted(
      "subnet{} {} {} no free address ({} of {} in use): `network update --subnet` gives the "
      "network another",
      one ? "" : "s", fmt::join(full, ", "), one ? "has" : "have", capacity, capacity));
}

Result<std::vector<std::string>> Ipam::take_addresses(std::string_view network_id,
                                                      const std::vector<std::string>& wanted) {
  Held* held = find(network_id);
  if (held == nullptr) return fail(failed_precondition("the network has no addresses yet"));
  std::vector<std::string> out;
  const auto undo = [&](Status why) {
    for (const std::string& cidr : out) put_back_address(network_id, cidr);
    return fail(std::move(why));
  };
  bool have_v4 = false;
  bool have_v6 = false;
  for (const std::string& text : wanted) {
    const auto cidr = Cidr::parse_lenient(text);
    if (!cidr) return undo(cidr.error());
    const auto pool =
        std::find_if(held->pools.begin(), held->pools.end(),
                     [&](const AddressPool& p) { return p.subnet().contains(cidr->ip); });
    if (pool == held->pools.end()) {
      return undo(invalid_argument("address {} is in no subnet of the network", cidr->ip.str()));
    }
    if (Status s = pool->take(cidr->ip); !s.ok()) return undo(s);
    out.push_back(Cidr{cidr->ip, pool->subnet().length}.str());
    (cidr->ip.v6 ? have_v6 : have_v4) = true;
  }
  for (const bool v6 : {false, true}) {
    if ((v6 ? have_v6 : have_v4) || !has_family(held->pools, v6)) continue;
    int length = 0;
    const auto ip = take_one(*held, v6, &length);
    if (!ip) return undo(ip.error());
    out.push_back(Cidr{*ip, length}.str());
  }
  return out;
}

Result<std::string> Ipam::take_virtual_ip(std::string_view network_id) {
  Held* held = find(network_id);
  if (held == nullptr) return fail(failed_precondition("the network has no addresses yet"));
  int length = 0;
  MUSTER_ASSIGN(const Ip ip, take_one(*held, !has_family(held->pools, false), &length));
  return Cidr{ip, length}.str();
}

Status Ipam::restore_address(std::string_view network_id, std::string_view cidr) {
  Held* held = find(network_id);
  if (held == nullptr) return not_found("network {} is unknown", network_id);
  MUSTER_ASSIGN(const Cidr parsed, Cidr::parse_lenient(cidr));
  for (AddressPool& pool : held->pools) {
    if (pool.subnet().contains(parsed.ip)) return pool.restore(parsed.ip);
  }
  return invalid_argument("address {} is in no subnet of the network", cidr);
}

bool Ipam::put_back_address(std::string_view network_id, std::string_view cidr) {
  Held* held = find(network_id);
  const auto parsed = Cidr::parse_lenient(cidr);
  if (held == nullptr || !parsed) return false;
  for (AddressPool& pool : held->pools) {
    if (pool.subnet().contains(parsed->ip)) return pool.put_back(parsed->ip);
  }
  return false;
}

uint64_t Ipam::free_addresses(std::string_view network_id) const {
  const Held* held = find(network_id);
  if (held == nullptr) return 0;
  uint64_t free[2] = {0, 0};
  for (const AddressPool& pool : held->pools) free[pool.subnet().base.v6 ? 1 : 0] += pool.free();
  if (!has_family(held->pools, true)) return free[0];
  if (!has_family(held->pools, false)) return free[1];
  return std::min(free[0], free[1]);
}

}  // namespace muster::overlay
