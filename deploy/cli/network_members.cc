#include "deploy/cli/network_members.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <map>
#include <set>
#include <string>

#include "base/cidr_text.h"
#include "deploy/cli/listing.h"

namespace muster::deploy::cli {
namespace {

// Where frames for the node go; before it has told that, where managers reach it.
const std::string& address_of(const v1::Node& node) {
  const std::string& path = node.description().data_path().address();
  return path.empty() ? node.status().address() : path;
}

const v1::NetworkAttachment* attachment_in(const v1::Task& task, const v1::Network& network) {
  if (task.node_id().empty() || task.status().state() < v1::TASK_ASSIGNED ||
      task.status().state() > v1::TASK_RUNNING) {
    return nullptr;
  }
  for (const auto& attachment : task.networks()) {
    if (attachment.network_id() == network.id()) return &attachment;
  }
  return nullptr;
}

boost::json::array tasks_json(const v1::Service& service, const v1::Network& network,
                              const NetworkMembers& members,
                              const std::map<std::string, const v1::Node*>& nodes) {
  boost::json::array out;
  for (const v1::Task& task : members.tasks) {
    const v1::NetworkAttachment* attachment = attachment_in(task, network);
    if (attachment == nullptr || task.service_id() != service.id()) continue;
    const auto node = nodes.find(task.node_id());
    const std::string host = node == nodes.end() ? "" : address_of(*node->second);
    out.push_back(
        {{"Name", task.name() + "." + task.id()},
         {"EndpointID", task.id()},
         {"EndpointIP",
          attachment->addresses().empty() ? "" : without_prefix_length(attachment->addresses(0))},
         {"Info", {{"Host IP", host}, {"MAC", attachment->mac()}}}});
  }
  return out;
}

// Tasks that were connected to it while they run, those that have no address yet with the reason.
boost::json::array connected_json(const v1::Network& network, const NetworkMembers& members,
                                  const std::map<std::string, const v1::Node*>& nodes) {
  boost::json::array out;
  for (const v1::Task& task : members.tasks) {
    const v1::NetworkAttachment* attachment = attachment_in(task, network);
    const bool by_hand =
        std::any_of(task.connected().begin(), task.connected().end(),
                    [&](const auto& each) { return each.target() == network.id(); });
    if (!by_hand) continue;
    const auto node = nodes.find(task.node_id());
    if (attachment == nullptr) {
      if (task.status().state() != v1::TASK_RUNNING) continue;
      out.push_back({{"Name", task.name() + "." + task.id()},
                     {"Task", task.id()},
                     {"Node", node == nodes.end() ? "" : node->second->description().hostname()},
                     {"Waiting", task.status().error()}});
      continue;
    }
    boost::json::array addresses, aliases;
    for (const auto& cidr : attachment->addresses()) addresses.emplace_back(cidr);
    for (const auto& alias : attachment->aliases()) aliases.emplace_back(alias);
    out.push_back({{"Name", task.name() + "." + task.id()},
                   {"Task", task.id()},
                   {"Node", node == nodes.end() ? "" : node->second->description().hostname()},
                   {"Addresses", std::move(addresses)},
                   {"MacAddress", attachment->mac()},
                   {"Aliases", std::move(aliases)}});
  }
  return out;
}

boost::json::array ports_text(const v1::Service& service) {
  boost::json::array out;
  for (const v1::PortConfig& port : service.endpoint().ports()) {
    out.emplace_back(
        fmt::format("Target: {}, Publish: {}", port.target_port(), port.published_port()));
  }
  return out;
}

}  // namespace

bool takes_part(const v1::Service& service, const v1::Network& network) {
  const auto& networks = service.spec().task().networks();
  const auto& ports = service.endpoint().ports();
  return std::any_of(networks.begin(), networks.end(),
                     [&](const auto& each) { return each.target() == network.id(); }) ||
         (network.spec().ingress() && std::any_of(ports.begin(), ports.end(), [](const auto& p) {
            return p.mode() == v1::PortConfig::INGRESS;
          }));
}

void add_members(const v1::Network& network, const NetworkMembers& members, bool verbose,
                 boost::json::object& out) {
  std::map<std::string, const v1::Node*> nodes;
  std::set<std::string> peers;
  for (const v1::Node& node : members.nodes) {
    nodes[node.id()] = &node;
    if (network.spec().ingress() && !node.ingress().addresses().empty()) peers.insert(node.id());
  }
  for (const v1::Task& task : members.tasks) {
    if (attachment_in(task, network) != nullptr) peers.insert(task.node_id());
  }
  std::vector<const v1::Node*> sorted;
  for (const std::string& id : peers) {
    if (const auto node = nodes.find(id); node != nodes.end()) sorted.push_back(node->second);
  }
  std::sort(sorted.begin(), sorted.end(), [](const v1::Node* a, const v1::Node* b) {
    return natural_less(a->description().hostname(), b->description().hostname());
  });
  boost::json::array list;
  for (const v1::Node* node : sorted) {
    list.push_back({{"Name", node->description().hostname()}, {"IP", address_of(*node)}});
  }
  out["Peers"] = std::move(list);
  if (network.spec().attachable()) out["Connected"] = connected_json(network, members, nodes);
  if (!verbose) return;
  boost::json::object services;
  for (const v1::Service& service : members.services) {
    if (!takes_part(service, network)) continue;
    std::string vip;
    for (const auto& each : service.endpoint().virtual_ips()) {
      if (each.network_id() == network.id()) vip = without_prefix_length(each.address());
    }
    services[service.spec().annotations().name()] = {
        {"VIP", vip},
        {"Ports", ports_text(service)},
        {"Tasks", tasks_json(service, network, members, nodes)}};
  }
  out["Services"] = std::move(services);
}

}  // namespace muster::deploy::cli
