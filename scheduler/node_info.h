#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "scheduler/task_shape.h"

namespace muster::scheduler {

// One kind of generic resource on a node: a discrete amount or a set of names.
struct GenericPool {
  std::string kind;
  int64_t discrete_total = 0;
  int64_t discrete_held = 0;
  std::vector<std::string> names;  // what the node offers, sorted
  std::vector<std::string> held;   // given to tasks, sorted; may hold names no longer offered
  std::vector<std::string> free;   // names without held

  int64_t available() const {
    return names.empty() ? discrete_total - discrete_held : static_cast<int64_t>(free.size());
  }
};

// A node as placement sees it: what it is, and what the tasks on it leave free.
//
// Two accounts are kept apart. Tasks between ASSIGNED and RUNNING hold reservations, generic
// resources and host ports until they have really ended, even when they are told to stop. Of these
// only the ones still wanted (desired state up to COMPLETE) count as active, which is what spreads
// tasks.
class NodeInfo {
 public:
  NodeIndex index = kNoIndex;
  NodeFacts facts;
  uint64_t version = 0;  // of the stored object
  bool present = false;  // false: tasks name the node, the store does not have it
  v1::NodeStatus::State state = v1::NodeStatus::UNKNOWN;
  v1::NodeSpec::Availability availability = v1::NodeSpec::ACTIVE;
  // Sorted (type, name) pairs.
  std::vector<std::pair<std::string, std::string>> plugins;
  std::string no_overlays;    // why it cannot be in overlay networks; empty: it can
  std::string no_encryption;  // why it cannot be in encrypted networks; empty: it can
  uint32_t rank = 0;          // place in the order of node ids
  uint32_t active_tasks = 0;  // of all services
  uint32_t holding_tasks = 0;

  bool ready() const {
    return present && state == v1::NodeStatus::READY && availability == v1::NodeSpec::ACTIVE;
  }
  int64_t available_nano_cpus() const { return total_nano_cpus_ - held_nano_cpus_; }
  int64_t available_memory() const { return total_memory_ - held_memory_; }
  int64_t total_nano_cpus() const { return total_nano_cpus_; }
  int64_t total_memory() const { return total_memory_; }
  int64_t available_generic(std::string_view kind) const;
  bool port_used(HostPort port) const;
  // How much of the scarcer of CPU and memory is reserved, in 1/1000: 0 for an empty node.
  uint32_t load_permille() const { return load_permille_; }

  // What the node has in all; false when that is what it had.
  bool set_totals(const v1::Resources& totals);

  // Charges a task of `shape`; `generics` are what it was given.
  void hold(const TaskShape& shape, const std::vector<v1::GenericResource>& generics);
  void release(const TaskShape& shape, const std::vector<v1::GenericResource>& generics);
  // Picks what the shape's generic reservations get here: the first free names, or counts. The
  // node must have them.
  std::vector<v1::GenericResource> pick_generics(const TaskShape& shape) const;

 private:
  GenericPool& pool(std::string_view kind);
  void recompute_load();

  std::string totals_;  // as last set, serialised
  int64_t total_nano_cpus_ = 0;
  int64_t total_memory_ = 0;
  int64_t held_nano_cpus_ = 0;
  int64_t held_memory_ = 0;
  uint32_t load_permille_ = 0;
  std::vector<std::pair<HostPort, uint32_t>> ports_;  // sorted, with the number of holders
  std::vector<GenericPool> generics_;
};

}  // namespace muster::scheduler
