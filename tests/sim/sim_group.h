#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.h"
#include "base/sim_executor.h"
#include "tests/sim/sim_manager_life.h"
#include "tests/sim/sim_network.h"

namespace muster::sim {

// The managers of a simulated cluster, one to five, and what goes wrong with them. Checks on the
// way that all of them go through the same states: what one does at an index every other does, too
// (R15), that a term has one leader (R1), and that no member fails.
class SimGroup {
 public:
  struct Deps {
    SimWorld& world;
    Rng& rng;
    SimNetwork& network;  // of the agents
    const std::vector<std::string>& node_ids;
    // Each commit once, in the order of the log, when the first of them has it.
    std::function<void(const manager::store::CommitEvent&)> on_commit;
    std::function<void(std::string)> broken;
  };

  SimGroup(Deps deps, size_t count);
  ~SimGroup();

  void found();
  // One kind of trouble at random.
  void disturb();
  // Everything works from now on, and whoever is away comes back.
  void heal();

  // Of the newest term whose leader works; null: none.
  ManagerLife* leader();
  // As far as it is committed.
  const manager::store::Snapshot& state() const { return latest_; }
  uint64_t lives() const { return lives_; }
  uint64_t terms() const { return leaders_.size(); }
  size_t size() const { return managers_.size(); }
  // Where each of them is; for messages.
  std::string describe() const;
  // All of them have the same state, byte for byte.
  Status check_equal();

 private:
  struct Manager {
    ManagerPlace place;
    std::unique_ptr<ManagerLife> life;
    bool founded = false;
    uint64_t lives = 0;
    uint64_t at = 0;  // the version its store has
  };

  void start(Manager& manager, raft::StartMode mode);
  void kill(Manager& manager);
  void away(Manager& manager, Duration time);
  void wedge(Manager& manager, Duration time);
  void committed(Manager& manager, const manager::store::CommitEvent& event);
  void leads(Manager& manager, uint64_t term);
  Manager& victim();
  Duration up_to(uint64_t ms) {
    return Duration(1ms) * static_cast<int64_t>(deps_.rng.below(ms) + 1);
  }

  Deps deps_;
  SimExecutor strand_;  // outlives managers: what happens to them
  SimLogNetwork lanes_{deps_.world, deps_.rng};
  raft::Members group_;
  std::vector<std::unique_ptr<Manager>> managers_;
  ManagerLife* serving_ = nullptr;  // whom agents reach
  bool calm_ = false;
  uint64_t lives_ = 0;
  uint64_t snapshot_entries_;

  struct Done {
    uint64_t before = 0;  // the version it follows
    uint64_t hash = 0;    // of its changes
  };
  std::map<uint64_t, Done> history_;
  manager::store::Snapshot latest_;
  std::map<uint64_t, raft::MemberId> leaders_;  // by term
};

}  // namespace muster::sim
