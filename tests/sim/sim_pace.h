#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

#include "manager/store/store.h"

namespace muster::sim {

// Follows how running tasks are taken away: whatever the reasons, updates and moves together have
// no more slots of a service without a running task at once than its parallelism allows, and a
// task that is told to leave its node is told why. Lost and drained nodes do not count.
//
// A slot counts from the moment its running task is told to stop until a task of it runs, fails, or
// finds no node, or until the slot is given up or scaled away.
class SimPace {
 public:
  explicit SimPace(std::function<void(std::string)> broken) : broken_(std::move(broken)) {}

  void on_commit(const manager::store::CommitEvent& event);
  // Managers' clocks are hours apart: how long a task has not come up, and so whether its update
  // goes on without it, is told by the time at which another of them made it.
  void clocks_differ() { clocks_differ_ = true; }

 private:
  void settle(const std::string& service_id, const manager::store::Snapshot& state);
  void taken(const v1::Task& before, const v1::Task& after, const manager::store::Snapshot& state);

  std::function<void(std::string)> broken_;
  // By service: slots without a running task, and when each lost it.
  std::map<std::string, std::map<uint64_t, int64_t>> open_;
  std::map<std::string, std::set<uint64_t>> added_;  // by this commit
  // Nodes that this commit finds lost or drained and leaves otherwise: transactions of one entry
  // run one after another, and those that took tasks away came first.
  std::set<std::string> came_back_;
  bool clocks_differ_ = false;
};

}  // namespace muster::sim
