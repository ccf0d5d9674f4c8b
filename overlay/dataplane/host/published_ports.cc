#include "overlay/dataplane/host/published_ports.h"

#include <netinet/in.h>

#include <algorithm>
#include <map>
#include <utility>

#include "overlay/dataplane/kernel/conntrack.h"
#include "overlay/ipam/ip.h"
#include "overlay/ipam/port_pool.h"

namespace muster::overlay {
namespace {

bool is_v6(const std::string& address) {
  return address.find(':') != std::string::npos;
}

// Bound to an address of a family that no backend has: nobody answers there.
bool unreached(const PublishedPort& p) {
  const auto bind = Ip::parse(p.port.bind());
  return bind && std::none_of(p.backends.begin(), p.backends.end(),
                              [&](const auto& b) { return is_v6(b) == bind->v6; });
}

uint8_t protocol_number(v1::PortConfig::Protocol protocol) {
  switch (protocol) {
    case v1::PortConfig::UDP: return IPPROTO_UDP;
    case v1::PortConfig::SCTP: return IPPROTO_SCTP;
    default: return IPPROTO_TCP;
  }
}

}  // namespace

Status PublishedPorts::set(const std::vector<PublishedPort>& ports,
                           std::vector<v1::PortConfig>* conflicts) {
  if (conflicts != nullptr) conflicts->clear();
  const auto in_force_list = balancer_.in_force();
  const std::set<FrontendKey> in_force(in_force_list.begin(), in_force_list.end());
  std::map<FrontendKey, const PublishedPort*> wanted;
  for (const PublishedPort& p : ports) {
    if (p.backends.empty() || unreached(p)) continue;
    wanted[{p.port.protocol(), p.port.published_port(), p.port.bind()}] = &p;
  }
  Status outcome;
  std::vector<Frontend> frontends;
  std::set<FrontendKey> keys;
  std::set<FrontendKey> taken;
  limits_.clear();
  for (const auto& [key, published] : wanted) keys.insert(key);
  held_.adopt();
  held_.release_moved(std::exchange(keys, {}));
  for (const auto& [key, published] : wanted) {
    const auto& all = published->backends;
    const HostPorts::Families families{!std::all_of(all.begin(), all.end(), is_v6),
                                       std::any_of(all.begin(), all.end(), is_v6)};
    if (Status held = held_.hold(key, families); !held.ok()) {
      if (conflicts != nullptr) conflicts->push_back(published->port);
      if (outcome.ok()) outcome = held;
      // A port that was ours before a restart stays ours: its rules never stopped to lead traffic.
      if (!in_force.contains(key)) continue;
      taken.insert(key);
      if (!taken_.contains(key)) {
        log_->warn("{}, but its traffic already goes to containers", held.message());
      }
    }
    keys.insert(key);
    Frontend& frontend = frontends.emplace_back();
    frontend.key = key;
    frontend.target_port = published->port.target_port();
    frontend.backends = ways_to(*published);
    frontend.masquerade = published->port.client_address() == v1::PortConfig::MASQUERADE;
    frontend.policy = {published->balancing, Duration(published->affinity_ns)};
    for (size_t i = 0; i < frontend.backends.size(); ++i) {
      const auto weight = published->weights.find(published->backends[i]);
      if (weight != published->weights.end()) {
        frontend.weights[frontend.backends[i]] = weight->second;
      }
    }
    note_crowded(frontend);
  }
  taken_ = std::move(taken);
  const auto removed = balancer_.apply(frontends);
  if (!removed) return removed.error();
  held_.release_all_but(keys);
  flush(*removed);
  return outcome;
}

void PublishedPorts::note_crowded(const Frontend& frontend) {
  const auto& backends = frontend.backends;
  const auto v6 = static_cast<size_t>(std::count_if(backends.begin(), backends.end(), is_v6));
  const size_t count = std::max(v6, backends.size() - v6);
  if (count <= balancer_.most()) return;
  limits_.push_back(fmt::format(
      "published port {}/{} leads to {} of {} tasks at a time, and others have their "
      "turn with every look at the kernel",
      frontend.key.port, protocol_name(frontend.key.protocol), balancer_.most(), count));
}

bool PublishedPorts::reach(const std::vector<Prefix>& subnets) {
  if (reached_ == subnets) return false;
  reached_ = subnets;
  return true;
}

bool PublishedPorts::reached(const std::string& address) const {
  const auto ip = Ip::parse(address);
  return ip && std::any_of(reached_.begin(), reached_.end(),
                           [&](const Prefix& subnet) { return subnet.contains(*ip); });
}

// A port of the host leads over the way: by the routing mesh a task answers its ports of the mesh
// alone.
std::vector<std::string> PublishedPorts::ways_to(const PublishedPort& published) const {
  const bool host = published.port.mode() == v1::PortConfig::HOST;
  std::vector<std::string> out;
  for (const std::string& backend : published.backends) {
    const auto whose = published.containers.find(backend);
    const auto by =
        whose == published.containers.end() ? ways_.end() : ways_.find({whose->second, backend});
    out.push_back(by == ways_.end() || (!host && reached(backend)) ? backend : by->second);
  }
  return out;
}

void PublishedPorts::flush(const std::vector<RemovedBackend>& removed) {
  std::vector<FlowFilter> flows;
  for (const RemovedBackend& r : removed) {
    const auto ip = Ip::parse(r.address);
    if (!ip) continue;
    // Connections that are up, or coming up, may belong to a container that drains;
    // forget_addresses() ends them with the container. Another port may lead there still.
    flows.push_back({*ip, protocol_number(r.key.protocol), static_cast<uint16_t>(r.target_port),
                     static_cast<uint16_t>(r.key.port), /*keep_answered=*/true});
  }
  sweeper_.forget(std::move(flows));
}

void PublishedPorts::forget_addresses(const std::vector<std::string>& addresses) {
  const std::set<std::string> gone(addresses.begin(), addresses.end());
  // What it has may be somebody else's already, who is reached otherwise.
  std::erase_if(ways_, [&](const auto& way) { return gone.contains(way.second); });
  std::vector<FlowFilter> flows;
  for (const std::string& text : addresses) {
    if (const auto ip = Ip::parse(text)) flows.push_back({*ip, std::nullopt, 0, 0, false});
  }
  sweeper_.forget(std::move(flows));
}

}  // namespace muster::overlay
