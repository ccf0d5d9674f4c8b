#pragma once

#include <memory>
#include <string>

#include "base/executor.h"
#include "base/log.h"
#include "manager/dispatcher/routes.h"
#include "manager/store/store.h"

namespace muster::manager::drainer {

// How long a DRAINING task waits for nodes that do not say that they lead new flows elsewhere.
inline constexpr Duration kDefaultAckTimeout = 2s;

// The leader's loop that lets tasks go: a task that is DRAINING becomes RELEASED once every node
// that leads flows into its networks has applied that, or once it was waited for those for the
// cluster's drain_ack_timeout_ns; then the task's drain and error say which were missing. Only
// nodes with a session are waited for, and those that have not yet come to a new leader.
//
// Level-triggered: start() goes by the stored state, and waits anew for what a leader before did
// not release. One write is in flight at a time and takes all there is; one that fails is repeated.
// Lives on the store's strand; all it is given outlives it.
class Drainer {
 public:
  // Tasks, and about as many bytes, in one write: well below an entry.
  static constexpr size_t kTasksMax = 500;
  static constexpr size_t kBytesMax = 400'000;

  Drainer(Executor& strand, store::Store& store, dispatcher::Routes& routes, Log log);
  ~Drainer();

  // While the store leads, and the dispatcher.
  void start();
  // Forgets everything. Idempotent. A write in flight may still commit.
  void stop();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

// What a task says that did not wait for the nodes of these host names.
std::string missing_nodes_message(const std::vector<std::string>& hostnames, Duration waited);

}  // namespace muster::manager::drainer
