#include "overlay/ipam/address_pool.h"

#include <algorithm>

namespace muster::overlay {
namespace {

constexpr uint64_t kTrackedMax = uint64_t{1} << 62;

uint64_t tracked_size(const Prefix& subnet) {
  const Uint128 span = subnet.last().value - subnet.base.value;
  return span >= kTrackedMax ? kTrackedMax : static_cast<uint64_t>(span) + 1;
}

}  // namespace

Result<AddressPool> AddressPool::make(const v1::IpamPool& config) {
  MUSTER_ASSIGN(const Prefix subnet, Prefix::parse(config.subnet()));
  const int length_max = subnet.base.v6 ? 126 : 30;
  if (subnet.length > length_max) {
    return fail(invalid_argument("subnet {} is too small, a network needs at least a /{}",
                                 subnet.str(), length_max));
  }
  AddressPool pool(subnet, tracked_size(subnet));
  MUSTER_TRY(pool.reserve(config));
  return pool;
}

Status AddressPool::reserve(const v1::IpamPool& config) {
  range_to_ = set_.size();
  // The all-zeros address names the subnet (IPv4) or any router on it (IPv6); the all-ones address
  // of IPv4 is the broadcast address.
  set_.take(0);
  if (!subnet_.base.v6) set_.take(set_.size() - 1);
  for (const auto& aux : config.aux_addresses()) {
    MUSTER_ASSIGN(const Ip ip, Ip::parse(aux.value()));
    if (!subnet_.contains(ip) || !tracked(ip)) {
      return invalid_argument("auxiliary address {} is not in subnet {}", ip.str(), subnet_.str());
    }
    if (!set_.take(offset(ip))) {
      return invalid_argument("auxiliary address {} is reserved or named twice", ip.str());
    }
    aux_.emplace_back(aux.key(), ip);
  }
  if (config.gateway().empty()) {
    const auto first = set_.take_next(1, set_.size());
    if (!first)
      return invalid_argument("subnet {} has no address left for a gateway", subnet_.str());
    gateway_ = at(*first);
  } else {
    MUSTER_ASSIGN(gateway_, Ip::parse(config.gateway()));
    if (!subnet_.contains(gateway_) || !tracked(gateway_)) {
      return invalid_argument("gateway {} is not in subnet {}", gateway_.str(), subnet_.str());
    }
    if (!set_.take(offset(gateway_))) {
      return invalid_argument("gateway {} is reserved for another purpose", gateway_.str());
    }
  }
  if (!config.ip_range().empty()) {
    MUSTER_ASSIGN(const Prefix range, Prefix::parse(config.ip_range()));
    if (!subnet_.contains(range) || !tracked(range.base)) {
      return invalid_argument("ip-range {} is not in subnet {}", range.str(), subnet_.str());
    }
    range_from_ = offset(range.base);
    range_to_ = tracked(range.last()) ? offset(range.last()) + 1 : set_.size();
    ip_range_ = range.str();
  }
  capacity_ = range_to_ - range_from_;
  const auto discount = [&](uint64_t o) { capacity_ -= in_range(o) ? 1 : 0; };
  discount(0);
  if (!subnet_.base.v6) discount(set_.size() - 1);
  discount(offset(gateway_));
  for (const auto& [name, ip] : aux_) discount(offset(ip));
  set_.set_cursor(range_from_);
  return ok_status();
}

v1::IpamPool AddressPool::config() const {
  v1::IpamPool out;
  out.set_subnet(subnet_.str());
  out.set_gateway(gateway_.str());
  out.set_ip_range(ip_range_);
  for (const auto& [name, ip] : aux_) {
    auto* aux = out.add_aux_addresses();
    aux->set_key(name);
    aux->set_value(ip.str());
  }
  return out;
}

bool AddressPool::tracked(const Ip& ip) const {
  return ip.value - subnet_.base.value < Uint128{set_.size()};
}

bool AddressPool::is_reserved(const Ip& ip) const {
  const uint64_t o = offset(ip);
  if (o == 0 || ip == gateway_) return true;
  if (!subnet_.base.v6 && o == set_.size() - 1) return true;
  return std::any_of(aux_.begin(), aux_.end(), [&](const auto& a) { return a.second == ip; });
}

Result<Ip> AddressPool::take_next() {
  if (free() == 0) {
    return fail(resource_exhausted("subnet {} has no free address ({} of {} in use)", subnet_.str(),
                                   capacity_, capacity_));
  }
  const auto found = set_.take_next(range_from_, range_to_);
  if (!found) return fail(resource_exhausted("subnet {} has no free address", subnet_.str()));
  ++taken_in_range_;
  return at(*found);
}

Status AddressPool::take(const Ip& ip) {
  if (!subnet_.contains(ip) || !tracked(ip)) {
    return invalid_argument("address {} is not in subnet {}", ip.str(), subnet_.str());
  }
  if (!set_.take(offset(ip))) {
    return already_exists("address {} is {}", ip.str(), is_reserved(ip) ? "reserved" : "in use");
  }
  if (in_range(offset(ip))) ++taken_in_range_;
  return ok_status();
}

Status AddressPool::restore(const Ip& ip) {
  MUSTER_TRY(take(ip));
  if (in_range(offset(ip))) set_.set_cursor(std::max(set_.cursor(), offset(ip) + 1));
  return ok_status();
}

bool AddressPool::put_back(const Ip& ip) {
  if (!subnet_.contains(ip) || !tracked(ip) || is_reserved(ip)) return false;
  if (!set_.put_back(offset(ip))) return false;
  if (in_range(offset(ip))) --taken_in_range_;
  return true;
}

}  // namespace muster::overlay
