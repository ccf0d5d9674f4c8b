#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"
#include "manager/store/store.h"

namespace muster::manager::allocator {

// Creates the predefined networks "host", "none", "bridge" and "ingress" where they are missing.
// The leader calls it in its first transaction, once the cluster object exists. "bridge" is what
// tasks without networks are in; "ingress" is what all nodes and all tasks with ingress ports are
// in, behind their other networks. It may be removed and made anew: only a new swarm gets it.
Status bootstrap_networks(store::Transaction& tx, Rng& rng);

// The leader's loop that hands out what networks need: subnets and VNIs to networks, published
// ports and virtual addresses to services, places in the routing mesh to nodes, addresses to tasks,
// which then go from NEW to PENDING. It also works out the MTU of overlay networks from the data
// paths that nodes report.
//
// Level-triggered: start() rebuilds everything from the snapshot, commits only say "look again".
// One transaction is in flight at a time and takes all there is to do, up to kTasksMax tasks; what
// arrives meanwhile goes into the next one. What cannot be had is written in words to
// allocation_error of the network or service and to the task's status.error, and is tried again as
// soon as something changes that might help. A write that fails is repeated. Addresses come back
// when a task has ended (observed state COMPLETE or beyond) or is removed; those of a network that
// it was disconnected from when its node has said that it is out of it (Task.left).
//
// Lives on the store's strand, where it is constructed, started, stopped and destroyed.
class Allocator {
 public:
  // Tasks, and about as many bytes, in one transaction; keeps an entry well below the store's
  // limit, even when the last object is as large as a service may be.
  static constexpr size_t kTasksMax = 1000;
  static constexpr size_t kBytesMax = 400'000;

  // Does not own its arguments.
  Allocator(Executor& strand, store::Store& store, const Clock& clock, Log log);
  ~Allocator();

  // To be called while the store leads.
  void start();
  // For tests: in words, what is held beyond what the state says, or short of it. Empty when both
  // agree, while a transaction is in flight, and when it does not run. O(state).
  std::string audit() const;
  // Forgets everything. Idempotent. A transaction in flight may still commit.
  void stop();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace muster::manager::allocator
