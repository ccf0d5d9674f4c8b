#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "manager/dispatcher/network_feed.h"
#include "manager/store/store.h"

namespace muster::manager::dispatcher {

// What a commit changed of one network. The flag of each says whether those who take part may know
// the object from before, and have to be told when it is gone.
struct NetworkChanges {
  bool network = false;
  bool removed = false;                  // the network itself
  std::map<std::string, bool> tasks;     // by id
  std::map<std::string, bool> services;  // by id
  std::map<std::string, bool> nodes;     // by id; of the ingress network alone
};

// By network id; only subscribed ones that have changed for those who take part. O(what changed,
// and the tasks of nodes that did). Pure.
std::map<std::string, NetworkChanges> network_changes(const store::CommitEvent& event,
                                                      const Subscribers& networks);

// Whether the service's published ports lead through the ingress network.
bool is_published(const v1::Service& service);
// Whether connections come in by the node: it has a place in the mesh, and frames reach it. A node
// that is down keeps its place until it is removed: connections that came in by it go on when only
// the managers miss it, and nobody is led anywhere by its being known.
bool is_ingress_node(const v1::Node& node);
// Where frames for the node's tasks go; empty when it has not told, or is gone.
const std::string& data_path_of(const v1::Node* node);

// The share of connections of the service's tasks on the node, 1 to 100: what the node's label says
// that the service names, else 1. Either may be null.
uint32_t weight_of(const v1::Service* service, const v1::Node* node);

}  // namespace muster::manager::dispatcher
