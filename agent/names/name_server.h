#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/status.h"
#include "muster/v1/agent.pb.h"
#include "muster/v1/netd.pb.h"
#include "overlay/dataplane/node_network.h"

namespace muster::agent {

// The resolver of this node's containers, as the worker needs it. Thread-safe. What is said takes
// effect in the order of saying it.
class NameServer {
 public:
  virtual ~NameServer() = default;

  // A table that starts empty: to be called before anything else. What is said after it is told
  // only from serve() on, all at once: names of containers that run already do not come and go.
  virtual void begin(const std::string& node_id) = 0;
  virtual void serve() = 0;

  // Gives a container its resolver and waits until it answers (some milliseconds, kAttachTimeout at
  // most). FAILED_PRECONDITION when the kernel cannot, DEADLINE_EXCEEDED when nobody answers.
  virtual Status attach(const v1::NetdContainer& container) = 0;
  // The same for one that had its resolver before this process; does not wait.
  virtual void adopt(const v1::NetdContainer& container) = 0;
  virtual void detach(const std::string& container_id) = 0;

  // A task of this node whose names are to be known, and whether they lead to it now
  // (endpoint_state).
  virtual void set_task(const v1::LocalTask& task) = 0;
  virtual void forget_task(const std::string& task_id) = 0;
  // A step of a NETWORK feed.
  virtual void apply(const overlay::NetworkStep& step) = 0;
  // Whoever tells of the network has forgotten it, and begins anew when there is something to tell.
  virtual void forget_network(const std::string& /*network_id*/) {}

  // All relays of this node's published ports; `again`: those that are known, too, are told once
  // more, since one may have failed.
  virtual void set_relays(const std::vector<v1::NetdRelay>& /*relays*/, bool /*again*/) {}
  // Those that could not listen everywhere when they were told last, by id, and why; the family or
  // the interface that this host does not have is no failure.
  virtual std::map<std::string, std::string> failed_relays() { return {}; }

  // Posts `next` to the strand once all that was said before is in force: at once when it is, after
  // kForceTimeout when the resolver does not answer.
  virtual void after_applied(Executor& strand, UniqueFunction<void()> next) = 0;
};

}  // namespace muster::agent
