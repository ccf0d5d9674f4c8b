#include "agent/routes/route_book.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/cidr_text.h"
#include "overlay/dataplane/told/keyed_messages.h"

namespace muster::agent {
namespace {

using google::protobuf::util::MessageDifferencer;

}  // namespace

std::vector<std::string> RouteBook::networks_of(const v1::LocalTask& task) {
  std::vector<std::string> out;
  for (const v1::NetworkAttachment& attachment : task.assignment().task().networks()) {
    for (const v1::Network& network : task.assignment().networks()) {
      if (network.id() != attachment.network_id() || network.spec().driver() != "overlay") continue;
      out.push_back(network.id());
    }
  }
  return out;
}

bool RouteBook::is_ingress(const std::string& network_id) const {
  const auto at = networks_.find(network_id);
  return at != networks_.end() && at->second.network.spec().ingress();
}

std::string RouteBook::name_of(const std::string& network_id) const {
  const auto at = networks_.find(network_id);
  return at == networks_.end() ? "" : at->second.network.spec().annotations().name();
}

bool RouteBook::takes_part(const Network& network) const {
  return !network.own.empty() || (network.network.spec().ingress() && !leaving_);
}

bool RouteBook::fresh(const std::string& network_id) const {
  const auto at = networks_.find(network_id);
  return at != networks_.end() && at->second.heard && !at->second.stale;
}

const v1::NetworkEndpoint* RouteBook::endpoint(const Network& network,
                                               const std::string& task_id) const {
  if (const auto own = network.own.find(task_id); own != network.own.end()) return &own->second;
  const auto fed = network.endpoints.find(task_id);
  return fed == network.endpoints.end() ? nullptr : &fed->second;
}

// ---------------------------------------------------------------- this node

void RouteBook::set_data_path(const std::string& address) {
  if (std::exchange(data_path_addr_, address) == address) return;
  for (auto& [id, network] : networks_) {
    for (auto& [task_id, own] : network.own) {
      own.set_data_path_addr(address);
      network.task_ids.insert(task_id);
      changed_.insert(id);
    }
  }
}

void RouteBook::set_task(const v1::LocalTask& local) {
  const v1::Task& task = local.assignment().task();
  const bool ended = local.status().state() > v1::TASK_RUNNING;
  const std::vector<std::string> networks = networks_of(local);
  // It may have left some while it runs.
  const std::set<std::string> held = networks_held_[task.id()];
  for (const std::string& id : held) {
    if (std::find(networks.begin(), networks.end(), id) == networks.end()) leave(id, task.id());
  }
  for (const std::string& id : networks) {
    networks_held_[task.id()].insert(id);
    networks_[id].holders.insert(task.id());
    if (ended) {
      drop_own(id, task.id());
      continue;
    }
    v1::NetworkEndpoint endpoint;
    endpoint.set_task_id(task.id());
    endpoint.set_service_id(task.service_id());
    endpoint.set_name(task.name());
    endpoint.set_node_id(node_id_);
    for (const v1::NetworkAttachment& attachment : task.networks()) {
      if (attachment.network_id() != id) continue;
      for (const std::string& cidr : attachment.addresses()) {
        endpoint.add_addresses(without_prefix_length(cidr));
      }
      endpoint.set_mac(attachment.mac());
      *endpoint.mutable_aliases() = attachment.aliases();
    }
    endpoint.set_data_path_addr(data_path_addr_);
    put_own(id, endpoint, own_endpoint(local));
  }
}

void RouteBook::put_own(const std::string& network_id, v1::NetworkEndpoint endpoint,
                        const OwnEndpoint& state) {
  Network& network = networks_[network_id];
  const std::string task_id = endpoint.task_id();
  const auto at = network.fed_own.find(task_id);
  const FedOwn fed = at == network.fed_own.end() ? FedOwn() : at->second;
  endpoint.set_weight(fed.weight);
  endpoint.set_state(led_as(state, fed.state));
  network.own_states[task_id] = state;
  overlay::put_message(network.own, task_id, endpoint, network.task_ids);
  if (network.task_ids.contains(task_id)) changed_.insert(network_id);
}

void RouteBook::apply_own(const overlay::NetworkStep& step) {
  Network& network = networks_[step.network_id];
  if (step.complete) network.fed_own.clear();
  for (const auto& endpoint : step.feed.endpoints()) {
    if (endpoint.node_id() != node_id_) continue;
    network.fed_own[endpoint.task_id()] = {endpoint.weight(), endpoint.state()};
  }
  for (const auto& id : step.feed.removed_task_ids()) network.fed_own.erase(id);
  for (auto& [id, own] : network.own) {
    const auto at = network.fed_own.find(id);
    const FedOwn fed = at == network.fed_own.end() ? FedOwn() : at->second;
    const v1::EndpointState led = led_as(network.own_states[id], fed.state);
    if (own.weight() == fed.weight && own.state() == led) continue;
    own.set_weight(fed.weight);
    own.set_state(led);
    network.task_ids.insert(id);
  }
}

void RouteBook::drop_own(const std::string& network_id, const std::string& task_id) {
  const auto at = networks_.find(network_id);
  if (at == networks_.end()) return;
  Network& network = at->second;
  network.own_states.erase(task_id);
  if (network.own.erase(task_id) != 0) {
    network.task_ids.insert(task_id);
    changed_.insert(network_id);
  }
  if (takes_part(network)) return;
  network.stale = true;
  // Also of a network that this process has told nothing of: an earlier one may have.
  if (network.forgotten || network.left) return;
  network.left = true;
  changed_.insert(network_id);
}

void RouteBook::remove_task(const std::string& task_id) {
  const std::set<std::string> held = networks_held_[task_id];
  for (const std::string& id : held) leave(id, task_id);
  networks_held_.erase(task_id);
}

void RouteBook::leave(const std::string& network_id, const std::string& task_id) {
  drop_own(network_id, task_id);
  networks_[network_id].holders.erase(task_id);
  networks_held_[task_id].erase(network_id);
  drop_unheld(network_id);
}

// What the managers told is kept as long as they may build upon it: until the node has no task of
// the network any more, not even one that has ended.
void RouteBook::drop_unheld(const std::string& network_id) {
  const auto at = networks_.find(network_id);
  if (at == networks_.end()) return;
  const Network& network = at->second;
  if (!network.holders.empty() || takes_part(network) || network.told || network.left) return;
  networks_.erase(at);
}

void RouteBook::leave() {
  leaving_ = true;
  for (auto& [id, network] : networks_) {
    if (!network.network.spec().ingress() || takes_part(network)) continue;
    network.left = true;
    changed_.insert(id);
  }
}

// ---------------------------------------------------------------- the managers

void RouteBook::restore(const overlay::NetworkStep& step) {
  apply(step);
  Network& network = networks_[step.network_id];
  network.stale = true;
  network.restored = true;
  // The process before had something there; its last task has gone, or left it while it ran.
  if (!takes_part(network) && !network.forgotten) network.left = true;
}

void RouteBook::settle_for(const std::string& network_id) {
  const auto at = networks_.find(network_id);
  if (at == networks_.end() || !takes_part(at->second)) return;
  at->second.stale = false;
  changed_.insert(network_id);
}

std::optional<overlay::NetworkStep> RouteBook::fed(const std::string& network_id) const {
  const auto at = networks_.find(network_id);
  if (at == networks_.end() || !at->second.heard || !takes_part(at->second)) return std::nullopt;
  const Network& network = at->second;
  overlay::NetworkStep out{network_id, true, {}};
  *out.feed.mutable_network() = network.network;
  for (const auto& [id, endpoint] : network.endpoints) *out.feed.add_endpoints() = endpoint;
  for (const auto& [id, fed] : network.fed_own) {
    v1::NetworkEndpoint& own = *out.feed.add_endpoints();
    own.set_task_id(id);
    own.set_node_id(node_id_);
    own.set_weight(fed.weight);
    own.set_state(fed.state);
  }
  for (const auto& [id, service] : network.services) *out.feed.add_services() = service;
  for (const auto& [id, node] : network.ingress_nodes) *out.feed.add_ingress_nodes() = node;
  return out;
}

std::vector<overlay::NetworkStep> RouteBook::all() const {
  std::vector<overlay::NetworkStep> out;
  for (const auto& [id, network] : networks_) {
    if (network.heard && takes_part(network)) out.push_back({id, true, everything(network)});
  }
  return out;
}

void RouteBook::apply(const overlay::NetworkStep& step) {
  const v1::NetworkFeed& feed = step.feed;
  Network& network = networks_[step.network_id];
  network.heard = true;
  // An increment of a network that was left may be the last one.
  if (step.complete || takes_part(network)) network.stale = false;
  network.restored = false;
  changed_.insert(step.network_id);
  if (step.complete) {
    std::set<std::string> tasks, services, nodes;
    for (const auto& endpoint : feed.endpoints()) tasks.insert(endpoint.task_id());
    for (const auto& service : feed.services()) services.insert(service.service_id());
    for (const auto& node : feed.ingress_nodes()) nodes.insert(node.node_id());
    overlay::keep_messages(network.endpoints, tasks, network.task_ids);
    overlay::keep_messages(network.services, services, network.service_ids);
    overlay::keep_messages(network.ingress_nodes, nodes, network.ingress_node_ids);
  }
  // Everything without the network itself: it was removed.
  const bool named = feed.has_network() || step.complete;
  if (named && !MessageDifferencer::Equals(network.network, feed.network())) {
    network.network = feed.network();
    network.changed = true;
  }
  for (const auto& endpoint : feed.endpoints()) {
    if (endpoint.node_id() == node_id_) continue;  // known better here
    overlay::put_message(network.endpoints, endpoint.task_id(), endpoint, network.task_ids);
  }
  for (const auto& service : feed.services()) {
    overlay::put_message(network.services, service.service_id(), service, network.service_ids);
  }
  for (const auto& node : feed.ingress_nodes()) {
    overlay::put_message(network.ingress_nodes, node.node_id(), node, network.ingress_node_ids);
  }
  apply_own(step);
  overlay::drop_messages(network.endpoints, feed.removed_task_ids(), network.task_ids);
  overlay::drop_messages(network.services, feed.removed_service_ids(), network.service_ids);
  overlay::drop_messages(network.ingress_nodes, feed.removed_ingress_node_ids(),
                         network.ingress_node_ids);
  if (!network.network.spec().ingress()) return;
  // There is one at a time; that one is no more is told of by another's coming.
  for (auto& [id, other] : networks_) {
    if (id == step.network_id || !other.network.spec().ingress()) continue;
    other.network.mutable_spec()->set_ingress(false);
    if (takes_part(other)) continue;
    other.left = true;
    changed_.insert(id);
  }
}

// ---------------------------------------------------------------- the kernel

void RouteBook::told_all(Network& network) {
  network.again = network.left = network.changed = false;
  network.task_ids.clear();
  network.service_ids.clear();
  network.ingress_node_ids.clear();
}

v1::NetworkFeed RouteBook::everything(const Network& network) {
  v1::NetworkFeed out;
  *out.mutable_network() = network.network;
  for (const auto& [id, endpoint] : network.own) *out.add_endpoints() = endpoint;
  for (const auto& [id, endpoint] : network.endpoints) {
    if (!network.own.contains(id)) *out.add_endpoints() = endpoint;
  }
  for (const auto& [id, service] : network.services) *out.add_services() = service;
  for (const auto& [id, node] : network.ingress_nodes) *out.add_ingress_nodes() = node;
  return out;
}

v1::NetworkFeed RouteBook::difference(const Network& network) const {
  v1::NetworkFeed out;
  if (network.changed) *out.mutable_network() = network.network;
  for (const std::string& id : network.task_ids) {
    if (const v1::NetworkEndpoint* found = endpoint(network, id)) {
      *out.add_endpoints() = *found;
    } else {
      out.add_removed_task_ids(id);
    }
  }
  for (const std::string& id : network.service_ids) {
    if (const auto found = network.services.find(id); found != network.services.end()) {
      *out.add_services() = found->second;
    } else {
      out.add_removed_service_ids(id);
    }
  }
  for (const std::string& id : network.ingress_node_ids) {
    if (const auto found = network.ingress_nodes.find(id); found != network.ingress_nodes.end()) {
      *out.add_ingress_nodes() = found->second;
    } else {
      out.add_removed_ingress_node_ids(id);
    }
  }
  return out;
}

std::optional<RouteBook::Change> RouteBook::next(const std::string& network_id) {
  const auto at = networks_.find(network_id);
  if (at == networks_.end()) return std::nullopt;
  Network& network = at->second;
  Change out;
  out.step.network_id = network_id;
  if (!takes_part(network)) {
    out.forget = network.told || network.left;
    network.told = false;
    network.forgotten = network.forgotten || out.forget;
    told_all(network);
    drop_unheld(network_id);
    if (!out.forget) return std::nullopt;
    return out;
  }
  network.left = false;  // before that was carried out there was a task again
  // One that is entered again waits for what the managers have to say now: what they said before it
  // was left may lead to tasks that are gone.
  if (!network.heard || (network.stale && !network.told && !network.restored)) return std::nullopt;
  if (!network.told || network.again) {
    out.step.complete = true;
    out.step.feed = everything(network);
  } else if (network.changed || !network.task_ids.empty() || !network.service_ids.empty() ||
             !network.ingress_node_ids.empty()) {
    out.step.feed = difference(network);
  } else {
    return std::nullopt;
  }
  network.told = true;
  network.forgotten = false;
  told_all(network);
  return out;
}

void RouteBook::failed(const std::string& network_id) {
  Network& network = networks_[network_id];
  if (takes_part(network)) {
    network.again = true;
  } else {
    network.left = true;
  }
}

std::map<std::string, v1::EndpointState> RouteBook::fed_own(const std::string& network_id) const {
  std::map<std::string, v1::EndpointState> out;
  const auto at = networks_.find(network_id);
  if (at == networks_.end()) return out;
  for (const auto& [id, fed] : at->second.fed_own) {
    if (fed.state != v1::ENDPOINT_ABSENT) out.emplace(id, fed.state);
  }
  return out;
}

std::vector<overlay::PublishedPort> RouteBook::ingress_ports(const std::string& network_id) const {
  std::vector<overlay::PublishedPort> out;
  const auto at = networks_.find(network_id);
  if (at == networks_.end() || !takes_part(at->second)) return out;
  const Network& network = at->second;
  std::map<std::string, std::vector<std::string>> ready;           // addresses, by service
  std::map<std::string, std::map<std::string, uint32_t>> weights;  // by address, by service
  const auto weigh = [&weights](const v1::NetworkEndpoint& endpoint) {
    if (endpoint.weight() == 0) return;
    for (const std::string& address : endpoint.addresses()) {
      weights[endpoint.service_id()][address] = endpoint.weight();
    }
  };
  for (const auto& [id, endpoint] : network.own) weigh(endpoint);
  for (const auto& [id, endpoint] : network.endpoints) {
    if (endpoint.state() != v1::ENDPOINT_READY || network.own.contains(id)) continue;
    auto& addresses = ready[endpoint.service_id()];
    addresses.insert(addresses.end(), endpoint.addresses().begin(), endpoint.addresses().end());
    weigh(endpoint);
  }
  for (const auto& [id, service] : network.services) {
    for (const v1::PortConfig& port : service.ports()) {
      if (port.mode() != v1::PortConfig::INGRESS || port.published_port() == 0) continue;
      overlay::PublishedPort& published = out.emplace_back();
      published.port = port;
      published.owner = id;
      published.balancing = service.balancing();
      published.affinity_ns = service.affinity_ns();
      if (const auto found = weights.find(id); found != weights.end()) {
        published.weights = found->second;
      }
      if (const auto found = ready.find(id); found != ready.end()) {
        published.backends = found->second;
        std::sort(published.backends.begin(), published.backends.end());
      }
    }
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
    return std::tuple(a.port.protocol(), a.port.published_port(), a.owner, a.port.target_port()) <
           std::tuple(b.port.protocol(), b.port.published_port(), b.owner, b.port.target_port());
  });
  return out;
}

}  // namespace muster::agent
