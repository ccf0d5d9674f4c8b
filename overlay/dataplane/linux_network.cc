#include "overlay/dataplane/linux_network.h"

#include <linux/netlink.h>
#include <unistd.h>

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "overlay/dataplane/container/container_namespace.h"
#include "overlay/dataplane/host/ruleset.h"
#include "overlay/dataplane/linux_network_impl.h"
#include "overlay/dataplane/segment/vxlan_probe.h"
#include "overlay/ipam/mtu.h"

namespace muster::overlay {

Status LinuxNetwork::open() {
  {
    std::lock_guard lock(overlay_mutex_);
    MUSTER_TRY(pins_.prepare());
    MUSTER_TRY(esp_.scan());
    MUSTER_TRY(segments_.scan());
    MUSTER_TRY(mesh_.scan());
    MUSTER_TRY(adopt_clients());
    if (uses_ == nullptr && clients_.uses() >= 0) {
      MUSTER_ASSIGN(uses_, UseWatcher::start(clients_.uses(), [this] {
                      std::lock_guard lock(overlay_mutex_);
                      clients_.serve_uses();
                    }));
    }
  }
  MUSTER_TRY(reach_tasks());
  std::lock_guard lock(mutex_);
  MUSTER_TRY(bridges_.scan());
  MUSTER_TRY(gateway_.scan());
  // Whether the table is one of ours or of a former version: what it leads goes on.
  if (const Status found = balancer_.load(); !found.ok()) log_->warn("{}", found.message());
  MUSTER_TRY(ensure_table());
  MUSTER_TRY(adopt_containers());
  torn_down_ = false;
  return ok_status();
}

Status LinuxNetwork::reopen() {
  {
    std::lock_guard lock(mutex_);
    if (!torn_down_) return ok_status();
  }
  return open();
}

NftTable LinuxNetwork::table() const {
  return {"inet", names_.table(), base_ruleset(names_.table(), names_.ways_out(), names_.ways_in()),
          is_frontend_name};
}

// Makes our table when it is missing (a first start, a firewall that flushed everything), of
// another version or changed by somebody else, and learns what it holds.
// What is known of networks and published ports is in it from its first moment on.
Status LinuxNetwork::ensure_table() {
  NftTable wanted = table();
  std::vector<NetworkRules> networks = bridges_.rules();
  if (auto ways = gateway_.rules()) networks.push_back(*std::move(ways));
  for (const NetworkRules& network : networks) {
    wanted.contents += add_network_rules(names_.table(), network);
  }
  wanted.contents += balancer_.contents();
  if (const auto kept = keep_table(*nft_, wanted); !kept) {
    return failed_precondition(
        "cannot set up network rules, the kernel needs nftables with NAT "
        "(modules nf_tables, nft_chain_nat, nft_fib_inet): {}",
        kept.error().message());
  }
  MUSTER_TRY(bridges_.restore_rules());
  MUSTER_TRY(gateway_.restore_rules());
  return balancer_.load();
}

// Containers of a former process are not attached again; their addresses are in their namespaces.
Status LinuxNetwork::adopt_containers() {
  MUSTER_ASSIGN(const auto pinned, pins_.list());
  std::vector<std::string> containers;
  for (const std::string& name : pinned) {
    if (!Segments::is_pin(name)) containers.push_back(name);
  }
  std::map<std::string, std::vector<Ip>> found;
  MUSTER_TRY(visit_addresses(pins_, containers, [&](const std::string& name, const Ip& ip) {
    found[name].push_back(ip);
  }));
  for (const auto& [name, addresses] : found) remember(name, addresses);
  return ok_status();
}

// What their namespaces have of virtual addresses stays until their networks are told of. Of what
// they were given otherwise nothing is missing when the rest looks at them.
Status LinuxNetwork::adopt_clients() {
  MUSTER_ASSIGN(auto pinned, pins_.list());
  std::erase_if(pinned, Segments::is_pin);
  MUSTER_TRY(upkeep_.open(pinned));
  for (const std::string& name : pinned) {
    const Status kept = upkeep_.adopt(name);
    if (!kept.ok()) log_->warn("container {}: {}", name, kept.message());
    const Status adopted = clients_.adopt(name, pins_.path(name));
    if (!adopted.ok()) log_->warn("container {}: {}", name, adopted.message());
  }
  return ok_status();
}

// Notes what a container has, and how the host reaches it.
void LinuxNetwork::remember(const std::string& container_id, const std::vector<Ip>& addresses) {
  auto& known = addresses_[container_id];
  known.clear();
  for (const Ip& ip : addresses) known.push_back(ip.str());
  const Gateway::Lease* lease = gateway_.find(names_.way_out(container_id));
  if (lease == nullptr) lease = gateway_.find(names_.way_in(container_id));
  if (lease == nullptr) return;
  for (const Ip& ip : addresses) {
    if (!ip.v6) ports_.lead(container_id, ip.str(), lease->address.str());
    // Without an address in IPv6 there is none by which the host reaches it.
    if (ip.v6) {
      ports_.lead(container_id, ip.str(), lease->address_v6 ? lease->address_v6->str() : "");
    }
  }
}

Status LinuxNetwork::set_published_ports(const std::vector<PublishedPort>& ports,
                                         std::vector<v1::PortConfig>* conflicts) {
  MUSTER_TRY(reopen());
  std::lock_guard lock(mutex_);
  ports_told_ = ports;
  Status set = ports_.set(ports, conflicts);
  if (set.code() == StatusCode::kNotFound) {
    log_->warn("the network rules of this node were gone and are made anew: {}", set.message());
    MUSTER_TRY(ensure_table());
    set = ports_.set(ports, conflicts);
  }
  note_port_limits();
  return set;
}

// With mutex_ held.
void LinuxNetwork::note_port_limits() {
  std::lock_guard lock(limits_mutex_);
  port_limits_ = ports_.limitations();
}

Status LinuxNetwork::set_local_node(const LocalNode& node) {
  {
    std::lock_guard lock(overlay_mutex_);
    node_ = node;
    // In a swarm it takes part in networks; who places tasks is told before they come.
    if (!node.data_path_addr.empty()) (void)segments_.vxlan_trouble();
    note_limits();
    const Status encrypted = follow_encryption();
    MUSTER_TRY(segments_.set_local_node(node, truths_));
    MUSTER_TRY(apply_mesh({}));
    MUSTER_TRY(encrypted);
  }
  return reach_tasks();
}

Status LinuxNetwork::set_encryption(const Encryption& encryption) {
  MUSTER_TRY(reopen());
  std::lock_guard lock(overlay_mutex_);
  MUSTER_TRY(follow_encryption());
  const Status set = esp_.set_encryption(encryption);
  note_limits();
  return set;
}

// Once segments have what was told of the ingress network.
Status LinuxNetwork::apply_mesh(const NetworkDifference& difference) {
  for (const auto& [id, truth] : truths_.all()) {
    if (truth.network.spec().ingress()) return mesh_.apply(truth, difference, node_.node_id);
  }
  return ok_status();
}

// Once the network leads to nobody who is gone. Ports that do for a moment find out by themselves
// what they had led there meanwhile.
void LinuxNetwork::follow_flows(const NetworkTruth& truth, const NetworkDifference& difference) {
  const bool first = !flows_.begun();
  std::vector<FlowFilter> stale;
  for (const Ip& ip : flows_.apply(truth, difference)) {
    stale.push_back({ip});
  }
  // Who went while no process was here.
  if (first) clear_flows(truth.network);
  sweeper_.forget(std::move(stale));
  sweeper_.lose(flows_.lost());
}

void LinuxNetwork::forget_flows(const v1::Network& network) {
  flows_ = {};
  sweeper_.lose({});
  clear_flows(network);
}

void LinuxNetwork::clear_flows(const v1::Network& network) {
  const auto clear = [&]() -> Status {
    MUSTER_ASSIGN(const std::vector<Prefix> subnets, subnets_of(network));
    // The sweeper's own is its thread's.
    MUSTER_ASSIGN(NetlinkSocket conntrack, FlowSweeper::open_socket());
    MUSTER_ASSIGN(const std::set<Ip> led, led_backends(conntrack, subnets));
    std::vector<FlowFilter> stale;
    for (const Ip& ip : led) {
      if (!flows_.knows(ip)) stale.push_back({ip});
    }
    if (stale.empty()) return ok_status();
    const auto swept = delete_flows(conntrack, stale);
    return swept ? ok_status() : swept.error();
  };
  if (const Status cleared = clear(); !cleared.ok()) {
    log_->warn("cannot clear stale connections: {}", cleared.message());
  }
}

// With overlay_mutex_ held.
void LinuxNetwork::note_limits() {
  std::lock_guard lock(limits_mutex_);
  limits_.clear();
  if (!mesh_.limitation().empty()) limits_.push_back(mesh_.limitation());
  if (const std::string limit = esp_.limitation(); !limit.empty()) limits_.push_back(limit);
  no_overlays_ = segments_.known_vxlan_trouble();
  if (!no_overlays_.empty()) {
    limits_.push_back("no container can enter an overlay network here: " + no_overlays_);
  }
  for (std::string& trouble : segments_.troubles()) limits_.push_back(std::move(trouble));
  for (std::string& limit : clients_.limitations()) limits_.push_back(std::move(limit));
}

// Tasks in the ingress network are reached there, those of this node, too: their answers go by it.
Status LinuxNetwork::reach_tasks() {
  std::vector<Prefix> subnets;
  {
    std::lock_guard lock(overlay_mutex_);
    subnets = mesh_.reaches();
  }
  std::lock_guard lock(mutex_);
  ports_stale_ = ports_.reach(subnets) || ports_stale_;
  if (!ports_stale_ || ports_told_.empty()) return ok_status();
  const Status set = ports_.set(ports_told_, nullptr);
  // Ports that are taken have been told.
  if (!set.ok() && set.code() != StatusCode::kAlreadyExists) return set;
  ports_stale_ = false;
  return ok_status();
}

// Subnets of the node's own are chosen when nothing overlaps them. Only containers that are in a
// network which does so now cannot reach a part of it; attach() gives those an address elsewhere.
void LinuxNetwork::warn_of_overlap(const v1::Network& network) {
  const auto subnets = subnets_of(network);
  if (!subnets) return;
  std::lock_guard lock(mutex_);
  for (const Prefix& subnet : *subnets) {
    const Prefix* ours = gateway_.overlap(subnet);
    if (ours == nullptr) continue;
    log_->warn(
        "network {} ({}) overlaps {}, by which containers reach this node; those that enter it get "
        "an address elsewhere",
        network.spec().annotations().name(), subnet.str(), ours->str());
  }
}

Status LinuxNetwork::apply(const NetworkStep& step) {
  MUSTER_TRY(reopen());
  std::optional<v1::Network> news;
  bool ingress = false;
  Status applied;
  {
    std::lock_guard lock(overlay_mutex_);
    NetworkDifference& difference = due_[step.network_id];
    const NetworkDifference told = truths_.apply(step);
    difference.add(told);
    const NetworkTruth& truth = *truths_.find(step.network_id);
    if (difference.network) news = truth.network;
    // Before anything can leave.
    if (is_encrypted(truth.network.spec())) applied = follow_encryption();
    const Status segment = segments_.apply(truth, difference);
    if (applied.ok()) applied = segment;
    ingress = truth.network.spec().ingress();
    if (ingress) {
      const Status mesh = mesh_.apply(truth, difference, node_.node_id);
      if (applied.ok()) applied = mesh;
      follow_flows(truth, told);
    }
    // Once other nodes can be reached.
    const Status led = clients_.apply(truth, difference);
    note_limits();
    if (applied.ok()) applied = led;
  }
  if (news) {
    warn_of_overlap(*news);
    const Status fit = fit_containers(*news);
    if (applied.ok()) applied = fit;
    const Status led = is_overlay(*news) ? lead_to_subnets(*news, nullptr) : ok_status();
    if (applied.ok()) applied = led;
  }
  // Steps of one network come one after another.
  if (applied.ok()) {
    std::lock_guard lock(overlay_mutex_);
    due_.erase(step.network_id);
  }
  if (ingress) {
    const Status reached = reach_tasks();
    if (applied.ok()) applied = reached;
  }
  return applied.with_context("network " + step.network_id);
}

Status LinuxNetwork::forget_network(const std::string& network_id) {
  {
    std::lock_guard lock(overlay_mutex_);
    const NetworkTruth* truth = truths_.find(network_id);
    if (truth != nullptr && truth->network.spec().ingress()) forget_flows(truth->network);
    truths_.forget(network_id);
    due_.erase(network_id);
    MUSTER_TRY(mesh_.forget(network_id));
    clients_.forget(network_id);
    MUSTER_TRY(segments_.forget(network_id));
    MUSTER_TRY(follow_encryption());
  }
  return reach_tasks();
}

std::vector<std::string> LinuxNetwork::repair() {
  std::vector<std::string> said;
  std::vector<std::string> clients;
  {
    std::lock_guard lock(overlay_mutex_);
    esp_.repair(segments_.tunnel_vnis(), said);
    if (!segments_.known_vxlan_trouble().empty()) (void)segments_.vxlan_trouble();
    segments_.repair(said);
    mesh_.repair(said);
    note_limits();
    clients = clients_.begin_repair();
  }
  // What is told meanwhile does not wait for all of them.
  for (const std::string& container : clients) {
    std::lock_guard lock(overlay_mutex_);
    clients_.repair(container, said);
  }
  (void)reach_tasks();
  repair_subnets(said);
  upkeep_.repair(said);
  std::vector<std::string> failed;
  {
    std::lock_guard lock(mutex_);
    if (torn_down_) return said;
    bridges_.repair(said, failed);
    gateway_.repair(said, failed);
    repair_table(said, failed);
    turn_ports();
  }
  std::sort(failed.begin(), failed.end());
  failed.erase(std::unique(failed.begin(), failed.end()), failed.end());
  std::lock_guard lock(limits_mutex_);
  host_troubles_ = std::move(failed);
  return said;
}

// Ports with more tasks than slots: other tasks have their turn. Those that could not be held are
// tried again.
void LinuxNetwork::turn_ports() {
  if (!ports_.limitations().empty()) {
    balancer_.turn();
    const Status set = ports_.set(ports_told_, nullptr);
    if (!set.ok() && set.code() != StatusCode::kAlreadyExists) log_->warn("{}", set.message());
  }
  note_port_limits();
}

// The kernel counts the changes of a namespace's rules, whoever makes them: while there was none
// since the table was found right, it is not read.
void LinuxNetwork::repair_table(std::vector<std::string>& said, std::vector<std::string>& failed) {
  if (!generations_) {
    auto opened = WireSocket::open(NETLINK_NETFILTER);
    if (opened) generations_ = *std::move(opened);
  }
  const auto generation = nft_generation(generations_);
  if (generation && seen_ == *generation) return;
  seen_.reset();
  const auto listing = nft_->list(names_.table());
  if (!listing && listing.error().code() != StatusCode::kNotFound) return;
  const size_t before = said.size();
  Status mended;
  if (listing && table_is_as_made(*listing, table().commands, is_frontend_name)) {
    mended = mend_table(*listing, said);
  } else {
    said.push_back(listing ? "the network rules of this node were changed"
                           : "the network rules of this node were gone");
    mended = ensure_table();
    if (mended.ok()) mended = ports_.set(ports_told_, nullptr);
  }
  if (!mended.ok()) {
    said.resize(before);
    failed.push_back(
        fmt::format("the network rules of this node are not as told: {}", mended.message()));
    return;
  }
  // What was mended is looked at once more.
  if (said.size() == before && generation) seen_ = *generation;
}

Status LinuxNetwork::mend_table(const std::string& listing, std::vector<std::string>& said) {
  std::vector<NetworkRules> networks = bridges_.rules();
  if (auto ways = gateway_.rules()) networks.push_back(*std::move(ways));
  MUSTER_ASSIGN(const NetworkRulesRepair repair,
                repair_network_rules(names_.table(), listing, networks));
  if (repair.differences != 0) {
    said.push_back(fmt::format("{} elements of this node's network rules were not as told",
                               repair.differences));
    MUSTER_TRY(nft_->run(repair.commands));
  }
  MUSTER_ASSIGN(const size_t ports, balancer_.look(listing));
  if (ports == 0) return ok_status();
  said.push_back(fmt::format("the rules of {} published ports were changed", ports));
  return ports_.set(ports_told_, nullptr);
}

Status LinuxNetwork::collect_garbage(const std::vector<std::string>& live_container_ids) {
  const std::set<std::string> live(live_container_ids.begin(), live_container_ids.end());
  MUSTER_ASSIGN(const auto pinned, pins_.list());
  std::vector<std::string> dead;
  for (const std::string& name : pinned) {
    if (!Segments::is_pin(name) && !live.contains(name)) dead.push_back(name);
  }
  for (const std::string& name : dead) {
    upkeep_.detach(name);
    std::lock_guard lock(overlay_mutex_);
    clients_.detach(name);
  }
  for (const std::string& name : dead) MUSTER_TRY(pins_.remove(name));
  std::set<std::string> keep = {mesh_.port()};
  for (const std::string& name : live) {
    for (std::string& end : host_ends(name)) keep.insert(std::move(end));
  }
  std::lock_guard overlay_lock(overlay_mutex_);
  MUSTER_TRY(segments_.sweep(keep));
  std::lock_guard lock(mutex_);
  std::erase_if(addresses_, [&](const auto& entry) {
    if (live.contains(entry.first)) return false;
    ports_.forget_addresses(entry.second);
    return true;
  });
  std::erase_if(attached_, [&](const std::string& end) { return !keep.contains(end); });
  MUSTER_TRY(bridges_.sweep(keep));
  return gateway_.sweep(keep);
}

Status LinuxNetwork::teardown() {
  (void)set_published_ports({}, nullptr);
  MUSTER_TRY(collect_garbage({}));
  std::lock_guard overlay_lock(overlay_mutex_);
  MUSTER_TRY(mesh_.remove());
  for (const auto& [id, truth] : truths_.all()) {
    if (truth.network.spec().ingress()) forget_flows(truth.network);
    clients_.forget(id);
    MUSTER_TRY(segments_.forget(id));
  }
  truths_ = {};
  due_.clear();
  MUSTER_TRY(esp_.remove());
  std::lock_guard lock(mutex_);
  MUSTER_TRY(nft_->run(delete_ruleset(names_.table())));
  torn_down_ = true;
  MUSTER_TRY(upkeep_.remove_directory());
  return pins_.remove_directory();
}

Result<std::unique_ptr<NodeNetwork>> make_node_network(const NodeNetworkOptions& options, Log log) {
  if (options.instance_id.empty() || options.instance_id.find('/') != std::string::npos) {
    return fail(invalid_argument("\"{}\" is not an instance id", options.instance_id));
  }
  if (geteuid() != 0) return fail(permission_denied("container networks need root"));
  if (options.balancer.ipvs && !options.balancer.on_use) {
    log->warn(
        "this kernel does not tell which services a container uses (module nfnetlink_log): IPVS "
        "has "
        "all of their tasks in every container from the start, which takes memory");
  }
  MUSTER_ASSIGN(NetlinkSocket rtnl, NetlinkSocket::open(NETLINK_ROUTE));
  MUSTER_ASSIGN(NetlinkSocket overlay_rtnl, NetlinkSocket::open(NETLINK_ROUTE));
  MUSTER_ASSIGN(NetlinkSocket conntrack, FlowSweeper::open_socket());
  MUSTER_ASSIGN(auto nft, LibNft::make());
  MUSTER_ASSIGN(auto overlay_nft, LibNft::make());
  auto network = std::make_unique<LinuxNetwork>(options, std::move(rtnl), std::move(overlay_rtnl),
                                                std::move(conntrack), std::move(nft),
                                                std::move(overlay_nft), std::move(log));
  MUSTER_TRY(network->open());
  return network;
}

}  // namespace muster::overlay
