#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "overlay/dataplane/esp/esp_socket.h"
#include "overlay/dataplane/node_network.h"
#include "overlay/dataplane/vip/balancer_choice.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

struct NodeNetworkOptions {
  // Goes into every name in the kernel: nodes on one machine differ in it.
  std::string instance_id;
  // Pins of namespaces go to <run_dir>/<instance_id>/netns.
  std::string run_dir = "/run/muster";
  BalancerChoice balancer;
  // The host's resolvers as they are now; subnets that the node chooses itself keep away from them.
  std::function<std::vector<Ip>()> resolvers = [] { return std::vector<Ip>(); };
  EspOptions encryption;
  // Where published ports are kept beyond this process (port_keeper.h); empty: nowhere.
  std::string port_socket;
};

// The network of the namespace that the calling thread is in. Adopts what a former process of the
// same instance left: containers, bridges and published ports go on working meanwhile. Fails with a
// clear message without root or on a kernel without nftables NAT.
Result<std::unique_ptr<NodeNetwork>> make_node_network(const NodeNetworkOptions& options, Log log);

}  // namespace muster::overlay
