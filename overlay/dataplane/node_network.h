#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "muster/v1/dispatcher.pb.h"
#include "muster/v1/objects.pb.h"
#include "muster/v1/specs.pb.h"

namespace muster::overlay {

// One interface a container shall have.
struct ContainerLink {
  v1::Network network;                 // with its allocated subnet and gateway
  std::vector<std::string> addresses;  // CIDR
  std::string mac;                     // empty = derived from the IPv4 address (02:42:...)
  bool by_hand = false;                // entered while it runs, see reconnect()
};

struct ContainerNetworkRequest {
  std::string container_id;
  // eth0, eth1, ... in this order. The default route is that of the first bridge network that is
  // not internal. Without one, but with an overlay that is not internal, it leads through one more
  // interface behind them: the node's own way out, with an address that only this node knows.
  std::vector<ContainerLink> links;
  bool host_ports =
      false;  // ports of the host will lead here: it needs the node's own way in any case
  std::vector<v1::KeyValue> sysctls;  // net.* ones, set inside the namespace
  // Published ports of the task: answers through the routing mesh need to know those of UDP and
  // SCTP (mesh_task.h).
  std::vector<v1::PortConfig> ports;
};

// This node as others see it.
struct LocalNode {
  std::string node_id;
  std::string data_path_addr;  // of this host; empty: in no swarm
  uint32_t data_path_port = 4789;

  friend bool operator==(const LocalNode&, const LocalNode&) = default;
};

// A key of encrypted networks, as managers make them.
struct EncryptionKey {
  uint64_t number = 0;  // grows
  std::string secret;   // 32 bytes
  bool used = false;    // it may be sent with: everybody has it

  friend bool operator==(const EncryptionKey&, const EncryptionKey&) = default;
};
struct Encryption {
  std::vector<EncryptionKey> keys;  // oldest first; what arrives may be with any of them
  uint32_t udp_port = 0;            // ESP travels in UDP on this port; 0: by itself

  friend bool operator==(const Encryption&, const Encryption&) = default;
};

// News about an overlay network that this node takes part in.
struct NetworkStep {
  std::string network_id;
  bool complete = false;  // replaces all that was told of it before
  v1::NetworkFeed feed;
};

// A published port and the addresses it is spread over. Ports with the same number, protocol and
// bind replace each other's backends. Its client_address is MASQUERADE or not; who decides what
// AUTOMATIC means has done so.
struct PublishedPort {
  v1::PortConfig port;                // published_port set
  std::string owner;                  // service id (ingress) or task id (host mode)
  std::vector<std::string> backends;  // container addresses without prefix, sorted
  // Of those that are of this node's containers, whose each is: two containers may have one address
  // while one of them is not yet out of a network that was made anew with the same subnet.
  std::map<std::string, std::string> containers;
  // How flows are spread over them. The share of each; not named = 1.
  v1::EndpointSpec::Balancing balancing = v1::EndpointSpec::ROUND_ROBIN;
  int64_t affinity_ns = 0;
  std::map<std::string, uint32_t> weights;
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
  // A container that runs enters and leaves overlay networks: it gets the links of `request` that
  // it lacks, at the next free ethN, and loses those in overlay networks that `request` does not
  // name; others stay as they are, names and all. It gets a way out with the first network that has
  // one, and loses it with the last. Idempotent, and complete after a crash in its middle when
  // called again. NOT_FOUND: it has no namespace here. `left` (may be null) is set to true as soon
  // as the container is out of all networks that `request` does not name, whatever fails
  // afterwards.
  virtual Status reconnect(const ContainerNetworkRequest& request, bool* left) = 0;
  // Removes the namespace and its links; removes bridges that no container uses any more.
  // Idempotent.
  virtual Status detach(const std::string& container_id) = 0;

  // Replaces all published ports in one transaction. A port that a process of the host already
  // listens on is reported as ALREADY_EXISTS "port 80/tcp is in use on this node" with the other
  // ports in force; `conflicts` (may be null) gets them.
  virtual Status set_published_ports(const std::vector<PublishedPort>& ports,
                                     std::vector<v1::PortConfig>* conflicts) = 0;

  // Who this node is. Tunnels that stand at another address or port are made anew.
  virtual Status set_local_node(const LocalNode& node) = 0;
  // What encrypted networks travel with. Returns when the kernel can receive with all the keys and
  // sends with the newest that is used; a node that cannot encrypt has nothing to do. Keys are
  // never written anywhere but to the kernel.
  virtual Status set_encryption(const Encryption& encryption) = 0;
  // Brings the kernel in line with what was told of a network; returns when it is in force. What
  // fails is tried again by repair(). The remembered state survives detach() of the last container
  // and ends with forget_network().
  virtual Status apply(const NetworkStep& step) = 0;
  // The node takes no part in it any more: what leads to other nodes and services goes. Containers
  // still attached keep their interfaces.
  virtual Status forget_network(const std::string& network_id) = 0;
  // Compares the kernel with what it should be, mends what differs, and says what that was: one
  // sentence a difference. What cannot be mended is among limitations() as long as it lasts. To be
  // called now and then.
  virtual std::vector<std::string> repair() = 0;

  // What this host cannot do for published ports and overlay networks, a sentence each. Does not
  // wait for other calls.
  virtual std::vector<std::string> limitations() const { return {}; }
  // Why no container can enter an overlay network here (NodeDescription.no_overlays); empty: it
  // can, as far as is known. Among limitations(), too. Does not wait for other calls.
  virtual std::string no_overlays() const { return {}; }

  // Picks a free port of the host for a host-mode port that names none, and holds it.
  virtual Result<uint32_t> reserve_host_port(v1::PortConfig::Protocol protocol) = 0;

  // Removes everything of this instance that is not of the given containers; at start.
  virtual Status collect_garbage(const std::vector<std::string>& live_container_ids) = 0;
  // Removes everything of this instance; at `swarm leave`.
  virtual Status teardown() = 0;
};

}  // namespace muster::overlay
