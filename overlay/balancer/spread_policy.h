#pragma once

#include <compare>
#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "base/time.h"
#include "muster/v1/dispatcher.pb.h"
#include "muster/v1/specs.pb.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// Which backend a service's next flow goes to. Balancers have what their kernel has: one without
// least-connection goes round, one without a memory of clients hashes their addresses instead.
struct SpreadPolicy {
  v1::EndpointSpec::Balancing by = v1::EndpointSpec::ROUND_ROBIN;
  Duration affinity{};  // after a client's last flow; 0 = none

  // For balancers of slots: all flows of a client through one slot.
  bool by_source() const { return by == v1::EndpointSpec::SOURCE_HASH || affinity > Duration(0); }

  friend bool operator==(const SpreadPolicy&, const SpreadPolicy&) = default;
};

inline SpreadPolicy spread_policy(const v1::NetworkService& service) {
  return {service.balancing(), Duration(service.affinity_ns())};
}

// "round-robin", "least-connection", "source-hash".
std::string_view balancing_name(v1::EndpointSpec::Balancing balancing);
// INVALID_ARGUMENT for other words.
Result<v1::EndpointSpec::Balancing> parse_balancing(std::string_view name);

struct VipBackend {
  Ip ip;
  uint32_t weight = 1;  // its share beside those of the others

  friend auto operator<=>(const VipBackend&, const VipBackend&) = default;
};

}  // namespace muster::overlay
