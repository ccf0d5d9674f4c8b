#include "agent/routes/port_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

namespace muster::agent {
namespace {

using overlay::PublishedPort;

constexpr std::string_view kLoopback4 = "127.0.0.1";
constexpr std::string_view kLoopback6 = "::1";

bool is_v6(const std::string& address) {
  return address.find(':') != std::string::npos;
}

std::string with_port(std::string_view address, uint32_t port) {
  return address.find(':') == std::string_view::npos ? fmt::format("{}:{}", address, port)
                                                     : fmt::format("[{}]:{}", address, port);
}

// Where a relay that has the whole port listens: a bind is nothing, an interface or an address.
std::vector<std::string> listen_at(const v1::PortConfig& port) {
  const std::string& bind = port.bind();
  const bool address =
      is_v6(bind) || (!bind.empty() && bind.find_first_not_of("0123456789.") == std::string::npos);
  if (address) return {with_port(bind, port.published_port())};
  const std::string device = bind.empty() ? "" : "%" + bind;
  return {with_port("0.0.0.0" + device, port.published_port()),
          with_port("::" + device, port.published_port())};
}

// A task is reached by its IPv4 address, if there are such; how often, as where the kernel leads.
void lead_to_tasks(const PublishedPort& port, v1::NetdRelay& relay) {
  const bool any_v4 = !std::all_of(port.backends.begin(), port.backends.end(), is_v6);
  for (const std::string& backend : port.backends) {
    if (is_v6(backend) == any_v4) continue;
    relay.add_backends(with_port(backend, port.port.target_port()));
    const auto weight = port.weights.find(backend);
    relay.add_weights(weight == port.weights.end() ? 1 : std::max(weight->second, 1u));
  }
  const auto& weights = relay.weights();
  if (std::all_of(weights.begin(), weights.end(), [](uint32_t w) { return w == 1; })) {
    relay.clear_weights();
  }
  relay.set_by_client(port.balancing == v1::EndpointSpec::SOURCE_HASH || port.affinity_ns > 0);
}

PortRelay relay_of(const PublishedPort& port, std::string_view place) {
  PortRelay out;
  out.port = port.port;
  out.relay.set_id(fmt::format("{}/{}{}{}",
                               port.port.protocol() == v1::PortConfig::UDP ? "udp" : "tcp",
                               port.port.published_port(), place.empty() ? "" : "/", place));
  return out;
}

// With a header in front, all of the port's connections.
PortRelay header_relay(const PublishedPort& port) {
  PortRelay out = relay_of(port, port.port.bind());
  for (std::string& where : listen_at(port.port)) out.relay.add_listen(std::move(where));
  lead_to_tasks(port, out.relay);
  out.relay.set_proxy_protocol(port.port.proxy_protocol());
  return out;
}

// At ::1: by 127.0.0.1, where the kernel leads it on; where that is not to be had, by itself.
PortRelay loopback_relay(const PublishedPort& port) {
  PortRelay out = relay_of(port, kLoopback6);
  out.loopback = port.port.bind() != kLoopback6;
  out.relay.add_listen(with_port(kLoopback6, port.port.published_port()));
  const bool v4 = !std::all_of(port.backends.begin(), port.backends.end(), is_v6);
  if (v4 && out.loopback) {
    out.relay.add_backends(with_port(kLoopback4, port.port.published_port()));
  } else {
    lead_to_tasks(port, out.relay);
  }
  return out;
}

}  // namespace

std::vector<PublishedPort> merge_ports(std::vector<PublishedPort> own,
                                       std::vector<PublishedPort> far) {
  const auto key = [](const PublishedPort& port) {
    return std::tuple(port.owner, int{port.port.protocol()}, port.port.published_port(),
                      port.port.target_port());
  };
  std::multimap<decltype(key(PublishedPort())), size_t> places;
  for (size_t i = 0; i < far.size(); ++i) {
    if (far[i].port.local()) far[i].backends.clear();
    places.emplace(key(far[i]), i);
  }
  std::vector<PublishedPort> out;
  for (PublishedPort& port : own) {
    const auto [begin, end] = places.equal_range(key(port));
    if (begin == end) out.push_back(std::move(port));
    for (auto it = begin; it != end; ++it) {
      auto& backends = far[it->second].backends;
      backends.insert(backends.end(), port.backends.begin(), port.backends.end());
      far[it->second].containers.insert(port.containers.begin(), port.containers.end());
    }
  }
  for (PublishedPort& port : far) {
    std::sort(port.backends.begin(), port.backends.end());
    port.backends.erase(std::unique(port.backends.begin(), port.backends.end()),
                        port.backends.end());
    out.push_back(std::move(port));
  }
  return out;
}

PortPlan plan_ports(const std::vector<PublishedPort>& ports, bool masquerade) {
  PortPlan out;
  for (const PublishedPort& port : ports) {
    const bool tcp = port.port.protocol() == v1::PortConfig::TCP;
    const bool relayed = tcp || port.port.protocol() == v1::PortConfig::UDP;
    const bool ingress = port.port.mode() == v1::PortConfig::INGRESS;
    const std::string& bind = port.port.bind();
    if (tcp && port.port.proxy_protocol() != 0) {
      if (!port.backends.empty()) out.relays.push_back(header_relay(port));
      continue;
    }
    // Managers refuse it (overlay/ipam/port_options.cc): a relay does not know by which address the
    // host reaches the container.
    if (bind == kLoopback6 && !ingress) continue;
    const bool at_loopback = bind.empty() || bind == "lo" || bind == kLoopback6;
    if (relayed && at_loopback && !port.backends.empty())
      out.relays.push_back(loopback_relay(port));
    if (bind == kLoopback6 && relayed) continue;
    out.kernel.push_back(port);
    if (ingress && masquerade && port.port.client_address() == v1::PortConfig::AUTOMATIC) {
      out.kernel.back().port.set_client_address(v1::PortConfig::MASQUERADE);
    }
  }
  std::sort(out.relays.begin(), out.relays.end(),
            [](const PortRelay& a, const PortRelay& b) { return a.relay.id() < b.relay.id(); });
  return out;
}

}  // namespace muster::agent
