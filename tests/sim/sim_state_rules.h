#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

#include "base/sim_executor.h"
#include "manager/store/store.h"

namespace muster::sim {

// Whether `changes` are exactly what lies between two states of a store (M2); in words what is not.
std::string differs_from(const manager::store::Snapshot& before,
                         const manager::store::CommitEvent& event);

// What must hold of every committed state beside the life of tasks (sim_rules.h): where tasks are
// put (M5, M6), addresses and numbers of networks (M10), and when nodes are taken for lost (M9).
class SimStateRules {
 public:
  SimStateRules(SimWorld& world, std::function<void(std::string)> broken)
      : world_(world), broken_(std::move(broken)) {}

  // Each commit once, in order.
  void on_commit(const manager::store::CommitEvent& event);
  // The leader's dispatcher has heard of a node.
  void heard(const std::string& node_id);
  // Whether the node was ever given a task that uses this secret or config (M7).
  bool entitled(const std::string& node_id, const std::string& payload_id) const;

 private:
  void placed(const v1::Task& task, const manager::store::Snapshot& state);
  void check_room(const v1::Node& node, const manager::store::Snapshot& state);
  void check_ports(const v1::Task& task, const manager::store::Snapshot& state);
  void check_addresses(const v1::Task& task, const manager::store::Snapshot& state);
  void check_place(const v1::Node& node, const manager::store::Snapshot& state);
  void check_networks(const manager::store::Snapshot& state);
  void check_lost(const std::string& node_id);
  void entitle(const v1::Task& task, const manager::store::Snapshot& state);
  bool stable(const std::string& id) const;

  SimWorld& world_;
  std::function<void(std::string)> broken_;
  // When a node or service last became another than decisions under way may have seen.
  std::map<std::string, TimePoint> changed_;
  std::map<std::string, uint32_t> indexes_;  // in the mesh, by node
  struct Silence {
    TimePoint heard;
    TimePoint ended;  // the last long one
  };
  std::map<std::string, Silence> silences_;
  std::map<std::string, std::set<std::string>> entitled_;  // by node
};

}  // namespace muster::sim
