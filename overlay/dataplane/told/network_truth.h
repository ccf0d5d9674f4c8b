#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>

#include "muster/v1/dispatcher.pb.h"
#include "overlay/dataplane/node_network.h"

namespace muster::overlay {

// What was told of one network.
struct NetworkTruth {
  v1::Network network;
  std::map<std::string, v1::NetworkEndpoint> endpoints;  // by task id; those of this node, too
  std::map<std::string, v1::NetworkService> services;    // by id
  std::map<std::string, v1::IngressNode> ingress_nodes;  // by node id; of the ingress network alone
};

// What a step has changed: only keys whose value differs now. Keys that are gone are named, too.
struct NetworkDifference {
  bool network = false;
  std::set<std::string> task_ids;
  std::set<std::string> service_ids;
  std::set<std::string> ingress_node_ids;

  void add(const NetworkDifference& later) {
    network = network || later.network;
    task_ids.insert(later.task_ids.begin(), later.task_ids.end());
    service_ids.insert(later.service_ids.begin(), later.service_ids.end());
    ingress_node_ids.insert(later.ingress_node_ids.begin(), later.ingress_node_ids.end());
  }
};

// All networks this node was told of. Pure.
class NetworkTruths {
 public:
  NetworkDifference apply(const NetworkStep& step);
  void forget(std::string_view network_id);
  // nullptr: nothing was told of it.
  const NetworkTruth* find(std::string_view network_id) const;
  const std::map<std::string, NetworkTruth, std::less<>>& all() const { return networks_; }

 private:
  std::map<std::string, NetworkTruth, std::less<>> networks_;  // by id
};

}  // namespace muster::overlay
