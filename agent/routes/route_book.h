#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/routes/led_task.h"
#include "muster/v1/agent.pb.h"
#include "muster/v1/dispatcher.pb.h"
#include "overlay/dataplane/node_network.h"

namespace muster::agent {

// What this node's kernel shall know of overlay networks, gathered from its own tasks and the
// managers' feeds, and what of it the kernel has not been told. The node's own tasks are the truth
// about themselves; what a feed says of them is older, or of a life of this host that is over. Two
// things managers know better: how much one weighs, and when one that drains is passed by
// (led_task.h).
//
// The node takes part in the networks of its tasks that have not ended, and in the ingress network
// always. Nothing is told of a network before the managers have: what the kernel has of it, from an
// earlier process, goes on working. Pure.
class RouteBook {
 public:
  struct Change {
    bool forget = false;  // the node takes no part in it any more; else:
    overlay::NetworkStep step;
  };

  explicit RouteBook(std::string node_id) : node_id_(std::move(node_id)) {}

  // Where other nodes reach the tasks of this one.
  void set_data_path(const std::string& address);
  // A task of this node as it is now, from its assignment on; one that has ended, too, until it is
  // not assigned any more.
  void set_task(const v1::LocalTask& task);
  void remove_task(const std::string& task_id);
  // A step of a NETWORK feed.
  void apply(const overlay::NetworkStep& step);
  // The same, of what an earlier process was told: the managers may know better by now.
  void restore(const overlay::NetworkStep& step);
  // They have said nothing of it since a task entered it: what they said before counts, they may
  // not have noticed that it was left.
  void settle_for(const std::string& network_id);
  // All that the managers have told of a network that the node takes part in.
  std::optional<overlay::NetworkStep> fed(const std::string& network_id) const;
  // What is known of all networks that the node takes part in, with its own tasks: complete steps.
  std::vector<overlay::NetworkStep> all() const;
  // The node leaves the swarm: it has a part in the ingress network no longer.
  void leave();

  // Networks that may have a change since this was asked last.
  std::set<std::string> take_changed() { return std::exchange(changed_, {}); }
  // What is to be told next; counts as told.
  std::optional<Change> next(const std::string& network_id);
  // What was taken last did not come into force: next() tells all of it again.
  void failed(const std::string& network_id);

  // Whether the managers tell of this network at the moment, as far as this node can know. They
  // leave off when its last task has ended, and begin anew with everything.
  bool fresh(const std::string& network_id) const;
  // Whether anything is known of it; what nobody holds is dropped.
  bool knows(const std::string& network_id) const { return networks_.contains(network_id); }
  bool is_ingress(const std::string& network_id) const;
  // As the managers told it; empty where they have not.
  std::string name_of(const std::string& network_id) const;
  // The overlay networks that a task is attached to.
  static std::vector<std::string> networks_of(const v1::LocalTask& task);
  // What the managers say of this node's tasks in the network: states but for ABSENT.
  std::map<std::string, v1::EndpointState> fed_own(const std::string& network_id) const;
  // Published ports of the ingress network, with the READY tasks of other nodes behind them; those
  // without any are there, too. How they are balanced, with the weights of this node's tasks as
  // well. Sorted.
  std::vector<overlay::PublishedPort> ingress_ports(const std::string& network_id) const;

 private:
  // What managers say of a task of this node.
  struct FedOwn {
    uint32_t weight = 0;
    v1::EndpointState state = v1::ENDPOINT_ABSENT;
  };
  struct Network {
    // As fed.
    v1::Network network;
    std::map<std::string, v1::NetworkEndpoint> endpoints;  // of other nodes, by task id
    std::map<std::string, v1::NetworkService> services;    // by id
    std::map<std::string, v1::IngressNode> ingress_nodes;  // by node id
    std::map<std::string, FedOwn> fed_own;                 // of this node's tasks, by task id
    bool heard = false;
    bool stale = false;     // the managers may have left off telling
    bool restored = false;  // that is all that is known of it in this process

    std::map<std::string, v1::NetworkEndpoint> own;  // of this node's tasks, by task id; as led
    std::map<std::string, OwnEndpoint> own_states;   // the same tasks, as they are
    std::set<std::string> holders;                   // tasks here, those that have ended included

    // Towards the kernel.
    bool told = false;       // everything, at some time
    bool again = false;      // everything is to be told once more
    bool left = false;       // whatever it has of this network is to go
    bool forgotten = false;  // that was said last
    bool changed = false;    // the network itself
    std::set<std::string> task_ids, service_ids, ingress_node_ids;  // that have changed
  };

  bool takes_part(const Network& network) const;
  const v1::NetworkEndpoint* endpoint(const Network& network, const std::string& task_id) const;
  void put_own(const std::string& network_id, v1::NetworkEndpoint endpoint,
               const OwnEndpoint& state);
  // What a step says of this node's tasks.
  void apply_own(const overlay::NetworkStep& step);
  void drop_own(const std::string& network_id, const std::string& task_id);
  void leave(const std::string& network_id, const std::string& task_id);
  void drop_unheld(const std::string& network_id);
  static void told_all(Network& network);
  static v1::NetworkFeed everything(const Network& network);
  v1::NetworkFeed difference(const Network& network) const;

  std::string node_id_;
  std::string data_path_addr_;
  bool leaving_ = false;
  std::map<std::string, Network> networks_;                     // by id
  std::map<std::string, std::set<std::string>> networks_held_;  // by task
  std::set<std::string> changed_;                               // networks
};

}  // namespace muster::agent
