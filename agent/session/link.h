#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "muster/v1/dispatcher.pb.h"

namespace muster::agent {

// An open stream to a manager. Destroying it ends the stream; no callback runs afterwards. Lives on
// the agent's strand, callbacks arrive there.
class ManagerLink {
 public:
  virtual ~ManagerLink() = default;
  virtual void send(const v1::AgentMessage& message) = 0;
  // Sends what is queued, then ends the stream; closed() follows.
  virtual void close_after_writes() = 0;
};

struct LinkEvents {
  std::function<void(v1::ManagerMessage)> received;
  // Once; the link is dead and may be destroyed from inside.
  std::function<void(Status)> closed;
};

// Opens streams to the manager at an address, "host:port".
class LinkFactory {
 public:
  virtual ~LinkFactory() = default;
  virtual std::unique_ptr<ManagerLink> open(const std::string& address, LinkEvents events) = 0;
};

}  // namespace muster::agent
