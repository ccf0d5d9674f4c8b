#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"
#include "manager/store/store.h"

namespace muster::manager::network_keys {

struct KeeperDeps {
  Executor& strand;  // the store's
  store::Store& store;
  Rng& rng;  // of secrets: from the kernel, but in the simulator
  // The version of the CLUSTER feed that the node has in force; 0: it has no session.
  std::function<uint64_t(const std::string& node_id)> applied;
  Log log;
};

// The leader's loop that makes keys of encrypted networks and lets them be used, as key_ring.h
// says. Level-triggered: start() goes by the stored state, and waits anew for nodes that a leader
// before has waited for. Nodes are looked at once a second while a new key is waited for, which is
// a few times a day; else a timer for the next key is all there is.
//
// One write is in flight at a time; one that fails is repeated. Lives on the store's strand; all it
// is given outlives it.
class KeyKeeper {
 public:
  static constexpr Duration kLook = 1s;

  explicit KeyKeeper(KeeperDeps deps);
  ~KeyKeeper();

  // While the store leads, and the dispatcher.
  void start();
  // Idempotent. A write in flight may still commit.
  void stop();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace muster::manager::network_keys
