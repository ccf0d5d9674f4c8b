#include "overlay/dns/name_table.h"

#include <fmt/format.h>

#include <algorithm>

namespace muster::overlay::dns {
namespace {

constexpr std::string_view kTasks = "tasks.";

std::vector<Ip> parse_addresses(const google::protobuf::RepeatedPtrField<std::string>& texts) {
  std::vector<Ip> out;
  for (const std::string& text : texts) {
    if (const auto ip = Ip::parse(text)) out.push_back(*ip);
  }
  return out;
}

void add_name(std::vector<std::string>& names, std::string_view name) {
  std::string lower = lower_case(name);
  if (lower.empty() || std::find(names.begin(), names.end(), lower) != names.end()) return;
  names.push_back(std::move(lower));
}

std::string_view without_underscore(std::string_view label) {
  if (label.starts_with('_')) label.remove_prefix(1);
  return label;
}

bool is_port(const v1::NetdPort& port, std::string_view name, std::string_view protocol) {
  if (port.protocol() != protocol) return false;
  return lower_case(port.name()) == name || fmt::format("{}", port.target()) == name;
}

void sort_unique(std::vector<Ip>& addresses) {
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
}

}  // namespace

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

void NameTable::set(const v1::NetdNetwork& record) {
  Network& network = networks_[record.id()];
  network.name = lower_case(record.name());
  network.subnets.clear();
  for (const std::string& text : record.subnets()) {
    if (const auto subnet = Prefix::parse(text)) network.subnets.push_back(*subnet);
  }
}

void NameTable::set(const v1::NetdService& record) {
  remove_service(record.network_id(), record.id());
  Network& network = networks_[record.network_id()];
  Service service{record, parse_addresses(record.virtual_ips()), {}};
  add_name(service.names, record.name());
  for (const std::string& alias : record.aliases()) add_name(service.names, alias);
  for (const std::string& name : service.names) network.names[name].services.insert(record.id());
  for (const Ip& ip : service.virtual_ips) network.by_address.emplace(ip, record.name());
  network.services[record.id()] = std::move(service);
}

void NameTable::set(const v1::NetdEndpoint& record) {
  remove_endpoint(record.network_id(), record.task_id());
  Network& network = networks_[record.network_id()];
  Endpoint endpoint{record, parse_addresses(record.addresses()), {}, {}};
  add_name(endpoint.shared_names, record.service_name());
  for (const std::string& alias : record.aliases()) add_name(endpoint.shared_names, alias);
  add_name(endpoint.own_names, record.name());
  for (const std::string& name : record.own_names()) add_name(endpoint.own_names, name);
  const std::string& id = record.task_id();
  for (const std::string& name : endpoint.shared_names) network.names[name].members.insert(id);
  for (const std::string& name : endpoint.own_names) network.names[name].tasks.insert(id);
  for (const Ip& ip : endpoint.addresses) network.by_address.emplace(ip, record.name());
  network.endpoints[id] = std::move(endpoint);
}

void NameTable::drop_name(Network& network, const std::string& name,
                          std::set<std::string> Bearers::*kind, const std::string& id) {
  const auto found = network.names.find(name);
  if (found == network.names.end()) return;
  (found->second.*kind).erase(id);
  if (found->second.empty()) network.names.erase(found);
}

void NameTable::erase_address(Network& network, const Ip& ip, const std::string& name) {
  const auto [begin, end] = network.by_address.equal_range(ip);
  for (auto it = begin; it != end; ++it) {
    if (it->second != name) continue;
    network.by_address.erase(it);
    return;
  }
}

void NameTable::forget(Network& network, const Service& service) {
  for (const std::string& name : service.names) {
    drop_name(network, name, &Bearers::services, service.record.id());
  }
  for (const Ip& ip : service.virtual_ips) erase_address(network, ip, service.record.name());
}

void NameTable::forget(Network& network, const Endpoint& endpoint) {
  const std::string& id = endpoint.record.task_id();
  for (const std::string& name : endpoint.shared_names) {
    drop_name(network, name, &Bearers::members, id);
  }
  for (const std::string& name : endpoint.own_names) drop_name(network, name, &Bearers::tasks, id);
  for (const Ip& ip : endpoint.addresses) erase_address(network, ip, endpoint.record.name());
}

void NameTable::remove_network(const std::string& id) {
  networks_.erase(id);
}

void NameTable::remove_service(const std::string& network_id, const std::string& id) {
  const auto network = networks_.find(network_id);
  if (network == networks_.end()) return;
  const auto service = network->second.services.extract(id);
  if (!service.empty()) forget(network->second, service.mapped());
}

void NameTable::remove_endpoint(const std::string& network_id, const std::string& task_id) {
  const auto network = networks_.find(network_id);
  if (network == networks_.end()) return;
  const auto endpoint = network->second.endpoints.extract(task_id);
  if (!endpoint.empty()) forget(network->second, endpoint.mapped());
}

NameAddresses NameTable::find_in(const Network& network, std::string_view name) {
  NameAddresses out;
  const auto add = [&](const std::vector<Ip>& addresses) {
    out.addresses.insert(out.addresses.end(), addresses.begin(), addresses.end());
  };
  if (const auto found = network.names.find(name); found != network.names.end()) {
    out.known = true;
    std::set<std::string_view> balanced;  // services whose virtual address answers
    for (const std::string& id : found->second.services) {
      const Service& service = network.services.at(id);
      if (service.virtual_ips.empty()) continue;
      add(service.virtual_ips);
      balanced.insert(id);
    }
    for (const std::string& id : found->second.members) {
      const Endpoint& endpoint = network.endpoints.at(id);
      if (!endpoint.record.ready() || balanced.contains(endpoint.record.service_id())) continue;
      add(endpoint.addresses);
    }
    for (const std::string& id : found->second.tasks) {
      const Endpoint& endpoint = network.endpoints.at(id);
      if (endpoint.record.ready()) add(endpoint.addresses);
    }
  }
  if (name.starts_with(kTasks)) {
    const auto found = network.names.find(name.substr(kTasks.size()));
    if (found != network.names.end() &&
        (!found->second.services.empty() || !found->second.members.empty())) {
      out.known = true;
      for (const std::string& id : found->second.members) {
        const Endpoint& endpoint = network.endpoints.at(id);
        if (endpoint.record.ready()) add(endpoint.addresses);
      }
    }
  }
  sort_unique(out.addresses);
  return out;
}

template <class Look>
void NameTable::each_reading(const Networks& networks, std::string_view name, Look look) const {
  for (const std::string& id : networks) {
    const auto network = networks_.find(id);
    if (network != networks_.end() && look(network->second, name)) return;
  }
  for (const std::string& id : networks) {
    const auto network = networks_.find(id);
    if (network == networks_.end()) continue;
    const std::string& suffix = network->second.name;
    if (suffix.empty() || name.size() < suffix.size() + 2 || !name.ends_with(suffix)) continue;
    const size_t dot = name.size() - suffix.size() - 1;
    if (name[dot] == '.' && look(network->second, name.substr(0, dot))) return;
  }
}

NameAddresses NameTable::find(const Networks& networks, std::string_view name) const {
  NameAddresses out;
  if (name.empty()) return out;
  each_reading(networks, name, [&](const Network& network, std::string_view reading) {
    out = find_in(network, reading);
    return out.known;
  });
  return out;
}

NameTable::Reverse NameTable::find_address(const Networks& networks, const Ip& address) const {
  Reverse out;
  for (const std::string& id : networks) {
    const auto network = networks_.find(id);
    if (network == networks_.end()) continue;
    const auto found = network->second.by_address.find(address);
    if (found != network->second.by_address.end()) {
      const std::string& suffix = network->second.name;
      return {true, suffix.empty() ? found->second : found->second + "." + suffix};
    }
    for (const Prefix& subnet : network->second.subnets) {
      out.ours = out.ours || subnet.contains(address);
    }
  }
  return out;
}

std::vector<ServiceTarget> NameTable::targets_in(const Network& network, std::string_view port,
                                                 std::string_view protocol,
                                                 std::string_view service_name) {
  std::vector<ServiceTarget> out;
  const auto found = network.names.find(service_name);
  if (found == network.names.end()) return out;
  for (const std::string& id : found->second.services) {
    const Service& service = network.services.at(id);
    for (const v1::NetdPort& candidate : service.record.ports()) {
      if (!is_port(candidate, port, protocol)) continue;
      const auto number = static_cast<uint16_t>(candidate.target());
      if (!service.virtual_ips.empty()) {
        out.push_back({service.record.name(), number, service.virtual_ips});
        continue;
      }
      for (const std::string& task : found->second.members) {
        const Endpoint& endpoint = network.endpoints.at(task);
        if (!endpoint.record.ready() || endpoint.record.service_id() != id) continue;
        out.push_back({endpoint.record.name(), number, endpoint.addresses});
      }
    }
  }
  return out;
}

std::optional<std::vector<ServiceTarget>> NameTable::find_service(const Networks& networks,
                                                                  std::string_view name) const {
  const size_t first = name.find('.');
  if (first == std::string_view::npos) return std::nullopt;
  const size_t second = name.find('.', first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  const std::string_view port = without_underscore(name.substr(0, first));
  const std::string_view protocol = without_underscore(name.substr(first + 1, second - first - 1));
  if (protocol != "tcp" && protocol != "udp" && protocol != "sctp") return std::nullopt;
  std::optional<std::vector<ServiceTarget>> out;
  each_reading(networks, name.substr(second + 1),
               [&](const Network& network, std::string_view service) {
                 const auto found = network.names.find(service);
                 if (found == network.names.end() ||
                     (found->second.services.empty() && found->second.members.empty())) {
                   return false;
                 }
                 out = targets_in(network, port, protocol, service);
                 return true;
               });
  return out;
}

}  // namespace muster::overlay::dns
