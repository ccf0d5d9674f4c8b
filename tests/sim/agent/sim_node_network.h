#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "overlay/dataplane/node_network.h"
#include "tests/sim/agent/sim_machine.h"

namespace muster::sim {

// A host's kernel network: namespaces of containers, published ports, and what overlay networks
// lead to. It outlives musterd and not the host.
class SimNodeNetwork final : public overlay::NodeNetwork {
 public:
  explicit SimNodeNetwork(SimMachine& machine) : machine_(machine) {}

  Result<std::string> attach(const overlay::ContainerNetworkRequest& request) override {
    if (!machine_.step(8ms)) return fail(process_is_dead());
    std::set<std::string>& addresses = attached_[request.container_id];
    for (const overlay::ContainerLink& link : request.links) {
      for (const std::string& cidr : link.addresses) {
        addresses.insert(cidr.substr(0, cidr.find('/')));
      }
    }
    return "/run/netns/" + request.container_id;
  }
  Status reconnect(const overlay::ContainerNetworkRequest& request, bool* left) override {
    if (!machine_.step(8ms)) return process_is_dead();
    const auto found = attached_.find(request.container_id);
    if (found == attached_.end()) return not_found("no such container");
    if (machine_.troubles.task_fails && machine_.one_in(20)) {
      machine_.met("reconnection failed");
      return internal_error("no buffer space");
    }
    found->second.clear();
    if (left != nullptr) *left = true;
    for (const overlay::ContainerLink& link : request.links) {
      for (const std::string& cidr : link.addresses) {
        found->second.insert(cidr.substr(0, cidr.find('/')));
      }
    }
    machine_.met("container reconnected");
    return {};
  }
  Status detach(const std::string& container_id) override {
    if (!machine_.step(5ms)) return process_is_dead();
    attached_.erase(container_id);
    return {};
  }
  Status set_published_ports(const std::vector<overlay::PublishedPort>& ports,
                             std::vector<v1::PortConfig>*) override {
    if (!machine_.step(6ms)) return process_is_dead();
    for (const auto& port : std::exchange(published_, ports)) {
      const bool leads = std::any_of(ports.begin(), ports.end(), [&](const auto& now) {
        return now.owner == port.owner && !now.backends.empty() &&
               now.port.published_port() == port.port.published_port();
      });
      if (!leads && !port.backends.empty() && on_port_closed) on_port_closed(port);
    }
    return {};
  }
  Status set_local_node(const overlay::LocalNode& node) override {
    if (!machine_.step(2ms)) return process_is_dead();
    local_ = node;
    return {};
  }
  Status set_encryption(const overlay::Encryption& encryption) override {
    if (!machine_.step(2ms)) return process_is_dead();
    encryption_ = encryption;
    return {};
  }
  Status apply(const overlay::NetworkStep& step) override {
    if (!machine_.step(4ms)) return process_is_dead();
    Route& route = routes_[step.network_id];
    // At times the kernel has no room, or somebody else has the name.
    if (machine_.troubles.task_fails && machine_.one_in(40)) {
      route.told = false;
      machine_.met("network step failed");
      return internal_error("no buffer space");
    }
    const auto endpoints_before = route.endpoints;
    if (step.complete) {
      route = {};
      route.told = true;
    } else if (!route.told) {
      machine_.broken("is told of a change of a network before the network (W7)");
    }
    const v1::NetworkFeed& feed = step.feed;
    if (feed.has_network()) route.network = feed.network();
    for (const auto& e : feed.endpoints()) route.endpoints[e.task_id()] = e;
    for (const auto& s : feed.services()) route.services[s.service_id()] = s;
    for (const auto& n : feed.ingress_nodes()) route.ingress_nodes[n.node_id()] = n;
    for (const auto& id : feed.removed_task_ids()) route.endpoints.erase(id);
    for (const auto& id : feed.removed_service_ids()) route.services.erase(id);
    for (const auto& id : feed.removed_ingress_node_ids()) route.ingress_nodes.erase(id);
    for (const auto& [id, was] : endpoints_before) {
      const auto now = route.endpoints.find(id);
      if (was.state() != v1::ENDPOINT_READY || now == route.endpoints.end()) continue;
      if (now->second.state() != v1::ENDPOINT_READY && on_passed_by) {
        on_passed_by(step.network_id, id);
      }
    }
    return {};
  }
  Status forget_network(const std::string& network_id) override {
    if (!machine_.step(4ms)) return process_is_dead();
    if (routes_.erase(network_id) != 0) machine_.met("network forgotten");
    return {};
  }
  std::vector<std::string> repair() override { return {}; }
  Result<uint32_t> reserve_host_port(v1::PortConfig::Protocol) override {
    if (!machine_.step(1ms)) return fail(process_is_dead());
    return next_port_++;
  }
  Status collect_garbage(const std::vector<std::string>& live) override {
    if (!machine_.step(5ms)) return process_is_dead();
    std::erase_if(attached_, [&](const auto& item) {
      return std::find(live.begin(), live.end(), item.first) == live.end();
    });
    return {};
  }
  Status teardown() override { return {}; }

  // A port that led somewhere leads nowhere now.
  std::function<void(const overlay::PublishedPort& port)> on_port_closed;
  // A step has ended that the kernel leads to a task, which is still in the network.
  std::function<void(const std::string& network_id, const std::string& task_id)> on_passed_by;

  // Addresses by container.
  const std::map<std::string, std::set<std::string>>& attached() const { return attached_; }
  // Whether a port that one of these publishes, a task or its service, leads to the container. An
  // address alone does not say so: a network that was made anew may have the former one's subnet
  // while a container is not out of that yet.
  bool leads_to(const std::string& container_id, const std::set<std::string>& owners) const {
    const auto found = attached_.find(container_id);
    if (found == attached_.end()) return false;
    return std::any_of(published_.begin(), published_.end(), [&](const auto& port) {
      if (!owners.contains(port.owner)) return false;
      return std::any_of(port.backends.begin(), port.backends.end(),
                         [&](const auto& backend) { return found->second.contains(backend); });
    });
  }
  // What an overlay network leads to.
  struct Route {
    bool told = false;  // everything, by this musterd, and nothing failed since
    v1::Network network;
    std::map<std::string, v1::NetworkEndpoint> endpoints;  // by task
    std::map<std::string, v1::NetworkService> services;
    std::map<std::string, v1::IngressNode> ingress_nodes;
  };
  const std::map<std::string, Route>& routes() const { return routes_; }
  const overlay::LocalNode& local() const { return local_; }
  // The keys the kernel has.
  const overlay::Encryption& encryption() const { return encryption_; }
  // Whether new flows of this host's containers are led to the task.
  bool balances_to(const std::string& task_id) const {
    return std::any_of(routes_.begin(), routes_.end(), [&](const auto& item) {
      const auto at = item.second.endpoints.find(task_id);
      return item.second.told && at != item.second.endpoints.end() &&
             at->second.state() == v1::ENDPOINT_READY;
    });
  }
  // The next one begins anew with telling.
  void process_ended() {
    for (auto& [id, route] : routes_) route.told = false;
  }
  // Whether a published port leads to a container of this host, or is to.
  bool publishes_own() const {
    return std::any_of(published_.begin(), published_.end(),
                       [](const auto& port) { return !port.containers.empty(); });
  }
  void power_off() {
    attached_.clear();
    published_.clear();
    routes_.clear();
    local_ = {};
    encryption_ = {};
  }

 private:
  SimMachine& machine_;
  std::map<std::string, std::set<std::string>> attached_;
  std::vector<overlay::PublishedPort> published_;
  std::map<std::string, Route> routes_;  // by network
  overlay::LocalNode local_;
  overlay::Encryption encryption_;
  uint32_t next_port_ = 40'000;
};

}  // namespace muster::sim
