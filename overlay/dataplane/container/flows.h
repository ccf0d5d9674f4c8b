#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace muster::overlay {

// Whether connections lead to a container. Calls block for milliseconds and are thread-safe.
class ContainerFlows {
 public:
  virtual ~ContainerFlows() = default;
  // A connection (TCP, SCTP) from elsewhere to a port that the container listens on is established,
  // being made, or has data left to deliver; or such a flow of datagrams went both ways and on
  // within the last 2 s, or began or went on within the last second without an answer
  // (tracked_flows.h). What the container opened itself does not count, nor
  // what it says to itself. False for one that is gone.
  virtual Result<bool> any(const std::string& container_id) = 0;
};

// By the kernel's tables of sockets and connections in the namespaces that are pinned below
// `namespace_dir`.
std::unique_ptr<ContainerFlows> make_container_flows(std::string namespace_dir);
// Where the namespaces of an instance's containers are pinned (linux_network.h).
std::string container_namespaces(std::string_view run_dir, std::string_view instance_id);

// One TCP socket as the kernel lists it.
struct TcpSocket {
  uint8_t state = 0;  // TCP_ESTABLISHED, ... of linux/tcp_states
  std::string local;  // the address as bytes of the wire
  uint16_t local_port = 0;
  std::string remote;
};
// Whether any of all sockets of a namespace is a connection that counts. Pure.
bool any_incoming(const std::vector<TcpSocket>& sockets);

}  // namespace muster::overlay
