#include "overlay/dataplane/vip/client_namespace.h"

#include <linux/rtnetlink.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "overlay/dataplane/kernel/namespaces.h"
#include "overlay/dataplane/kernel/sysctl.h"
#include "overlay/dataplane/kernel/wire.h"
#include "overlay/dataplane/vip/client_batch.h"

namespace muster::overlay {
namespace {

constexpr uint32_t kLoopbackIndex = 1;

rtmsg local_route(const Ip& vip) {
  rtmsg route{};
  route.rtm_family = vip.v6 ? AF_INET6 : AF_INET;
  route.rtm_dst_len = static_cast<unsigned char>(vip.bits());
  route.rtm_table = RT_TABLE_LOCAL;
  route.rtm_protocol = RTPROT_STATIC;
  route.rtm_scope = RT_SCOPE_HOST;
  route.rtm_type = RTN_LOCAL;
  return route;
}

uint32_t u32_of(std::string_view value) {
  uint32_t out = 0;
  if (value.size() >= sizeof(out)) std::memcpy(&out, value.data(), sizeof(out));
  return out;
}

void put_ip(Wire& wire, uint16_t attribute, const Ip& ip) {
  const std::string bytes = ip_bytes(ip);
  wire.put(attribute, bytes.data(), bytes.size());
}

}  // namespace

ClientNamespace::ClientNamespace(std::string netns, std::vector<Setting> settings)
    : netns_(std::move(netns)), settings_(std::move(settings)) {
  settings_.push_back({"net.ipv4.conf.all.arp_ignore", "1"});
}

Status ClientNamespace::open_sockets(const std::function<Status()>& also) {
  return in_namespace(netns_, [&]() -> Status {
    MUSTER_ASSIGN(nft_, WireSocket::open(NETLINK_NETFILTER));
    MUSTER_ASSIGN(route_, WireSocket::open(NETLINK_ROUTE));
    MUSTER_ASSIGN(WireSocket connections, WireSocket::open(NETLINK_NETFILTER));
    connections_ = std::make_shared<WireSocket>(std::move(connections));
    return also ? also() : ok_status();
  });
}

Result<bool> ClientNamespace::write_settings() {
  bool written = false;
  MUSTER_TRY(in_namespace(netns_, [&]() -> Status {
    for (const auto& [key, value] : settings_) {
      MUSTER_ASSIGN(const std::string now, read_sysctl(key));
      if (now == value) continue;
      written = true;
      MUSTER_TRY(write_sysctl(key, value));
    }
    return ok_status();
  }));
  MUSTER_ASSIGN(const bool kept, part_settings_kept());
  if (kept) return written;
  MUSTER_TRY(write_part_settings());
  return true;
}

Result<bool> ClientNamespace::settings_kept() {
  bool kept = true;
  MUSTER_TRY(in_namespace(netns_, [&]() -> Status {
    for (const auto& [key, value] : settings_) {
      MUSTER_ASSIGN(const std::string now, read_sysctl(key));
      kept = kept && now == value;
    }
    return ok_status();
  }));
  return kept ? part_settings_kept() : false;
}

Status ClientNamespace::apply_routes(const std::vector<VipWish>& wishes, bool removed) {
  Wire wire;
  std::map<Ip, std::optional<LocalRoute>> made;
  for (const VipWish& wish : wishes) {
    if (wish.gone() != removed) continue;
    const auto at = routes_.find(wish.vip);
    if (removed ? at == routes_.end()
                : at != routes_.end() && at->second == LocalRoute{wish.source, wish.mtu}) {
      continue;
    }
    wire.begin(removed ? RTM_DELROUTE : RTM_NEWROUTE, removed ? 0 : NLM_F_CREATE | NLM_F_REPLACE,
               local_route(wish.vip));
    put_ip(wire, RTA_DST, wish.vip);
    wire.u32(RTA_OIF, kLoopbackIndex);
    if (!removed) {
      put_ip(wire, RTA_PREFSRC, wish.source);
      const size_t metrics = wire.nest(RTA_METRICS);
      wire.u32(RTAX_MTU, wish.mtu);
      wire.close(metrics);
      made[wish.vip] = LocalRoute{wish.source, wish.mtu};
    } else {
      made[wish.vip] = std::nullopt;
    }
    wire.end();
  }
  if (wire.empty()) return ok_status();
  MUSTER_ASSIGN(const auto errors, route_.exchange(wire));
  for (const WireError& error : errors) {
    if (removed && (error.error == ESRCH || error.error == ENOENT)) continue;
    MUSTER_ASSIGN(routes_, list_routes());
    return errno_status(error.error, removed ? "remove the route of a virtual address"
                                             : "make the route of a virtual address");
  }
  for (const auto& [vip, route] : made) {
    if (route) {
      routes_[vip] = *route;
    } else {
      routes_.erase(vip);
    }
  }
  return ok_status();
}

Result<std::map<Ip, ClientNamespace::LocalRoute>> ClientNamespace::list_routes() {
  std::map<Ip, LocalRoute> out;
  for (const int family : {AF_INET, AF_INET6}) {
    Wire wire;
    rtmsg request{};
    request.rtm_family = static_cast<unsigned char>(family);
    request.rtm_table = RT_TABLE_LOCAL;
    request.rtm_type = RTN_LOCAL;
    wire.begin(RTM_GETROUTE, NLM_F_DUMP, request);
    wire.end();
    const Status listed = route_.query(wire, [&](const nlmsghdr* h) {
      rtmsg route{};
      if (h->nlmsg_type != RTM_NEWROUTE || h->nlmsg_len < NLMSG_LENGTH(sizeof(route))) return;
      std::memcpy(&route, NLMSG_DATA(h), sizeof(route));
      // The kernel's own are those of the client's addresses.
      if (route.rtm_family != family || route.rtm_type != RTN_LOCAL ||
          route.rtm_table != RT_TABLE_LOCAL || route.rtm_protocol != RTPROT_STATIC) {
        return;
      }
      const std::string_view attributes = attributes_of(h, sizeof(route));
      LocalRoute found;
      found.source = ip_of_wire(find_attribute(attributes, RTA_PREFSRC));
      found.mtu = u32_of(find_attribute(find_attribute(attributes, RTA_METRICS), RTAX_MTU));
      out[ip_of_wire(find_attribute(attributes, RTA_DST))] = found;
    });
    // The table is made with the first address.
    if (listed.code() != StatusCode::kNotFound) MUSTER_TRY(listed);
  }
  return out;
}

// ---------------------------------------------------------------- all of it

Status ClientNamespace::apply(const std::vector<VipWish>& wishes) {
  MUSTER_TRY(ensure_loaded());
  // An address that is only routed to would be the client's own, so: first the route away, first
  // the rules there.
  MUSTER_TRY(apply_routes(wishes, true));
  MUSTER_TRY(lead(wishes));
  return apply_routes(wishes, false);
}

Status ClientNamespace::finish_load() {
  MUSTER_ASSIGN(routes_, list_routes());
  if (base_) {
    MUSTER_ASSIGN(const bool written, write_settings());
    setting_was_lost_ = setting_was_lost_ || written;
  }
  loaded_ = true;
  suspect_ = false;
  return ok_status();
}

Status ClientNamespace::transact(NftBatch& batch) {
  if (!base_) {
    if (auto set = write_settings(); !set) return set.error();
  }
  MUSTER_ASSIGN(const auto errors, nft_.exchange(batch.finish()));
  if (!errors.empty()) {
    const WireError& first = errors.front();
    if (first.error == ERESTART) return Status(StatusCode::kAborted, "nftables were changed");
    return errno_status(first.error, batch.what(first.sequence));
  }
  // Skips 0, as the kernel does.
  if (++generation_ == 0) ++generation_;
  base_ = true;
  return ok_status();
}

Result<bool> ClientNamespace::drifted() {
  if (!loaded_ || suspect_) return true;
  MUSTER_ASSIGN(const uint32_t now, nft_generation(nft_));
  if (now != generation_) return true;
  MUSTER_ASSIGN(const auto routes, list_routes());
  if (routes != routes_) return true;
  MUSTER_ASSIGN(const bool part, part_drifted());
  if (part || !base_) return part;
  MUSTER_ASSIGN(const bool kept, settings_kept());
  return !kept;
}

std::vector<Ip> ClientNamespace::in_force() const {
  std::set<Ip> vips;
  add_held(vips);
  for (const auto& [vip, route] : routes_) vips.insert(vip);
  return {vips.begin(), vips.end()};
}

bool ClientNamespace::route_as_wished(const VipWish& wish) const {
  const auto route = routes_.find(wish.vip);
  if (wish.gone()) return route == routes_.end();
  return route != routes_.end() && route->second == LocalRoute{wish.source, wish.mtu};
}

Result<std::vector<Ip>> ClientNamespace::own_addresses() {
  Wire wire;
  wire.begin(RTM_GETADDR, NLM_F_DUMP, ifaddrmsg{});
  wire.end();
  std::vector<Ip> out;
  MUSTER_TRY(route_.query(wire, [&](const nlmsghdr* h) {
    ifaddrmsg info{};
    if (h->nlmsg_type != RTM_NEWADDR || h->nlmsg_len < NLMSG_LENGTH(sizeof(info))) return;
    std::memcpy(&info, NLMSG_DATA(h), sizeof(info));
    if (info.ifa_index == kLoopbackIndex || info.ifa_scope == RT_SCOPE_LINK) return;
    const std::string_view attributes = attributes_of(h, sizeof(info));
    std::string_view address = find_attribute(attributes, IFA_LOCAL);
    if (address.empty()) address = find_attribute(attributes, IFA_ADDRESS);
    if (!address.empty()) out.push_back(ip_of_wire(address));
  }));
  return out;
}

}  // namespace muster::overlay
