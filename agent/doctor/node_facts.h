#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/worker/container_plan.h"
#include "muster/v1/agent.pb.h"
#include "overlay/dataplane/node_network.h"

namespace muster::agent {

// What a node knows of itself when it is examined.
struct NodeFacts {
  struct Attachment {
    std::string network_id;
    std::vector<std::string> addresses;  // without prefix length
  };
  // One that runs, in namespaces of its own.
  struct Container {
    std::string name;   // "web.1.<task id>"
    std::string netns;  // path of its network namespace
    std::vector<Attachment> attachments;
  };

  std::string node_id;
  std::string hostname;
  std::string data_path_addr;  // empty: in no swarm
  // What is in force of overlay networks, complete, with this node's own tasks.
  std::vector<overlay::NetworkStep> networks;
  std::vector<Container> containers;
  std::vector<overlay::PublishedPort> ports;
  std::vector<v1::PortConfig> refused_ports;   // that somebody else on this host has
  std::vector<v1::PortConfig> loopback_ports;  // the same at ::1 alone, and nowhere else
  v1::EncryptionConfig encryption;             // how encrypted networks travel
  bool names = true;                           // containers have resolvers
};

// The containers of the tasks that run. `netns_dir`: where their namespaces are pinned, by id.
std::vector<NodeFacts::Container> running_containers(const std::vector<v1::LocalTask>& tasks,
                                                     const std::string& netns_dir);

}  // namespace muster::agent
