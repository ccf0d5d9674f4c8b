#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "muster/v1/objects.pb.h"
#include "muster/v1/specs.pb.h"

namespace muster::overlay {

// One interface a container shall have.
struct ContainerLink {
  v1::Network network;                 // with its allocated subnet and gateway
  std::vector<std::string> addresses;  // CIDR
  std::string mac;                     // empty = derived from the IPv4 address (02:42:...)
};

struct ContainerNetworkRequest {
  std::string container_id;
  std::vector<ContainerLink> links;   // eth0, eth1, ... in this order; the first that is not
                                      // internal holds the default route
  std::vector<v1::KeyValue> sysctls;  // net.* ones, set inside the namespace
};

// A published port and the local addresses it is spread over. Ports with the same key replace
// each other's backends.
struct PublishedPort {
  v1::PortConfig port;                // published_port set
  std::string owner;                  // service id (ingress) or task id (host mode)
  std::vector<std::string> backends;  // container addresses without prefix, sorted
};

// The kernel's network as the agent needs it. All names carry the instance id, so several nodes on
// one machine never meet. Calls block and are thread-safe; what they make outlives the process and
// is found again by name after a restart.
class NodeNetwork {
 public:
  virtual ~NodeNetwork() = default;

  // Makes the container's namespace with its links and the bridges they need, and returns the
  // namespace's path. Idempotent: an existing namespace is completed. An empty list of links gives
  // a namespace with loopback alone ("none").
  virtual Result<std::string> attach(const ContainerNetworkRequest& request) = 0;
  // Removes the namespace and its links; removes bridges that no container uses any more.
  // Idempotent.
  virtual Status detach(const std::string& container_id) = 0;

  // Replaces all published ports in one transaction. A port that a process of the host already
  // listens on is reported as ALREADY_EXISTS "port 80/tcp is in use on this node" with the other
  // ports in force; `conflicts` (may be null) gets them.
  virtual Status set_published_ports(const std::vector<PublishedPort>& ports,
                                     std::vector<v1::PortConfig>* conflicts) = 0;
  // Picks a free port of the host for a host-mode port that names none, and holds it.
  virtual Result<uint32_t> reserve_host_port(v1::PortConfig::Protocol protocol) = 0;

  // Removes everything of this instance that is not of the given containers; at start.
  virtual Status collect_garbage(const std::vector<std::string>& live_container_ids) = 0;
  // Removes everything of this instance; at `swarm leave`.
  virtual Status teardown() = 0;
};

}  // namespace muster::overlay
