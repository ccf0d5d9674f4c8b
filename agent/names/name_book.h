#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/routes/led_task.h"
#include "muster/v1/agent.pb.h"
#include "muster/v1/dispatcher.pb.h"
#include "muster/v1/netd.pb.h"
#include "overlay/dataplane/node_network.h"

namespace muster::agent {

// What netd shall know, gathered from this node's tasks and the manager's feeds, and what of it
// netd has not been told. The node's own tasks are the truth about themselves: what a feed says of
// them is older, but for when one that drains is passed by (agent/routes/led_task.h). Networks that
// no task here is in are not told of. Pure.
class NameBook {
 public:
  // `virtual_ips`: whether this node's kernel leads a service's virtual address to its tasks, in
  // overlay networks. Where it does not, the service's name means the tasks themselves.
  NameBook() = default;
  NameBook(std::string node_id, bool virtual_ips)
      : node_id_(std::move(node_id)), virtual_ips_(virtual_ips) {}

  void set_settings(const v1::NetdSettings& settings);
  void set_container(const v1::NetdContainer& container);
  void remove_container(const std::string& id);
  void set_task(const v1::LocalTask& task);
  void remove_task(const std::string& task_id);
  // A step of a NETWORK feed. True if netd may know of that network what an earlier musterd was
  // told, which no increment takes back: the next update has to be a complete one.
  bool apply(const overlay::NetworkStep& step);
  // What was told of a network that no task here is in, or is to be in: it goes with the last that
  // leaves it.
  void forget_network(const std::string& network_id);

  // All relays. True if there were none yet: a complete update has to say so.
  bool set_relays(const std::vector<v1::NetdRelay>& relays, bool again);
  // The UDP port at which netd has the kernel take ESP out of UDP; 0: none. The same as of relays.
  bool set_encapsulation(uint16_t port, bool again);
  // How netd speaks of it.
  static std::string encapsulation_key(uint16_t port);

  bool changed() const { return !dirty_.empty(); }
  // What is to be told next; counts as told.
  v1::NetdUpdate complete();
  v1::NetdUpdate increment();
  size_t containers() const { return containers_.size(); }

 private:
  struct Feed {
    bool heard = false;   // the manager has told of it, though there may be nothing to tell
    v1::Network network;  // as told last
    std::map<std::string, v1::NetworkEndpoint> endpoints;  // of other nodes, by task
    std::map<std::string, v1::EndpointState> own;          // of this node, by task
    std::map<std::string, v1::NetworkService> services;    // by id
  };

  void put(v1::NetdRecord record);
  // The relays among the records, or those that are sockets of encrypted networks.
  std::set<std::string> relay_keys(bool encapsulation) const;
  void put_relay(const v1::NetdRelay& relay, bool again, std::set<std::string>& gone);
  void drop(const std::string& key);
  void enter(const v1::Network& network, const std::string& task_id);
  void put_network(const v1::Network& network);
  void leave(const std::string& network_id, const std::string& task_id);
  // Whether a task of this node is to be found there.
  bool led(const std::string& network_id, const std::string& task_id) const;
  void lead_own(const std::string& network_id, const std::string& task_id);
  void put_fed(const std::string& network_id, const v1::NetworkEndpoint& endpoint);
  void put_fed(const std::string& network_id, const v1::NetworkService& service);
  void drop_fed(const std::string& network_id, const Feed& feed);

  std::string node_id_;
  bool virtual_ips_ = false;
  std::set<std::string> led_;  // networks whose virtual addresses lead somewhere
  std::map<std::string, v1::NetdRecord> records_;
  std::set<std::string> dirty_;  // keys
  bool relays_told_ = false;
  bool encapsulation_told_ = false;
  std::set<std::string> containers_;
  std::map<std::string, std::set<std::string>> members_;   // tasks here, by network
  std::map<std::string, std::set<std::string>> networks_;  // the other way round
  std::map<std::string, OwnEndpoint> own_;                 // tasks here
  std::map<std::string, Feed> feeds_;  // by network, whether one is in it or not
  // Networks of the last complete update of which nothing had been heard: netd kept what it knew.
  std::set<std::string> unheard_;
};

}  // namespace muster::agent
