#include "overlay/dataplane/host/published_ports.h"

#include <netinet/in.h>

#include <algorithm>
#include <map>
#include <utility>

#include "overlay/dataplane/kernel/conntrack.h"
#include "overlay/ipam/ip.h"
#include "overlay/ipam/port_options.h"
#include "overlay/ipam/port_pool.h"

namespace muster::overlay {
namespace {

bool is_v6(const std::string& address) {
  return address.find(':') != std::string::npos;
}

// Bound to an address of a family that nothing has which it leads to: nobody answers there.
bool unreached(const v1::PortConfig& port, const std::vector<std::string>& ways) {
  const auto bind = Ip::parse(port.bind());
  return bind && std::none_of(ways.begin(), ways.end(),
                              [&](const auto& way) { return is_v6(way) == bind->v6; });
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
  limits_.clear();
  std::map<FrontendKey, std::pair<const v1::PortConfig*, Frontend>> wanted;
  for (const PublishedPort& p : ports) {
    Frontend frontend = frontend_of(p);
    if (frontend.backends.empty()) continue;
    if (unreached(p.port, frontend.backends)) {
      limits_.push_back(
          fmt::format("published port {} answers nowhere: what it leads to has no address of IPv{}",
                      published_name(p.port), is_v6(p.port.bind()) ? 6 : 4));
      continue;
    }
    wanted[frontend.key] = {&p.port, frontend};
  }
  Status outcome;
  std::vector<Frontend> frontends;
  std::set<FrontendKey> keys;
  std::set<FrontendKey> taken;
  for (const auto& [key, published] : wanted) keys.insert(key);
  held_.adopt();
  held_.release_moved(std::exchange(keys, {}));
  for (auto& [key, published] : wanted) {
    auto& [port, frontend] = published;
    const auto& all = frontend.backends;
    const HostPorts::Families families{!std::all_of(all.begin(), all.end(), is_v6),
                                       std::any_of(all.begin(), all.end(), is_v6)};
    if (const Status held = held_.hold(key, families); !held.ok()) {
      // A port that was ours before a restart stays ours: its rules never stopped to lead traffic.
      const bool led = in_force.contains(key);
      if (held.code() == StatusCode::kAlreadyExists) {
        if (conflicts != nullptr) conflicts->push_back(*port);
        if (outcome.ok()) outcome = held;
      } else {
        note_not_held(*port, led, held);
      }
      if (!led) continue;
      taken.insert(key);
      if (!taken_.contains(key)) {
        log_->warn("{}, but its traffic already goes to containers", held.message());
      }
    }
    keys.insert(key);
    note_crowded(frontend);
    frontends.push_back(std::move(frontend));
  }
  taken_ = std::move(taken);
  const auto removed = balancer_.apply(frontends);
  if (!removed) return removed.error();
  held_.release_all_but(keys);
  flush(*removed);
  return outcome;
}

// Nobody else has it, and it is tried again with every look at the kernel.
void PublishedPorts::note_not_held(const v1::PortConfig& port, bool led, const Status& why) {
  limits_.push_back(fmt::format("published port {} {}: {}", published_name(port),
                                led ? "is not kept from other programs" : "does not answer here",
                                why.message()));
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
Frontend PublishedPorts::frontend_of(const PublishedPort& published) const {
  const v1::PortConfig& port = published.port;
  const bool host = port.mode() == v1::PortConfig::HOST;
  Frontend out;
  out.key = {port.protocol(), port.published_port(), port.bind()};
  out.target_port = port.target_port();
  out.masquerade = port.client_address() == v1::PortConfig::MASQUERADE;
  out.policy = {published.balancing, Duration(published.affinity_ns)};
  for (const std::string& backend : published.backends) {
    const auto whose = published.containers.find(backend);
    const auto by =
        whose == published.containers.end() ? ways_.end() : ways_.find({whose->second, backend});
    const std::string& way =
        by == ways_.end() || (!host && reached(backend)) ? backend : by->second;
    if (way.empty()) continue;
    out.backends.push_back(way);
    const auto weight = published.weights.find(backend);
    if (weight != published.weights.end()) out.weights[way] = weight->second;
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
                     static_cast<uint16_t>(r.key.port), Lasting::kAnswered});
  }
  sweeper_.forget(std::move(flows));
}

void PublishedPorts::forget_addresses(const std::vector<std::string>& addresses) {
  const std::set<std::string> gone(addresses.begin(), addresses.end());
  // What it has may be somebody else's already, who is reached otherwise.
  std::erase_if(ways_, [&](const auto& way) {
    return gone.contains(way.second.empty() ? way.first.second : way.second);
  });
  std::vector<FlowFilter> flows;
  for (const std::string& text : addresses) {
    if (const auto ip = Ip::parse(text)) flows.push_back({*ip});
  }
  sweeper_.forget(std::move(flows));
}

}  // namespace muster::overlay
