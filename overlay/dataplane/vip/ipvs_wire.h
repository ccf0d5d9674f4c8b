#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "overlay/balancer/ipvs_plan.h"
#include "overlay/dataplane/vip/client_wire.h"

namespace muster::overlay {

// IPVS's generic netlink, there and back. Pure. `family`: the number that the kernel has given it.

// One request for each step, which must be one of IpvsPlan::services.
void put_ipvs_step(Wire& wire, uint16_t family, const IpvsStep& step);
// Asks for all services, or for the backends of one.
void put_ipvs_services(Wire& wire, uint16_t family);
void put_ipvs_backends(Wire& wire, uint16_t family, bool v6, uint32_t mark);

struct IpvsListed {
  bool v6 = false;
  uint32_t mark = 0;
  IpvsShape shape;
  bool used = false;  // it has led a flow
};
// nullopt: no service of a mark, or no service at all.
std::optional<IpvsListed> read_ipvs_service(const nlmsghdr* message);
std::optional<VipBackend> read_ipvs_backend(const nlmsghdr* message);

// How long IPVS remembers a flow without a packet. All that it lets anybody choose, by namespace;
// from 1 s to 2,147,483 s (what its clock can count) each.
struct IpvsTimeouts {
  uint32_t tcp_s = 0;      // both ends open
  uint32_t tcp_fin_s = 0;  // the backend has closed its end, the client has not
  uint32_t udp_s = 0;

  friend bool operator==(const IpvsTimeouts&, const IpvsTimeouts&) = default;
};
void put_ipvs_timeouts(Wire& wire, uint16_t family, const IpvsTimeouts& timeouts);
void ask_ipvs_timeouts(Wire& wire, uint16_t family);
// 0 for what the answer does not tell of.
IpvsTimeouts read_ipvs_timeouts(const nlmsghdr* message);

// The family's number as the kernel has it now; it loads the module that it needs. NOT_FOUND: it
// has none.
Result<uint16_t> find_ipvs(WireSocket& generic);

}  // namespace muster::overlay
