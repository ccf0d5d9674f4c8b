#include "overlay/dataplane/vip/ipvs_wire.h"

#include <arpa/inet.h>
#include <linux/genetlink.h>
#include <linux/ip_vs.h>

#include <array>
#include <cstring>

#include "base/check.h"
#include "overlay/dataplane/kernel/wire.h"
#include "overlay/dataplane/vip/client_batch.h"

namespace muster::overlay {
namespace {

using What = IpvsStep::What;

// What a service is made with; the kernel adds flags of its own.
constexpr uint32_t kOurFlags = IP_VS_SVC_F_PERSISTENT | IP_VS_SVC_F_ONEPACKET | IP_VS_SVC_F_SCHED1 |
                               IP_VS_SVC_F_SCHED2 | IP_VS_SVC_F_SCHED3;
constexpr size_t kAddressBytes = 16;

void put_u16(Wire& wire, uint16_t attribute, uint16_t value) {
  wire.put(attribute, &value, sizeof(value));
}

uint16_t af_of(bool v6) {
  return v6 ? AF_INET6 : AF_INET;
}

void begin(Wire& wire, uint16_t family, uint8_t command, uint16_t flags) {
  wire.begin(family, flags, genlmsghdr{command, IPVS_GENL_VERSION, 0});
}

void put_service(Wire& wire, bool v6, uint32_t mark, const IpvsShape* shape) {
  const size_t nest = wire.nest(IPVS_CMD_ATTR_SERVICE);
  put_u16(wire, IPVS_SVC_ATTR_AF, af_of(v6));
  wire.u32(IPVS_SVC_ATTR_FWMARK, mark);
  if (shape != nullptr) {
    wire.text(IPVS_SVC_ATTR_SCHED_NAME, shape->scheduler);
    const ip_vs_flags flags{shape->flags, kOurFlags};
    wire.put(IPVS_SVC_ATTR_FLAGS, &flags, sizeof(flags));
    wire.u32(IPVS_SVC_ATTR_TIMEOUT, shape->timeout_s);
    // Each address is a client of its own: a mask here, a prefix length there.
    wire.u32(IPVS_SVC_ATTR_NETMASK, v6 ? 128 : UINT32_MAX);
  }
  wire.close(nest);
}

void put_backend(Wire& wire, const VipBackend& backend, bool whole) {
  const size_t nest = wire.nest(IPVS_CMD_ATTR_DEST);
  std::string address = ip_bytes(backend.ip);
  address.resize(kAddressBytes, '\0');
  wire.put(IPVS_DEST_ATTR_ADDR, address.data(), address.size());
  put_u16(wire, IPVS_DEST_ATTR_PORT, 0);  // whichever the client asked for
  put_u16(wire, IPVS_DEST_ATTR_ADDR_FAMILY, af_of(backend.ip.v6));
  if (whole) {
    wire.u32(IPVS_DEST_ATTR_FWD_METHOD, IP_VS_CONN_F_MASQ);
    wire.u32(IPVS_DEST_ATTR_WEIGHT, backend.weight);
    wire.u32(IPVS_DEST_ATTR_U_THRESH, 0);
    wire.u32(IPVS_DEST_ATTR_L_THRESH, 0);
  }
  wire.close(nest);
}

uint8_t command_of(What what) {
  switch (what) {
    case What::kMakeService: return IPVS_CMD_NEW_SERVICE;
    case What::kChangeService: return IPVS_CMD_SET_SERVICE;
    case What::kDropService: return IPVS_CMD_DEL_SERVICE;
    case What::kMakeBackend: return IPVS_CMD_NEW_DEST;
    case What::kWeighBackend: return IPVS_CMD_SET_DEST;
    case What::kDropBackend: return IPVS_CMD_DEL_DEST;
    case What::kLead:
    case What::kUnlead:
    case What::kGuard:
    case What::kUnguard:
    case What::kWatch:
    case What::kUnwatch: break;
  }
  MUSTER_CHECK(false, "a step of nftables is none of IPVS");
  return 0;
}

template <class T>
T value_of(std::string_view value) {
  T out{};
  if (value.size() >= sizeof(out)) std::memcpy(&out, value.data(), sizeof(out));
  return out;
}

std::string_view nest_of(const nlmsghdr* message, uint16_t attribute) {
  return find_attribute(attributes_of(message, sizeof(genlmsghdr)), attribute);
}

}  // namespace

void put_ipvs_step(Wire& wire, uint16_t family, const IpvsStep& step) {
  begin(wire, family, command_of(step.what), 0);
  const bool whole = step.what == What::kMakeService || step.what == What::kChangeService;
  put_service(wire, step.v6, step.mark, whole ? &step.shape : nullptr);
  if (step.what == What::kMakeBackend || step.what == What::kWeighBackend ||
      step.what == What::kDropBackend) {
    put_backend(wire, step.backend, step.what != What::kDropBackend);
  }
  wire.end();
}

void put_ipvs_services(Wire& wire, uint16_t family) {
  begin(wire, family, IPVS_CMD_GET_SERVICE, NLM_F_DUMP);
  wire.end();
}

void put_ipvs_backends(Wire& wire, uint16_t family, bool v6, uint32_t mark) {
  begin(wire, family, IPVS_CMD_GET_DEST, NLM_F_DUMP);
  put_service(wire, v6, mark, nullptr);
  wire.end();
}

std::optional<IpvsListed> read_ipvs_service(const nlmsghdr* message) {
  const std::string_view service = nest_of(message, IPVS_CMD_ATTR_SERVICE);
  const std::string_view mark = find_attribute(service, IPVS_SVC_ATTR_FWMARK);
  if (mark.data() == nullptr) return std::nullopt;
  IpvsListed out;
  out.mark = value_of<uint32_t>(mark);
  out.v6 = value_of<uint16_t>(find_attribute(service, IPVS_SVC_ATTR_AF)) == AF_INET6;
  out.shape.scheduler = text_of(find_attribute(service, IPVS_SVC_ATTR_SCHED_NAME));
  out.shape.flags =
      value_of<ip_vs_flags>(find_attribute(service, IPVS_SVC_ATTR_FLAGS)).flags & kOurFlags;
  // The kernel has one of its own where nobody is remembered.
  if (out.shape.flags & IP_VS_SVC_F_PERSISTENT) {
    out.shape.timeout_s = value_of<uint32_t>(find_attribute(service, IPVS_SVC_ATTR_TIMEOUT));
  }
  const std::string_view stats = find_attribute(service, IPVS_SVC_ATTR_STATS);
  out.used = value_of<uint32_t>(find_attribute(stats, IPVS_STATS_ATTR_CONNS)) != 0;
  return out;
}

std::optional<VipBackend> read_ipvs_backend(const nlmsghdr* message) {
  const std::string_view backend = nest_of(message, IPVS_CMD_ATTR_DEST);
  const std::string_view address = find_attribute(backend, IPVS_DEST_ATTR_ADDR);
  const std::string_view family = find_attribute(backend, IPVS_DEST_ATTR_ADDR_FAMILY);
  if (address.size() < kAddressBytes || family.data() == nullptr) return std::nullopt;
  const bool v6 = value_of<uint16_t>(family) == AF_INET6;
  return VipBackend{ip_of_wire(address.substr(0, v6 ? 16 : 4)),
                    value_of<uint32_t>(find_attribute(backend, IPVS_DEST_ATTR_WEIGHT))};
}

void put_ipvs_timeouts(Wire& wire, uint16_t family, const IpvsTimeouts& timeouts) {
  begin(wire, family, IPVS_CMD_SET_CONFIG, 0);
  wire.u32(IPVS_CMD_ATTR_TIMEOUT_TCP, timeouts.tcp_s);
  wire.u32(IPVS_CMD_ATTR_TIMEOUT_TCP_FIN, timeouts.tcp_fin_s);
  wire.u32(IPVS_CMD_ATTR_TIMEOUT_UDP, timeouts.udp_s);
  wire.end();
}

void ask_ipvs_timeouts(Wire& wire, uint16_t family) {
  begin(wire, family, IPVS_CMD_GET_CONFIG, NLM_F_ACK);
  wire.end();
}

IpvsTimeouts read_ipvs_timeouts(const nlmsghdr* message) {
  return {value_of<uint32_t>(nest_of(message, IPVS_CMD_ATTR_TIMEOUT_TCP)),
          value_of<uint32_t>(nest_of(message, IPVS_CMD_ATTR_TIMEOUT_TCP_FIN)),
          value_of<uint32_t>(nest_of(message, IPVS_CMD_ATTR_TIMEOUT_UDP))};
}

Result<uint16_t> find_ipvs(WireSocket& generic) {
  Wire wire;
  wire.begin(GENL_ID_CTRL, NLM_F_ACK, genlmsghdr{CTRL_CMD_GETFAMILY, 1, 0});
  wire.text(CTRL_ATTR_FAMILY_NAME, IPVS_GENL_NAME);
  wire.end();
  uint16_t family = 0;
  MUSTER_TRY(generic.query(wire, [&](const nlmsghdr* message) {
    family = value_of<uint16_t>(nest_of(message, CTRL_ATTR_FAMILY_ID));
  }));
  if (family == 0) return fail(not_found("the kernel names no such family"));
  return family;
}

}  // namespace muster::overlay
