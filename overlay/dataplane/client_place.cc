#include "overlay/dataplane/client_place.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <sched.h>

#include <cerrno>
#include <cstring>
#include <set>

#include "overlay/dataplane/client_rules.h"
#include "overlay/dataplane/namespaces.h"
#include "overlay/dataplane/sysctl.h"
#include "overlay/dataplane/wire.h"

namespace muster::overlay {
namespace {

constexpr uint32_t kLoopbackIndex = 1;
// A transaction larger than this is cut: the kernel needs it in one piece.
constexpr size_t kTransactionBytes = 1 << 20;
// How often a change is tried anew when others change the namespace's nftables meanwhile.
constexpr int kTries = 5;
constexpr std::string_view kArpIgnore = "net.ipv4.conf.all.arp_ignore";

Status enter(const std::string& netns) {
  const UniqueFd fd(::open(netns.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd || setns(fd.get(), CLONE_NEWNET) != 0) {
    return errno_status(errno, "cannot enter network namespace " + netns);
  }
  return ok_status();
}

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

// A plan in pieces that the kernel takes; each step belongs to one address, and what belongs
// together is together.
std::vector<std::vector<VipWish>> pieces(const std::vector<VipWish>& wishes) {
  std::vector<std::vector<VipWish>> out(1);
  size_t bytes = 0;
  for (const VipWish& wish : wishes) {
    // 40 bytes an element, twice in an exchange, and what is around.
    const size_t size = 2048 + (wish.spread == nullptr ? 0 : wish.spread->slots.size() * 80);
    if (bytes + size > kTransactionBytes && !out.back().empty()) {
      out.emplace_back();
      bytes = 0;
    }
    bytes += size;
    out.back().push_back(wish);
  }
  return out;
}

}  // namespace

Result<std::unique_ptr<ClientPlace>> ClientPlace::open(const std::string& netns, uint32_t origin) {
  std::unique_ptr<ClientPlace> place(new ClientPlace(netns, origin));
  MUSTER_TRY(on_own_thread([&]() -> Status {
    MUSTER_TRY(enter(netns));
    MUSTER_ASSIGN(place->nft_, WireSocket::open(NETLINK_NETFILTER));
    MUSTER_ASSIGN(place->route_, WireSocket::open(NETLINK_ROUTE));
    MUSTER_ASSIGN(WireSocket connections, WireSocket::open(NETLINK_NETFILTER));
    place->connections_ = std::make_shared<WireSocket>(std::move(connections));
    return ok_status();
  }));
  return place;
}

// Else every client answers ARP for the virtual addresses. Returns whether it had to be written.
Result<bool> ClientPlace::settings() {
  bool written = false;
  MUSTER_TRY(on_own_thread([&]() -> Status {
    MUSTER_TRY(enter(netns_));
    const auto now = read_sysctl(kArpIgnore);
    if (!now) return now.error();
    written = *now != "1";
    return written ? write_sysctl(kArpIgnore, "1") : ok_status();
  }));
  return written;
}

Status ClientPlace::load() {
  for (int attempt = 0; attempt < kTries; ++attempt) {
    MUSTER_ASSIGN(generation_, nft_generation(nft_));
    auto listing = list_vips(nft_, origin_);
    // Changed while it was read, so that its parts may not fit.
    if (!listing && (listing.error().code() == StatusCode::kAborted ||
                     listing.error().code() == StatusCode::kNotFound)) {
      continue;
    }
    if (!listing) return listing.error();
    MUSTER_ASSIGN(const uint32_t after, nft_generation(nft_));
    if (after != generation_) continue;
    state_ = std::move(listing->state);
    base_ = listing->base_whole;
    MUSTER_ASSIGN(routes_, list_routes());
    if (base_) {
      MUSTER_ASSIGN(const bool written, settings());
      setting_was_lost_ = setting_was_lost_ || written;
    }
    loaded_ = true;
    return ok_status();
  }
  return internal_error("the nftables of {} change too quickly to be read", netns_);
}

Status ClientPlace::apply(const std::vector<VipWish>& wishes) {
  MUSTER_TRY(ensure_loaded());
  // An address that is only routed to would be the client's own, so: first the route away, first
  // the rules there.
  MUSTER_TRY(apply_routes(wishes, true));
  for (const auto& piece : pieces(wishes)) MUSTER_TRY(apply_rules(piece));
  return apply_routes(wishes, false);
}

Status ClientPlace::apply_rules(const std::vector<VipWish>& wishes) {
  Status done;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    VipPlan plan = plan_vips(state_, wishes);
    if (plan.steps.empty()) {
      commit(state_, std::move(plan));
      return ok_status();
    }
    if (!base_) {
      if (auto set = settings(); !set) return set.error();
    }
    done = transact(std::move(plan));
    if (done.ok()) return done;
    // Somebody else changed something here: look at what there is and work it out anew.
    MUSTER_TRY(load());
  }
  return done;
}

Status ClientPlace::transact(VipPlan plan) {
  VipTransaction transaction(generation_, origin_);
  if (!base_) transaction.make_base();
  for (const VipStep& step : plan.steps) transaction.add(step);
  MUSTER_ASSIGN(const auto errors, nft_.exchange(transaction.finish()));
  if (!errors.empty()) {
    const WireError& first = errors.front();
    if (first.error == ERESTART) return Status(StatusCode::kAborted, "nftables were changed");
    return errno_status(first.error, transaction.what(first.sequence));
  }
  // Skips 0, as the kernel does.
  if (++generation_ == 0) ++generation_;
  base_ = true;
  commit(state_, std::move(plan));
  return ok_status();
}

Status ClientPlace::apply_routes(const std::vector<VipWish>& wishes, bool removed) {
  Wire wire;
  std::map<Ip, std::optional<LocalRoute>> made;
  for (const VipWish& wish : wishes) {
    if ((wish.spread == nullptr) != removed) continue;
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

Result<std::map<Ip, ClientPlace::LocalRoute>> ClientPlace::list_routes() {
  std::map<Ip, LocalRoute> out;
  for (const int family : {AF_INET, AF_INET6}) {
    Wire wire;
    rtmsg request{};
    request.rtm_family = static_cast<unsigned char>(family);
    request.rtm_table = RT_TABLE_LOCAL;
    request.rtm_type = RTN_LOCAL;
    wire.begin(RTM_GETROUTE, NLM_F_DUMP, request);
    wire.end();
    MUSTER_TRY(route_.query(wire, [&](const nlmsghdr* h) {
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
    }));
  }
  return out;
}

Result<bool> ClientPlace::drifted() {
  if (!loaded_) return true;
  MUSTER_ASSIGN(const uint32_t now, nft_generation(nft_));
  if (now != generation_) return true;
  MUSTER_ASSIGN(const auto routes, list_routes());
  if (routes != routes_) return true;
  if (!base_) return false;
  bool kept = false;
  MUSTER_TRY(on_own_thread([&]() -> Status {
    MUSTER_TRY(enter(netns_));
    const auto now = read_sysctl(kArpIgnore);
    kept = now && *now == "1";
    return now ? ok_status() : now.error();
  }));
  return !kept;
}

std::vector<Ip> ClientPlace::in_force() const {
  std::set<Ip> vips;
  for (const auto& [vip, held] : state_.vips) vips.insert(vip);
  for (const auto& [vip, route] : routes_) vips.insert(vip);
  return {vips.begin(), vips.end()};
}

VipSpreadPtr ClientPlace::spread_of(const Ip& vip) const {
  const auto held = state_.vips.find(vip);
  if (held == state_.vips.end() || held->second.broken || !held->second.guarded) return nullptr;
  return routes_.count(vip) == 0 ? nullptr : held->second.spread;
}

bool ClientPlace::as_wished(const VipWish& wish) const {
  const auto route = routes_.find(wish.vip);
  if (wish.spread == nullptr) return route == routes_.end() && state_.vips.count(wish.vip) == 0;
  const VipSpreadPtr spread = spread_of(wish.vip);
  return spread != nullptr && *spread == *wish.spread &&
         route->second == LocalRoute{wish.source, wish.mtu};
}

Result<std::vector<Ip>> ClientPlace::own_addresses() {
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
