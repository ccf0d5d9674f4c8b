#pragma once

#include <boost/json/object.hpp>
#include <vector>

#include "muster/v1/objects.pb.h"

namespace muster::deploy::cli {

// What is asked of the managers to tell who takes part in networks.
struct NetworkMembers {
  std::vector<v1::Service> services;
  std::vector<v1::Task> tasks;  // of those services; of all where one of the networks is attachable
  std::vector<v1::Node> nodes;
};

// Whether the service's tasks are in the network: it says so, or publishes ports through it.
bool takes_part(const v1::Service& service, const v1::Network& network);

// Adds Docker's "Peers" to a network: the nodes that have a task in it, every node with a place in
// the ingress network; and to an attachable one "Connected". With `verbose` "Services", too: their
// addresses, ports and tasks.
void add_members(const v1::Network& network, const NetworkMembers& members, bool verbose,
                 boost::json::object& out);

}  // namespace muster::deploy::cli
