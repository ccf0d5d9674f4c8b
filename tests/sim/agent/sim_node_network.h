#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "overlay/dataplane/node_network.h"
#include "tests/sim/agent/sim_machine.h"

namespace muster::sim {

// A host's kernel network: namespaces of containers and published ports. It outlives musterd and
// not the host.
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
  Status detach(const std::string& container_id) override {
    if (!machine_.step(5ms)) return process_is_dead();
    attached_.erase(container_id);
    return {};
  }
  Status set_published_ports(const std::vector<overlay::PublishedPort>& ports,
                             std::vector<v1::PortConfig>*) override {
    if (!machine_.step(6ms)) return process_is_dead();
    published_ = ports;
    return {};
  }
  Status set_local_node(const overlay::LocalNode&) override { return {}; }
  Status apply(const overlay::NetworkStep&) override { return {}; }
  Status forget_network(const std::string&) override { return {}; }
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

  // Addresses by container.
  const std::map<std::string, std::set<std::string>>& attached() const { return attached_; }
  // Whether a published port leads to the container.
  bool leads_to(const std::string& container_id) const {
    const auto found = attached_.find(container_id);
    if (found == attached_.end()) return false;
    return std::any_of(published_.begin(), published_.end(), [&](const auto& port) {
      return std::any_of(port.backends.begin(), port.backends.end(),
                         [&](const auto& backend) { return found->second.contains(backend); });
    });
  }
  bool any_published() const { return !published_.empty(); }
  void power_off() {
    attached_.clear();
    published_.clear();
  }

 private:
  SimMachine& machine_;
  std::map<std::string, std::set<std::string>> attached_;
  std::vector<overlay::PublishedPort> published_;
  uint32_t next_port_ = 40'000;
};

}  // namespace muster::sim
