#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace muster::manager::dispatcher {

// The way to one agent: a stream of serialised v1::ManagerMessage, kept in order. Implemented by
// the gRPC adapter and by the simulator. Called on the dispatcher's strand.
class AgentConnection {
 public:
  virtual ~AgentConnection() = default;

  // Queues a message. The bytes are shared: one network update goes to thousands of agents.
  virtual void send(std::shared_ptr<const std::string> message) = 0;
  // The same, but before everything that is queued and not under way: an answer to a heartbeat
  // must not wait behind megabytes of feeds.
  virtual void send_first(std::shared_ptr<const std::string> message) = 0;
  // Bytes queued and not yet handed to the network.
  virtual size_t queued_bytes() const = 0;
  // Sends what is queued, then closes. Nothing is sent afterwards.
  virtual void close() = 0;
};

}  // namespace muster::manager::dispatcher
