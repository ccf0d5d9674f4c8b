#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/executor.h"
#include "base/log.h"
#include "manager/store/store.h"

namespace muster::manager::dispatcher {

// Gives up the tasks of nodes that have been down for a day: they become ORPHANED, which frees
// what they hold (addresses, networks, revisions) and lets them be forgotten. Should the node come
// back after all, its agent is told to stop them like any other that was replaced.
//
// The day counts from the node's last change in the store, so that a new leader does not begin it
// anew. Lives on the store's strand.
class Orphans {
 public:
  static constexpr Duration kAfter = 24h;

  Orphans(Executor& strand, store::Store& store, std::string manager_id, Log log);
  ~Orphans();

  // The node is down, since `since`.
  void node_down(const std::string& node_id, WallTime since);
  void node_back(const std::string& node_id);
  // At the end of leadership.
  void clear();

 private:
  static constexpr size_t kTasksMax = 1000;  // of one write
  static constexpr Duration kRetryDelay = 5s;

  void arm(const std::string& node_id, Duration delay);
  void give_up(const std::string& node_id);
  Status write(store::Transaction& tx, const std::string& node_id, bool* more) const;

  Executor& strand_;
  store::Store& store_;
  const std::string manager_id_;
  Log log_;
  std::map<std::string, Executor::TimerId> timers_;  // by node
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace muster::manager::dispatcher
