#pragma once

#include <functional>
#include <string>

#include "base/executor.h"
#include "muster/v1/dispatcher.pb.h"

namespace muster::sim {

// What an agent's process has to do with the node's certificate; as the daemon ties them together.
class HostIdentity {
 public:
  virtual ~HostIdentity() = default;
  // Without one there is nothing to go by: the process waits until it is started anew.
  virtual bool has_certificate() const = 0;
  // What the agent says about it.
  virtual v1::TlsInfo tls() const = 0;
  // The process begins, on its strand, and ends.
  virtual void started(Executor& strand, std::function<void()> certificate_changed) = 0;
  virtual void ended() = 0;
  // What the session hears.
  virtual void heard(const v1::ClusterFeed& feed) = 0;
  virtual void outdated(const std::string& why) = 0;
  virtual void removed(const std::string& why) = 0;
};

}  // namespace muster::sim
