#include "overlay/dataplane/host/gateway.h"

#include <algorithm>
#include <utility>

#include "overlay/dataplane/host/gateway_links.h"
#include "overlay/dataplane/kernel/routing.h"
#include "overlay/dataplane/kernel/sysctl.h"

namespace muster::overlay {
namespace {

// What is led to a container is no packet of the host's own: for such a one the kernel asks for a
// neighbour by its link-local address alone (ndisc_send_ns()), which host's ends do not have.
Message neighbour(int index, const Gateway::Lease& lease) {
  return set_neighbour(index, *lease.address_v6, mac_of(lease.address));
}

// The kernel keeps 255 bytes of an alias; the rest of ours has less than 130.
constexpr size_t kAliasNameMax = 120;
// Another instance in this namespace may take a subnet between our look and our claim.
constexpr int kClaimsMax = 32;

// "a b c" in words.
std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    if (end != 0) out.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

// Interfaces get IPv6 addresses here at all.
bool host_has_ipv6() {
  if (!kernel_has_ipv6()) return false;
  const auto off = read_sysctl("net.ipv6.conf.default.disable_ipv6");
  return off && *off != "1";
}

// What a packet that leaves this host can be at most: on its way out it would otherwise be dropped
// there, and only who asked for it be told. 1500 without a default route.
Result<uint32_t> way_out_mtu(NetlinkSocket& rtnl) {
  MUSTER_ASSIGN(const auto routes, list_routes(rtnl));
  MUSTER_ASSIGN(const auto links, list_links(rtnl));
  uint32_t mtu = 0;
  for (const Route& route : routes) {
    if (route.destination.length != 0) continue;
    for (const Link& link : links) {
      if (link.index != route.interface || link.mtu == 0) continue;
      mtu = mtu == 0 ? link.mtu : std::min(mtu, link.mtu);
    }
  }
  return mtu == 0 ? 1500u : std::clamp(mtu, 1280u, 65535u);
}

}  // namespace

std::string Gateway::alias(const Lease& lease, std::string_view container_id) const {
  std::string out =
      fmt::format("muster {} {} {}", names_.instance(), container_id.substr(0, kAliasNameMax),
                  Cidr{lease.address, lease.length}.str());
  if (lease.address_v6) out += " " + lease.address_v6->str();
  return out;
}

std::optional<std::pair<Gateway::Lease, Prefix>> Gateway::read_alias(const Link& link) const {
  const auto parts = words(link.alias);
  if (parts.size() < 4 || parts[0] != "muster" || parts[1] != names_.instance()) {
    return std::nullopt;
  }
  const auto cidr = Cidr::parse(parts[3]);
  const auto subnet = Prefix::parse(parts[3]);
  if (!cidr || !subnet || cidr->ip.v6) return std::nullopt;
  Lease lease;
  lease.link = link.name;
  lease.mtu = link.mtu;
  lease.address = cidr->ip;
  lease.gateway = Ip::v4(static_cast<uint32_t>(subnet->base.value) + 1);
  lease.length = cidr->length;
  if (parts.size() > 4) lease.address_v6 = pool_.to_v6(cidr->ip);
  lease.gateway_v6 = pool_.gateway_v6();
  return std::pair{lease, *subnet};
}

Status Gateway::scan() {
  MUSTER_ASSIGN(const auto links, list_links(rtnl_));
  leases_.clear();
  pool_.clear();
  bridge_index_ = 0;
  std::vector<Prefix> subnets;
  for (const Link& link : links) {
    if (link.name == names_.gateway_bridge()) {
      bridge_index_ = link.index;
      mtu_ = link.mtu;
    }
    if (!names_.is_our_way(link.name)) continue;
    // One without an alias is no way yet, and never was.
    const auto known = read_alias(link);
    if (!known) continue;
    subnets.push_back(known->second);
    leases_[link.name] = known->first;
    // Versions before did without it.
    if (known->first.address_v6) (void)rtnl_.run(neighbour(link.index, known->first));
  }
  if (bridge_index_ != 0) {
    MUSTER_ASSIGN(const auto routes, list_routes(rtnl_));
    for (const Route& route : routes) {
      if (route.interface != bridge_index_ || route.destination.base.v6) continue;
      subnets.push_back(route.destination);
    }
  }
  for (const Prefix& subnet : subnets) {
    const auto& known = pool_.subnets();
    if (std::find(known.begin(), known.end(), subnet) == known.end()) MUSTER_TRY(pool_.add(subnet));
  }
  for (const auto& [name, lease] : leases_) pool_.hold(lease.address);
  return ok_status();
}

std::optional<NetworkRules> Gateway::rules() const {
  if (pool_.subnets().empty()) return std::nullopt;
  return own_rules();
}

NetworkRules Gateway::own_rules() const {
  NetworkRules out{names_.gateway_bridge(), false, {}};
  for (const Prefix& subnet : pool_.subnets()) out.subnets.push_back(subnet.str());
  out.subnets.push_back(pool_.subnet_v6().str());
  return out;
}

Status Gateway::make_bridge() {
  MUSTER_ASSIGN(mtu_, way_out_mtu(rtnl_));
  const std::string& name = names_.gateway_bridge();
  MUSTER_ASSIGN(bridge_index_, ensure_bridge(rtnl_, {name, mac_of(pool_.gateway_v6()), mtu_},
                                             fmt::format("muster {} gateway", names_.instance())));
  MUSTER_TRY(write_sysctl("net.ipv4.ip_forward", "1"));
  if (!host_has_ipv6()) return ok_status();
  MUSTER_TRY(forward_ipv6());
  const Status claimed = rtnl_.run(claim_subnet(bridge_index_, pool_.subnet_v6()));
  return claimed.code() == StatusCode::kAlreadyExists ? ok_status() : claimed;
}

Status Gateway::add_subnet(const std::vector<Prefix>& avoid) {
  MUSTER_ASSIGN(const RangeSet host, local_ranges_());
  std::vector<Prefix> taken = host.all();
  taken.insert(taken.end(), avoid.begin(), avoid.end());
  if (bridge_index_ == 0) MUSTER_TRY(make_bridge());
  for (int i = 0; i < kClaimsMax; ++i) {
    const auto subnet = pool_.propose(RangeSet(taken));
    if (!subnet) break;
    const Status claimed = rtnl_.run(claim_subnet(bridge_index_, *subnet));
    if (claimed.code() == StatusCode::kAlreadyExists) {
      taken.push_back(*subnet);
      continue;
    }
    MUSTER_TRY(claimed);
    // Nobody gets an address there before the rules let it out.
    NetworkRules with = own_rules();
    with.subnets.push_back(subnet->str());
    Status ours = nft_.run(add_network_rules(names_.table(), with));
    if (ours.ok()) ours = pool_.add(*subnet);
    if (!ours.ok()) {
      (void)rtnl_.run(give_up_subnet(bridge_index_, *subnet));
      return ours;
    }
    log_->info("containers on overlay networks reach this node and what is behind it by {}",
               subnet->str());
    return ok_status();
  }
  return failed_precondition(
      "no private range of addresses is left for containers on this node to lead out by: its "
      "routes and the networks it takes part in have all of them");
}

Result<Gateway::Lease> Gateway::acquire(const std::string& link, bool v6,
                                        const std::vector<Prefix>& avoid) {
  if (const Lease* known = find(link)) return *known;
  const RangeSet networks(avoid);
  auto place = bridge_index_ == 0 ? std::nullopt : pool_.take(networks);
  if (!place) {
    const Status added = add_subnet(avoid);
    place = added.ok() ? pool_.take(networks) : std::nullopt;
    if (!place) {
      if (leases_.empty()) (void)remove_bridge();
      return fail(added.ok() ? internal_error("a fresh subnet has no address") : added);
    }
  }
  Lease lease;
  lease.link = link;
  lease.mtu = mtu_;
  lease.address = place->address;
  lease.gateway = place->gateway;
  for (const Prefix& subnet : pool_.subnets()) {
    if (subnet.contains(place->address)) lease.length = subnet.length;
  }
  if (v6 && host_has_ipv6()) lease.address_v6 = pool_.to_v6(place->address);
  lease.gateway_v6 = pool_.gateway_v6();
  leases_[link] = lease;
  return lease;
}

std::vector<Message> Gateway::addresses(int index, const Lease& lease) const {
  std::vector<Message> out;
  out.push_back(add_peer_address(index, lease.gateway, lease.address));
  out.push_back(add_peer_route(index, lease.address));
  if (lease.address_v6) {
    out.push_back(add_peer_address(index, lease.gateway_v6, *lease.address_v6));
    out.push_back(add_peer_route(index, *lease.address_v6));
    out.push_back(neighbour(index, lease));
  }
  return out;
}

Status Gateway::make(const Lease& lease, VethSpec veth, bool exists,
                     std::string_view container_id) {
  if (!exists) {
    // In one go, so that no end is ever without its alias.
    std::vector<Message> batch;
    batch.push_back(new_veth(veth));
    batch.push_back(set_routed(lease.link, alias(lease, container_id), kernel_has_ipv6()));
    Status made = rtnl_.run(batch);
    if (!made.ok()) {
      // Left by a container of the same name whose namespace is on its way out.
      MUSTER_TRY(rtnl_.run(delete_link(lease.link)));
      made = rtnl_.run(batch);
    }
    if (!made.ok()) {
      (void)rtnl_.run(delete_link(lease.link));
      return made;
    }
  }
  MUSTER_ASSIGN(const auto link, find_link(rtnl_, lease.link));
  if (!link) return internal_error("interface {} vanished", lease.link);
  return rtnl_.run(addresses(link->index, lease));
}

const Gateway::Lease* Gateway::find(const std::string& link) const {
  const auto it = leases_.find(link);
  return it == leases_.end() ? nullptr : &it->second;
}

Status Gateway::release(const std::string& link) {
  const auto it = leases_.find(link);
  if (it == leases_.end()) return ok_status();
  pool_.put_back(it->second.address);
  leases_.erase(it);
  return leases_.empty() ? remove_bridge() : ok_status();
}

Status Gateway::remove_bridge() {
  const NetworkRules old = own_rules();
  const bool any = !pool_.subnets().empty();
  pool_.clear();
  bridge_index_ = 0;
  MUSTER_TRY(rtnl_.run(delete_link(names_.gateway_bridge())));
  if (!any) return ok_status();
  Status ran = nft_.run(remove_network_rules(names_.table(), old));
  // Rules that somebody else flushed need not be removed.
  return ran.code() == StatusCode::kNotFound ? ok_status() : ran;
}

Status Gateway::sweep(const std::set<std::string>& keep) {
  MUSTER_ASSIGN(const auto links, list_links(rtnl_));
  std::vector<Message> deletions;
  for (const Link& link : links) {
    // One that is half made is made anew when it is wanted.
    const bool wanted = keep.contains(link.name) && read_alias(link).has_value();
    if (names_.is_our_way(link.name) && !wanted) deletions.push_back(delete_link(link.name));
  }
  MUSTER_TRY(rtnl_.run(deletions));
  MUSTER_TRY(scan());
  return leases_.empty() && bridge_index_ != 0 ? remove_bridge() : ok_status();
}

Status Gateway::restore_rules() {
  const std::optional<NetworkRules> known = rules();
  return known ? nft_.run(add_network_rules(names_.table(), *known)) : ok_status();
}

const Prefix* Gateway::overlap(const Prefix& network) const {
  for (const Prefix& subnet : pool_.subnets()) {
    if (subnet.overlaps(network)) return &subnet;
  }
  return nullptr;
}

void Gateway::repair(std::vector<std::string>& said, std::vector<std::string>& failed) {
  if (leases_.empty()) return;
  keep_forwarding(host_has_ipv6(), said, failed);
  const auto tell = [&](const Status& done, std::string what) {
    if (done.ok()) {
      said.push_back(std::move(what));
    } else {
      failed.push_back(fmt::format("{}: {}", what, done.message()));
    }
  };
  const auto links = list_links(rtnl_);
  const auto routes = list_routes(rtnl_);
  const auto known = list_addresses(rtnl_);
  if (!links || !routes || !known) return;
  const bool bridge = std::any_of(links->begin(), links->end(), [&](const Link& l) {
    return l.name == names_.gateway_bridge() && l.index == bridge_index_;
  });
  if (!bridge) {
    tell(make_bridge(), fmt::format("bridge {} was gone", names_.gateway_bridge()));
  }
  const auto routed = [&](int interface, const Prefix& destination) {
    return std::any_of(routes->begin(), routes->end(), [&](const Route& r) {
      return r.interface == interface && r.destination == destination;
    });
  };
  std::vector<Prefix> subnets = pool_.subnets();
  // That of IPv6 is there with the bridge, unless it is another instance's.
  const Prefix& six = pool_.subnet_v6();
  const bool taken = std::any_of(routes->begin(), routes->end(),
                                 [&](const Route& r) { return r.destination == six; });
  if (bridge && host_has_ipv6() && !taken) subnets.push_back(six);
  for (const Prefix& subnet : subnets) {
    if (bridge && routed(bridge_index_, subnet)) continue;
    tell(rtnl_.run(claim_subnet(bridge_index_, subnet)),
         fmt::format("the route to {} was gone", subnet.str()));
  }
  for (const Link& link : *links) {
    const Lease* lease = find(link.name);
    if (lease == nullptr) continue;
    const bool v4 = std::any_of(known->begin(), known->end(), [&](const auto& entry) {
      return entry.first == link.index && entry.second.ip == lease->gateway;
    });
    const bool v6 =
        !lease->address_v6 || std::any_of(known->begin(), known->end(), [&](const auto& entry) {
          return entry.first == link.index && entry.second.ip == lease->gateway_v6;
        });
    const bool route =
        routed(link.index, {lease->address, lease->address.bits()}) &&
        (!lease->address_v6 || routed(link.index, {*lease->address_v6, lease->address_v6->bits()}));
    if (v4 && v6 && route) continue;
    tell(rtnl_.run(addresses(link.index, *lease)),
         fmt::format("the way out of a container ({}) had lost its {}", lease->address.str(),
                     v4 && v6 ? "route" : "address"));
  }
}

}  // namespace muster::overlay
