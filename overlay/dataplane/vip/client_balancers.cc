#include "overlay/dataplane/vip/client_balancers.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <utility>

#include "base/fnv.h"
#include "overlay/balancer/ipvs_plan.h"
#include "overlay/balancer/vip_plan.h"
#include "overlay/dataplane/host/bridges.h"
#include "overlay/dataplane/vip/client_place.h"
#include "overlay/dataplane/vip/client_rules.h"
#include "overlay/dataplane/vip/ipvs_place.h"
#include "overlay/dataplane/vip/ipvs_rules.h"

namespace muster::overlay {
namespace {

// Where a client's counts begin: anywhere, but the same after a restart.
uint32_t origin_of(const std::string& container_id) {
  return fnv1a_32(container_id) & 0xffff;
}

bool in_any(const std::vector<Prefix>& subnets, const Ip& ip) {
  return std::any_of(subnets.begin(), subnets.end(),
                     [&](const Prefix& subnet) { return subnet.contains(ip); });
}

bool takes_datagrams(v1::EndpointState state) {
  return state == v1::ENDPOINT_READY || state == v1::ENDPOINT_DRAINING;
}
bool keeps_flows(v1::EndpointState state) {
  return takes_datagrams(state) || state == v1::ENDPOINT_RELEASED;
}

std::vector<Ip> of_family(const std::vector<Ip>& ips, bool v6) {
  std::vector<Ip> out;
  std::copy_if(ips.begin(), ips.end(), std::back_inserter(out),
               [&](const Ip& ip) { return ip.v6 == v6; });
  return out;
}

bool has_backend(const VipPool& pool, const Ip& ip) {
  return std::any_of(pool.backends.begin(), pool.backends.end(),
                     [&](const VipBackend& backend) { return backend.ip == ip; });
}

template <class Map>
std::set<std::string> keys_of(const Map& map) {
  std::set<std::string> out;
  for (const auto& [key, value] : map) out.insert(key);
  return out;
}

std::vector<Ip> parse_all(const google::protobuf::RepeatedPtrField<std::string>& texts) {
  std::vector<Ip> out;
  for (const std::string& text : texts) {
    if (const auto ip = Ip::parse(text)) out.push_back(*ip);
  }
  return out;
}

}  // namespace

// ---------------------------------------------------------------- clients

ClientBalancers::ClientBalancers(Executor& chores, Log log, BalancerChoice choice, size_t most)
    : flows_(chores, log), log_(std::move(log)), choice_(choice), most_(most) {
  (choice_.ipvs ? pools_ : slots_) = true;
  if (!choice_.on_use) return;
  uses_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  if (uses_) return;
  log_->warn("which services containers use cannot be watched, so they have all tasks of each: {}",
             errno_status(errno, "epoll").message());
  choice_.on_use = false;
}

void ClientBalancers::provide(bool ipvs) {
  if (std::exchange(ipvs ? pools_ : slots_, true)) return;
  for (auto& [id, network] : networks_) {
    rescale(network);
    for (auto& [vip, entry] : network.vips) spread(network, vip, entry);
  }
}

Status ClientBalancers::make_place(bool ipvs, const std::string& container_id,
                                   const std::string& netns,
                                   std::shared_ptr<ClientNamespace>& place) {
  const uint32_t origin = origin_of(container_id);
  if (ipvs) {
    MUSTER_ASSIGN(place, IpvsPlace::open(netns, choice_.ipvs_family, origin, choice_.on_use));
  } else {
    MUSTER_ASSIGN(place, ClientPlace::open(netns, origin));
  }
  return ok_status();
}

Result<std::shared_ptr<ClientNamespace>> ClientBalancers::open_place(
    const std::string& container_id, const std::string& netns) {
  std::shared_ptr<ClientNamespace> place;
  MUSTER_TRY(make_place(choice_.ipvs, container_id, netns, place));
  // What a container began with it keeps: its connections would break.
  if (choice_.ipvs_family == 0) return place;
  MUSTER_ASSIGN(const bool other,
                place->has_rules(choice_.ipvs ? vip_rules_marker() : ipvs_rules_marker()));
  if (!other) return place;
  MUSTER_TRY(make_place(!choice_.ipvs, container_id, netns, place));
  provide(!choice_.ipvs);
  return place;
}

Result<ClientBalancers::Client*> ClientBalancers::open(const std::string& container_id,
                                                       const std::string& netns) {
  Client& client = clients_[container_id];
  if (client.place == nullptr || client.netns != netns) {
    unwatch_uses(client);
    auto place = open_place(container_id, netns);
    if (!place) {
      clients_.erase(container_id);
      return fail(place.error());
    }
    client.place = *std::move(place);
    client.netns = netns;
    watch_uses(container_id, client);
  }
  MUSTER_ASSIGN(client.addresses, client.place->own_addresses());
  return &client;
}

Status ClientBalancers::attach(const std::string& container_id, const std::string& netns) {
  // Under the same path there may be another namespace by now.
  detach(container_id);
  MUSTER_ASSIGN(Client* const client, open(container_id, netns));
  if (networks_.empty()) return ok_status();
  MUSTER_TRY(client->place->ensure_loaded());
  const std::vector<VipWish> wishes = all_wishes(*client);
  return wishes.empty() ? ok_status() : bring(container_id, *client, wishes);
}

Status ClientBalancers::adopt(const std::string& container_id, const std::string& netns) {
  auto client = open(container_id, netns);
  return client ? ok_status() : client.error();
}

void ClientBalancers::detach(const std::string& container_id) {
  auto client = clients_.extract(container_id);
  if (client.empty()) return;
  unwatch_uses(client.mapped());
  // Closing its sockets can take the kernel a while.
  flows_.dispose(std::move(client.mapped().place));
}

void ClientBalancers::watch_uses(const std::string& container_id, Client& client) {
  if (!choice_.on_use || client.place->name() != kIpvsBalancer) return;
  if (client.place->uses() < 0) {
    log_->warn(
        "container {}: somebody in it listens for NFLOG group {}, so it has all tasks of every "
        "service from the start",
        container_id, kFirstUseGroup);
    return;
  }
  client.serial = ++last_serial_;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = client.serial;
  if (::epoll_ctl(uses_.get(), EPOLL_CTL_ADD, client.place->uses(), &event) != 0) {
    // They are found with the next look at the kernel.
    log_->warn("container {}: which services it uses is noticed late: {}", container_id,
               errno_status(errno, "epoll").message());
    return;
  }
  by_serial_[client.serial] = container_id;
}

void ClientBalancers::unwatch_uses(Client& client) {
  if (by_serial_.erase(client.serial) != 0) {
    (void)::epoll_ctl(uses_.get(), EPOLL_CTL_DEL, client.place->uses(), nullptr);
  }
  if (client.place != nullptr) client.place->give_up_uses();
}

void ClientBalancers::serve_uses() {
  if (!uses_) return;
  std::array<epoll_event, 64> events;
  const int count = ::epoll_wait(uses_.get(), events.data(), events.size(), 0);
  for (int i = 0; i < count; ++i) {
    const auto container = by_serial_.find(events[static_cast<size_t>(i)].data.u64);
    if (container == by_serial_.end()) continue;
    Client& client = clients_.at(container->second);
    if (const Status done = client.place->serve_uses(); !done.ok()) {
      client.behind = true;
      log_->warn("virtual addresses of container {}: {}", container->second, done.message());
    }
  }
}

std::optional<Ip> ClientBalancers::source(const Client& client, const Network& network, bool v6) {
  for (const Ip& ip : client.addresses) {
    if (ip.v6 == v6 && in_any(network.subnets, ip)) return ip;
  }
  return std::nullopt;
}

bool ClientBalancers::is_in(const Client& client, const Network& network) {
  return source(client, network, false) || source(client, network, true);
}

// ---------------------------------------------------------------- what was told

Status ClientBalancers::describe(Network& network, const NetworkTruth& truth) {
  network.name = truth.network.spec().annotations().name();
  for (const auto& pool : truth.network.state().pools()) {
    MUSTER_ASSIGN(const Prefix subnet, Prefix::parse(pool.subnet()));
    network.subnets.push_back(subnet);
  }
  MUSTER_ASSIGN(network.mtu, network_mtu(truth.network));
  return ok_status();
}

bool ClientBalancers::note_tasks(Network& network, const NetworkTruth& truth,
                                 const std::set<std::string>& ids,
                                 std::set<std::string>& services) {
  bool stale = false;
  for (const std::string& id : ids) {
    const auto told = truth.endpoints.find(id);
    Task now;
    if (told != truth.endpoints.end()) now = {told->second.service_id(), told->second.state()};
    Task& known = network.tasks[id];
    now.lost = !keeps_flows(now.state) && (known.lost || keeps_flows(known.state));
    const Task before = std::exchange(known, now);
    stale = stale || (takes_datagrams(before.state) && !takes_datagrams(now.state)) ||
            (keeps_flows(before.state) && !keeps_flows(now.state)) ||
            (before.lost && told == truth.endpoints.end());
    for (const std::string& service : {before.service_id, now.service_id}) {
      if (!service.empty()) services.insert(service);
    }
    if (before.service_id != now.service_id) network.members[before.service_id].erase(id);
    if (told == truth.endpoints.end()) {
      network.tasks.erase(id);
    } else {
      network.members[now.service_id].insert(id);
    }
    if (network.members[before.service_id].empty()) network.members.erase(before.service_id);
  }
  return stale;
}

ClientBalancers::Members ClientBalancers::members_of(const Network& network,
                                                     const NetworkTruth& truth,
                                                     const std::string& service_id) {
  Members out;
  const auto members = network.members.find(service_id);
  if (members == network.members.end()) return out;
  for (const std::string& task : members->second) {
    const v1::NetworkEndpoint& endpoint = truth.endpoints.at(task);
    for (const Ip& ip : parse_all(endpoint.addresses())) {
      switch (endpoint.state()) {
        case v1::ENDPOINT_READY: out.ready.push_back({ip, std::max(endpoint.weight(), 1u)}); break;
        case v1::ENDPOINT_DRAINING: out.draining.push_back(ip); break;
        case v1::ENDPOINT_RELEASED: out.released.push_back(ip); break;
        default: out.absent.push_back(ip);
      }
    }
  }
  return out;
}

void ClientBalancers::forget_service(Network& network, const std::string& service_id,
                                     Changed& changed) {
  const auto vips = network.service_vips.extract(service_id);
  if (vips.empty()) return;
  for (const Ip& vip : vips.mapped()) {
    const auto at = network.vips.find(vip);
    if (at == network.vips.end() || at->second.service_id != service_id) continue;
    network.vips.erase(at);
    changed.insert(vip);
  }
}

void ClientBalancers::gather_service(Network& network, const NetworkTruth& truth,
                                     const std::string& service_id, Changed& changed,
                                     Changed& due) {
  const auto service = truth.services.find(service_id);
  if (service == truth.services.end()) return forget_service(network, service_id, changed);
  const std::vector<Ip> vips = parse_all(service->second.virtual_ips());
  if (network.service_vips[service_id] != vips) forget_service(network, service_id, changed);
  network.service_vips[service_id] = vips;
  Members members = members_of(network, truth, service_id);
  std::sort(members.ready.begin(), members.ready.end());
  for (const Ip& vip : vips) {
    Vip& entry = network.vips[vip];
    entry.service_id = service_id;
    entry.name = service->second.name();
    entry.policy = spread_policy(service->second);
    const bool was_crowded = crowded(entry);
    entry.backends.clear();
    std::copy_if(members.ready.begin(), members.ready.end(), std::back_inserter(entry.backends),
                 [&](const VipBackend& backend) { return backend.ip.v6 == vip.v6; });
    entry.draining = of_family(members.draining, vip.v6);
    entry.others = of_family(members.released, vip.v6);
    // One that was never led to has no flows; what an earlier process led to is not known.
    for (const Ip& ip : of_family(members.absent, vip.v6)) {
      if (entry.pool == nullptr || has_backend(*entry.pool, ip)) entry.others.push_back(ip);
    }
    if (crowded(entry) && !was_crowded) {
      log_->warn("service {} has {} tasks in network {}: {} leads to {} of them at a time",
                 entry.name, entry.backends.size(), network.name, vip.str(), most_);
    }
    std::vector<uint32_t> weights;
    for (const VipBackend& backend : entry.backends) weights.push_back(backend.weight);
    entry.equal = as_equal_backends(weights);
    due.insert(vip);
  }
}

bool ClientBalancers::rescale(Network& network) {
  if (!slots_) return false;
  std::vector<size_t> backends;
  std::vector<HeldSlots> former;
  size_t kept = 0;  // slots, should maps stay as large as they are
  for (const auto& [vip, entry] : network.vips) {
    backends.push_back(entry.equal);
    const VipSpreadPtr spread = entry.spread ? entry.spread : former_spread(network, vip);
    const size_t have = spread ? spread->slots.size() : 0;
    if (have != 0 && !network.scaled) {
      former.push_back({have, std::set<Ip>(spread->slots.begin(), spread->slots.end()).size()});
    }
    if (entry.equal != 0) kept += kept_slot_count(entry.equal, have);
  }
  // After a restart: to begin with the default again could mean to make all maps anew.
  if (!std::exchange(network.scaled, true)) network.scale = scale_of(former);
  const SlotScale before = std::exchange(network.scale, slot_scale(backends, network.scale));
  network.snug = network.scale == SlotScale() && kept > kSlotsOfNetwork;
  if (network.scale == before) return network.snug;
  log_->warn(
      "network {} has {} virtual addresses: each has {} slots for each of its tasks, and {} "
      "at least, in every container",
      network.name, backends.size(), network.scale.times, network.scale.least);
  return true;
}

void ClientBalancers::spread_due(Network& network, Changed due, Changed& changed) {
  if (rescale(network)) {
    for (const auto& [vip, entry] : network.vips) due.insert(vip);
  }
  for (const Ip& vip : due) {
    const auto at = network.vips.find(vip);
    if (at == network.vips.end()) continue;
    const auto before = std::pair(at->second.spread, at->second.pool);
    spread(network, vip, at->second);
    if (std::pair(at->second.spread, at->second.pool) != before) changed.insert(vip);
  }
}

std::vector<std::string> ClientBalancers::limitations() const {
  std::vector<std::string> out;
  for (const auto& [id, network] : networks_) {
    if (network.scale != SlotScale()) {
      out.push_back(
          fmt::format("network {} has too many services for all the slots that they would "
                      "have in each container: their tasks' shares are less even",
                      network.name));
    }
    for (const auto& [vip, entry] : network.vips) {
      if (!crowded(entry)) continue;
      out.push_back(
          fmt::format("service {} has {} tasks in network {}: {} leads to {} of them at a time, "
                      "and others have their turn with every look at the kernel",
                      entry.name, entry.backends.size(), network.name, vip.str(), most_));
    }
  }
  return out;
}

// What a former process had, so that nothing is moved that need not be.
VipSpreadPtr ClientBalancers::former_spread(const Network& network, const Ip& vip) {
  for (const auto& [id, client] : clients_) {
    if (!is_in(client, network)) continue;
    if (VipSpreadPtr spread = client.place->spread_of(vip)) return spread;
  }
  return nullptr;
}

void ClientBalancers::spread(const Network& network, const Ip& vip, Vip& entry) {
  if (pools_) {
    entry.pool = pool_vip(entry.pool, entry.policy, entry.backends, entry.draining, entry.others);
  }
  if (!slots_) return;
  if (entry.spread == nullptr) entry.spread = former_spread(network, vip);
  entry.spread = spread_vip(entry.spread, entry.backends, entry.policy.by_source(), network.turn,
                            {network.scale.least, network.scale.times, most_}, network.snug);
}

std::map<Ip, VipFlowsPtr> ClientBalancers::flows_of(const Network& network,
                                                    const NetworkTruth& truth,
                                                    const Changed& vips) {
  std::map<Ip, VipFlowsPtr> out;
  for (const Ip& vip : vips) {
    auto flows = std::make_shared<VipFlows>();
    const auto entry = network.vips.find(vip);
    flows->served = entry != network.vips.end();
    const auto members = entry == network.vips.end()
                             ? network.members.end()
                             : network.members.find(entry->second.service_id);
    if (members != network.members.end()) {
      for (const std::string& task : members->second) {
        const v1::NetworkEndpoint& endpoint = truth.endpoints.at(task);
        for (const Ip& ip : parse_all(endpoint.addresses())) {
          if (takes_datagrams(endpoint.state())) flows->datagrams.insert(ip);
          if (keeps_flows(endpoint.state())) flows->others.insert(ip);
          flows->known.insert(ip);
        }
      }
    }
    out.emplace(vip, std::move(flows));
  }
  return out;
}

// ---------------------------------------------------------------- bringing it about

std::optional<VipWish> ClientBalancers::wish(const Client& client, const Network& network,
                                             const Ip& vip) {
  const auto at = network.vips.find(vip);
  if (at == network.vips.end()) return VipWish{vip, nullptr, nullptr, {}, {}, 0};
  const auto own = source(client, network, vip.v6);
  if (!own) return std::nullopt;
  return VipWish{vip, at->second.spread, at->second.pool, at->second.name, *own, network.mtu};
}

std::vector<VipWish> ClientBalancers::all_wishes(const Client& client) const {
  std::vector<VipWish> wishes;
  std::set<Ip> wished;
  for (const auto& [id, network] : networks_) {
    for (const auto& [vip, entry] : network.vips) {
      auto wanted = wish(client, network, vip);
      if (!wanted) continue;
      wished.insert(vip);
      wishes.push_back(*std::move(wanted));
    }
  }
  // What is of networks that were not told of yet stays.
  for (const Ip& vip : client.place->in_force()) {
    if (wished.contains(vip)) continue;
    for (const auto& [id, network] : networks_) {
      if (!in_any(network.subnets, vip)) continue;
      wishes.push_back({vip, nullptr, nullptr, {}, {}, 0});
      break;
    }
  }
  return wishes;
}

Status ClientBalancers::bring(const std::string& container_id, Client& client,
                              const std::vector<VipWish>& wishes) {
  Status done = client.place->apply(wishes);
  client.behind = client.behind || !done.ok();
  return done.with_context("virtual addresses of container " + container_id);
}

Status ClientBalancers::apply(const NetworkTruth& truth, const NetworkDifference& difference) {
  const std::string& id = truth.network.id();
  // Nothing was said yet but of its members; or the mesh's own network, where nobody is a client.
  if (id.empty() || truth.network.spec().ingress()) return ok_status();
  const auto known = networks_.find(id);
  const bool first = known == networks_.end();
  // Known once it can be described.
  Network described;
  if (first || difference.network) MUSTER_TRY(describe(described, truth));
  Network& network = first ? networks_[id] : known->second;
  Changed changed;
  if (first || difference.network) {
    network.name = std::move(described.name);
    network.subnets = std::move(described.subnets);
    network.mtu = described.mtu;
    for (const auto& [vip, entry] : network.vips) changed.insert(vip);
  }
  // Of an adopted client it is not known yet what it has.
  for (auto& [container, client] : clients_) {
    if (!first || !is_in(client, network)) continue;
    if (const Status read = client.place->ensure_loaded(); !read.ok()) {
      log_->warn("container {}: {}", container, read.message());
    }
  }
  std::set<std::string> services = first ? keys_of(truth.services) : difference.service_ids;
  const bool stale =
      note_tasks(network, truth, first ? keys_of(truth.endpoints) : difference.task_ids, services);
  // An address can go from one service to another.
  for (const std::string& service : services) {
    if (truth.services.count(service) == 0) forget_service(network, service, changed);
  }
  Changed touched = changed;
  Changed due;
  for (const std::string& service : services) {
    gather_service(network, truth, service, changed, due);
    const auto vips = network.service_vips.find(service);
    if (vips != network.service_vips.end()) {
      touched.insert(vips->second.begin(), vips->second.end());
    }
  }
  spread_due(network, std::move(due), changed);
  touched.insert(changed.begin(), changed.end());
  flows_.allow(flows_of(network, truth, touched));
  Status outcome;
  std::map<ClientFlows::Socket, ClientFlows::Due> flows;
  for (auto& [container, client] : clients_) {
    if (!is_in(client, network)) continue;
    if (first || stale) {
      ClientFlows::Due due{client.place->name() == kIpvsBalancer ? LedBy::kIpvs : LedBy::kNftables,
                           {}};
      // A look at a table of connections is dear, and addresses that a container does not use are
      // many.
      std::copy_if(touched.begin(), touched.end(), std::inserter(due.vips, due.vips.end()),
                   [&](const Ip& vip) { return first || client.place->may_have_used(vip); });
      if (!due.vips.empty()) flows.emplace(client.place->connections(), std::move(due));
    }
    std::vector<VipWish> wishes;
    // Where an earlier step failed, all of it again: what does not differ costs nothing.
    if (first || difference.network || client.behind) {
      wishes = all_wishes(client);
    } else {
      for (const Ip& vip : changed) {
        if (auto wanted = wish(client, network, vip)) wishes.push_back(*std::move(wanted));
      }
    }
    if (wishes.empty()) continue;
    if (Status done = bring(container, client, wishes); !done.ok() && outcome.ok()) outcome = done;
  }
  flows_.clear(flows);
  return outcome;
}

void ClientBalancers::forget(const std::string& network_id) {
  const auto node = networks_.extract(network_id);
  if (node.empty()) return;
  const Network& network = node.mapped();
  std::map<Ip, VipFlowsPtr> none;
  for (const auto& [vip, entry] : network.vips) none.emplace(vip, std::make_shared<VipFlows>());
  flows_.allow(none);
  for (auto& [container, client] : clients_) {
    if (!is_in(client, network)) continue;
    std::vector<VipWish> wishes;
    for (const Ip& vip : client.place->in_force()) {
      if (in_any(network.subnets, vip)) wishes.push_back({vip, nullptr, nullptr, {}, {}, 0});
    }
    if (wishes.empty()) continue;
    if (const Status done = bring(container, client, wishes); !done.ok()) {
      log_->warn("{}", done.message());
    }
  }
}

// ---------------------------------------------------------------- repair

void ClientBalancers::turn_subsets() {
  for (auto& [id, network] : networks_) {
    Changed changed;
    network.turn = next_turn(network.turn, most_);
    for (auto& [vip, entry] : network.vips) {
      if (!crowded(entry)) continue;
      spread(network, vip, entry);
      changed.insert(vip);
    }
    if (changed.empty()) continue;
    for (auto& [container, client] : clients_) {
      std::vector<VipWish> wishes;
      for (const Ip& vip : changed) {
        if (source(client, network, vip.v6)) wishes.push_back(*wish(client, network, vip));
      }
      if (wishes.empty()) continue;
      if (const Status done = bring(container, client, wishes); !done.ok()) {
        log_->warn("{}", done.message());
      }
    }
  }
}

std::vector<std::string> ClientBalancers::begin_repair() {
  turn_subsets();
  std::vector<std::string> containers;
  for (const auto& [container, client] : clients_) containers.push_back(container);
  return containers;
}

void ClientBalancers::repair(const std::string& container_id, std::vector<std::string>& said) {
  // It may have ended meanwhile.
  const auto client = clients_.find(container_id);
  if (client != clients_.end()) mend(container_id, client->second, said);
}

void ClientBalancers::mend(const std::string& container_id, Client& client,
                           std::vector<std::string>& said) {
  const std::string whose = "container " + container_id;
  const auto drifted = client.place->drifted();
  if (drifted && !*drifted && !client.behind) {
    (void)bring(container_id, client, {});
    return;
  }
  if (const Status read = client.place->load(); !read.ok()) {
    log_->warn("{}: {}", whose, read.message());
    return;
  }
  if (client.place->setting_was_lost()) {
    said.push_back(whose + (client.place->name() == kNftablesBalancer
                                ? " answered for virtual addresses on the wire"
                                : " had other settings than its virtual addresses need"));
  }
  const std::vector<VipWish> wishes = all_wishes(client);
  std::vector<std::string> differences;
  for (const VipWish& w : wishes) {
    if (client.place->as_wished(w)) continue;
    differences.push_back(
        w.gone()
            ? fmt::format("{} had virtual address {}, which is no service's", whose, w.vip.str())
            : fmt::format("{} did not lead virtual address {} of service {} as it should", whose,
                          w.vip.str(), w.name));
  }
  client.behind = false;
  if (const Status done = bring(container_id, client, wishes); !done.ok()) {
    log_->warn("{}", done.message());
    return;
  }
  said.insert(said.end(), differences.begin(), differences.end());
}

}  // namespace muster::overlay
