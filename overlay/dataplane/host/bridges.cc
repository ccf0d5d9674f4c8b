#include "overlay/dataplane/host/bridges.h"

#include <algorithm>
#include <map>
#include <utility>

#include "overlay/dataplane/kernel/links.h"
#include "overlay/dataplane/kernel/sysctl.h"
#include "overlay/ipam/ip.h"
#include "overlay/ipam/mtu.h"

namespace muster::overlay {
namespace {

constexpr std::string_view kInternalMark = " internal";

// A bridge's alias says whose it is, for people and for scan(): "muster INSTANCE NETWORK[
// internal]"
std::string alias_of(const Names& names, const std::string& network_id, bool internal) {
  return fmt::format("muster {} {}{}", names.instance(), network_id,
                     internal ? kInternalMark : std::string_view());
}

}  // namespace

Result<uint32_t> network_mtu(const v1::Network& network) {
  MUSTER_ASSIGN(const uint32_t wanted, wanted_mtu(network.spec()));
  if (wanted != 0) return wanted;
  if (network.state().mtu() != 0) return network.state().mtu();
  return network.spec().driver() == "bridge" ? 1500u : 1450u;
}

Status Bridges::scan() {
  MUSTER_ASSIGN(const auto links, list_links(rtnl_));
  MUSTER_ASSIGN(const auto addresses, list_addresses(rtnl_));
  bridges_.clear();
  std::map<int, std::string> by_index;
  const std::string ours = fmt::format("muster {} ", names_.instance());
  for (const Link& link : links) {
    if (!names_.is_our_bridge(link.name)) continue;
    Bridge bridge;
    bridge.index = link.index;
    bridge.grown = true;
    bridge.rules.bridge = link.name;
    std::string_view alias = link.alias;
    if (alias.starts_with(ours)) alias.remove_prefix(ours.size());
    bridge.rules.internal = alias.ends_with(kInternalMark);
    if (bridge.rules.internal) alias.remove_suffix(kInternalMark.size());
    bridge.network_id = std::string(alias);
    by_index.emplace(link.index, link.name);
    bridges_.emplace(link.name, std::move(bridge));
  }
  for (const Link& link : links) {
    const auto bridge = by_index.find(link.master);
    if (bridge != by_index.end()) bridges_[bridge->second].ports.insert(link.name);
  }
  const Prefix link_local{Ip{true, Uint128{0xfe80} << 112}, 10};
  for (const auto& [index, cidr] : addresses) {
    const auto bridge = by_index.find(index);
    if (bridge == by_index.end() || link_local.contains(cidr.ip)) continue;
    MUSTER_ASSIGN(const Prefix subnet, Prefix::parse(cidr.str()));
    bridges_[bridge->second].rules.subnets.push_back(subnet.str());
  }
  return ok_status();
}

Status Bridges::create(const v1::Network& network, const std::string& name) {
  const bool internal = network.spec().internal();
  MUSTER_ASSIGN(const uint32_t mtu, network_mtu(network));
  NetworkRules rules{name, internal, {}};
  std::vector<Cidr> gateways;
  for (const auto& pool : network.state().pools()) {
    MUSTER_ASSIGN(const Prefix subnet, Prefix::parse(pool.subnet()));
    MUSTER_ASSIGN(const Ip gateway, Ip::parse(pool.gateway()));
    if (subnet.base.v6 && !kernel_has_ipv6()) {
      return failed_precondition("network {} has IPv6 subnet {}, but IPv6 is off on this node",
                                 network.spec().annotations().name(), subnet.str());
    }
    gateways.push_back({gateway, subnet.length});
    rules.subnets.push_back(subnet.str());
  }
  if (gateways.empty()) {
    return failed_precondition("network {} has no subnet yet", network.spec().annotations().name());
  }
  MUSTER_ASSIGN(const int index, ensure_bridge(rtnl_, {name, mac_of(gateways.front().ip), mtu},
                                               alias_of(names_, network.id(), internal)));
  std::vector<Message> addresses;
  bool v6 = false;
  for (const Cidr& gateway : gateways) {
    addresses.push_back(add_address(index, gateway));
    v6 = v6 || gateway.ip.v6;
  }
  if (!v6 && kernel_has_ipv6()) {
    // No link-local address, no router solicitation on a network that has no IPv6.
    (void)write_sysctl("net/ipv6/conf/" + name + "/disable_ipv6", "1");
  }
  if (v6) {
    // No probing for duplicates, during which no neighbour would be asked for.
    MUSTER_TRY(write_sysctl("net/ipv6/conf/" + name + "/accept_dad", "0"));
    MUSTER_TRY(write_sysctl("net/ipv6/conf/" + name + "/dad_transmits", "0"));
  }
  MUSTER_TRY(rtnl_.run(addresses));
  // Lets the node's own processes reach published ports at 127.0.0.1; the rules drop such addresses
  // from anywhere else.
  MUSTER_TRY(write_sysctl("net/ipv4/conf/" + name + "/route_localnet", "1"));
  MUSTER_TRY(write_sysctl("net.ipv4.ip_forward", "1"));
  if (v6) MUSTER_TRY(forward_ipv6());
  MUSTER_TRY(nft_.run(add_network_rules(names_.table(), rules)));
  bridges_[name] = Bridge{index, network.id(), std::move(rules), {}, false};
  log_->debug("bridge {} made for network {}", name, network.spec().annotations().name());
  return ok_status();
}

Status Bridges::grow(const v1::Network& network, Bridge& bridge) {
  NetworkRules rules = bridge.rules;
  std::vector<Message> addresses;
  for (const auto& pool : network.state().pools()) {
    MUSTER_ASSIGN(const Prefix subnet, Prefix::parse(pool.subnet()));
    if (std::find(rules.subnets.begin(), rules.subnets.end(), subnet.str()) !=
        rules.subnets.end()) {
      continue;
    }
    MUSTER_ASSIGN(const Ip gateway, Ip::parse(pool.gateway()));
    addresses.push_back(add_address(bridge.index, {gateway, subnet.length}));
    rules.subnets.push_back(subnet.str());
  }
  if (addresses.empty()) return ok_status();
  MUSTER_TRY(rtnl_.run(addresses));
  MUSTER_TRY(nft_.run(add_network_rules(names_.table(), rules)));
  bridge.rules = std::move(rules);
  bridge.grown = true;
  return ok_status();
}

bool Bridges::take_grown(const std::string& network_id) {
  const auto it = bridges_.find(names_.bridge(network_id));
  return it != bridges_.end() && std::exchange(it->second.grown, false);
}

Result<int> Bridges::acquire(const v1::Network& network, const std::string& port) {
  const std::string name = names_.bridge(network.id());
  auto it = bridges_.find(name);
  if (it == bridges_.end()) {
    if (Status made = create(network, name); !made.ok()) {
      (void)rtnl_.run(delete_link(name));
      return fail(made.with_context("network " + network.spec().annotations().name()));
    }
    it = bridges_.find(name);
  } else if (Status grown = grow(network, it->second); !grown.ok()) {
    return fail(grown.with_context("network " + network.spec().annotations().name()));
  }
  it->second.ports.insert(port);
  return it->second.index;
}

Status Bridges::remove(const std::string& name) {
  const auto it = bridges_.find(name);
  if (it == bridges_.end()) return ok_status();
  const NetworkRules rules = it->second.rules;
  bridges_.erase(it);
  MUSTER_TRY(rtnl_.run(delete_link(name)));
  Status ran = nft_.run(remove_network_rules(names_.table(), rules));
  // Rules that somebody else flushed need not be removed.
  if (ran.code() == StatusCode::kNotFound) return ok_status();
  return ran;
}

Status Bridges::release(const std::string& port) {
  std::vector<std::string> unused;
  for (auto& [name, bridge] : bridges_) {
    if (bridge.ports.erase(port) != 0 && bridge.ports.empty()) unused.push_back(name);
  }
  for (const std::string& name : unused) MUSTER_TRY(remove(name));
  return ok_status();
}

Status Bridges::sweep(const std::set<std::string>& keep) {
  MUSTER_ASSIGN(const auto links, list_links(rtnl_));
  std::vector<Message> deletions;
  for (const Link& link : links) {
    if (names_.is_our_veth(link.name) && keep.count(link.name) == 0) {
      deletions.push_back(delete_link(link.name));
    }
  }
  MUSTER_TRY(rtnl_.run(deletions));
  MUSTER_TRY(scan());
  std::vector<std::string> unused;
  for (const auto& [name, bridge] : bridges_) {
    if (bridge.ports.empty()) unused.push_back(name);
  }
  for (const std::string& name : unused) MUSTER_TRY(remove(name));
  return ok_status();
}

bool Bridges::has_port(const std::string& port) const {
  return std::any_of(bridges_.begin(), bridges_.end(),
                     [&](const auto& entry) { return entry.second.ports.contains(port); });
}

void Bridges::repair(std::vector<std::string>& said, std::vector<std::string>& failed) const {
  if (bridges_.empty()) return;
  const bool v6 = std::any_of(bridges_.begin(), bridges_.end(), [](const auto& entry) {
    const auto& subnets = entry.second.rules.subnets;
    return std::any_of(subnets.begin(), subnets.end(), [](const std::string& subnet) {
      return subnet.find(':') != std::string::npos;
    });
  });
  keep_forwarding(v6, said, failed);
}

std::vector<NetworkRules> Bridges::rules() const {
  std::vector<NetworkRules> out;
  for (const auto& [name, bridge] : bridges_) out.push_back(bridge.rules);
  return out;
}

Status Bridges::restore_rules() {
  std::string commands;
  for (const NetworkRules& rules : rules()) commands += add_network_rules(names_.table(), rules);
  return commands.empty() ? ok_status() : nft_.run(commands);
}

}  // namespace muster::overlay
