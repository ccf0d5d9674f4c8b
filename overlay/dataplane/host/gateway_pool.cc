#include "overlay/dataplane/host/gateway_pool.h"

#include <cstddef>
#include <cstdint>

#include "base/fnv.h"

namespace muster::overlay {
namespace {

// Where subnets come from. First what hardly anybody has a route to; then what offices, carriers
// and VPCs use, from the far end, as automatic networks come from the near one; last the default
// VPC of EC2, of which a host has only a part in its routes, and the default bridge of Docker.
struct Source {
  Prefix range;
  bool from_end = false;
};

constexpr uint32_t at(uint32_t a, uint32_t b) {
  return a << 24 | b << 16;
}

const Source kSources[] = {
    {{Ip::v4(at(172, 18)), 15}},       {{Ip::v4(at(172, 20)), 14}},
    {{Ip::v4(at(172, 24)), 14}},       {{Ip::v4(at(172, 28)), 15}},
    {{Ip::v4(at(172, 30)), 16}},       {{Ip::v4(at(192, 168)), 16}, true},
    {{Ip::v4(at(100, 64)), 10}, true}, {{Ip::v4(at(10, 0)), 8}, true},
    {{Ip::v4(at(172, 16)), 16}},       {{Ip::v4(at(172, 31)), 16}},
    {{Ip::v4(at(172, 17)), 16}},
};

// Sizes, the wished one first.
constexpr int kLengths[] = {20, 24};

std::optional<Prefix> first_free(const Source& source, int length, const RangeSet& avoid,
                                 const RangeSet& ours) {
  const uint32_t step = uint32_t{1} << (32 - length);
  const uint32_t count = uint32_t{1} << (length - source.range.length);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t number = source.from_end ? count - 1 - i : i;
    const auto base = static_cast<uint32_t>(source.range.base.value) + number * step;
    const Prefix subnet{Ip::v4(base), length};
    if (avoid.overlap(subnet) == nullptr && ours.overlap(subnet) == nullptr) return subnet;
  }
  return std::nullopt;
}

}  // namespace

GatewayPool::GatewayPool(std::string_view instance_id) {
  // fd, 40 bits of the instance as RFC 4193 wants them random, subnet 0.
  const Uint128 id = fnv1a_64_mixed(instance_id) & 0xff'ffff'ffffull;
  subnet_v6_ = {{true, Uint128{0xfd} << 120 | id << 80}, 64};
}

std::optional<Prefix> GatewayPool::propose(const RangeSet& avoid) const {
  const RangeSet ours(order_);
  for (const int length : kLengths) {
    for (const Source& source : kSources) {
      if (const auto subnet = first_free(source, length, avoid, ours)) return subnet;
    }
  }
  return std::nullopt;
}

Status GatewayPool::add(const Prefix& subnet) {
  v1::IpamPool config;
  config.set_subnet(subnet.str());
  MUSTER_ASSIGN(AddressPool pool, AddressPool::make(config));
  order_.push_back(subnet);
  pools_.push_back(std::move(pool));
  return ok_status();
}

void GatewayPool::clear() {
  order_.clear();
  pools_.clear();
}

std::optional<GatewayPool::Place> GatewayPool::take(const RangeSet& avoid) {
  for (size_t i = 0; i < pools_.size(); ++i) {
    if (avoid.overlap(order_[i]) != nullptr) continue;
    if (const auto address = pools_[i].take_next()) return Place{*address, pools_[i].gateway()};
  }
  return std::nullopt;
}

AddressPool* GatewayPool::pool_of(const Ip& address) {
  for (size_t i = 0; i < pools_.size(); ++i) {
    if (order_[i].contains(address)) return &pools_[i];
  }
  return nullptr;
}

void GatewayPool::hold(const Ip& address) {
  // Held already is fine.
  if (AddressPool* pool = pool_of(address)) (void)pool->restore(address);
}

void GatewayPool::put_back(const Ip& address) {
  if (AddressPool* pool = pool_of(address)) (void)pool->put_back(address);
}

}  // namespace muster::overlay
