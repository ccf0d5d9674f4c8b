#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.h"
#include "base/sim_executor.h"
#include "tests/sim/sim_log_rules.h"
#include "tests/sim/sim_manager_life.h"
#include "tests/sim/sim_network.h"
#include "tests/sim/sim_options.h"
#include "tests/sim/sim_probes.h"

namespace muster::sim {

class SimCertificates;

// The managers of a simulated cluster, one to five, and what goes wrong with them. Checks on the
// way that all of them go through the same states: what one does at an index every other does, too
// (R15), that a term has one leader (R1), that who watches a store sees exactly its changes (M2),
// that reads see what was there before them (R10), and that no member fails.
class SimGroup {
 public:
  struct Deps {
    SimWorld& world;
    Rng& rng;
    Rng& extra;           // for what came later, so that older seeds stay what they were
    SimNetwork& network;  // of the agents
    const std::vector<std::string>& node_ids;
    Troubles troubles;
    SimMutant mutant = SimMutant::kNone;
    Probes& probes;
    // Each commit once, in the order of the log, when the first of them has it.
    std::function<void(const manager::store::CommitEvent&)> on_commit;
    std::function<void(std::string)> broken;
    std::function<void(std::string)> trace;
    SimCertificates* certificates = nullptr;  // null: nobody has one
  };

  SimGroup(Deps deps, size_t count);
  ~SimGroup();

  void found();
  // One kind of trouble at random; the second of those that `extra` decides about.
  void disturb();
  void disturb_more();
  // The wall clock of one of them is set, by hours.
  void step_clock(Rng& rng);
  // Asks one of them for a read that sees everything.
  void read();
  // A majority works from now on, the others are cut off; false when it is not certain who is one.
  bool heal_core();
  // Everything works from now on, and whoever is away comes back.
  void heal();

  // Of the newest term whose leader works; null: none.
  ManagerLife* leader();
  // Whom agents reach; null: nobody.
  ManagerLife* serving() { return serving_; }
  // Null when it does not run, or is no manager.
  ManagerLife* life_of(const std::string& node_id);
  // As far as it is committed.
  const manager::store::Snapshot& state() const { return latest_; }
  uint64_t lives() const { return lives_; }
  uint64_t terms() const { return leaders_.size(); }
  uint64_t newest_term() const { return leaders_.empty() ? 0 : leaders_.rbegin()->first; }
  size_t size() const { return managers_.size(); }
  // Where each of them is; for messages.
  std::string describe() const;
  // Every member has all that any has.
  bool level() const;
  // All of them have the same state, byte for byte, and the group is who is to be a manager.
  Status check_equal();

 private:
  struct Manager {
    explicit Manager(const SimWorld& world) : place(world) {}

    ManagerPlace place;
    std::unique_ptr<ManagerLife> life;
    bool founder = false;
    bool member = true;  // has a disk of a member, or founds
    bool away = false;   // its process is to come back later
    bool stopping = false;
    std::optional<TimePoint> asks_until;
    uint64_t lives = 0;
    manager::store::Snapshot seen;  // what its watchers know
    raft::Index last = 0;           // on its disk, with its term
    raft::Term last_term = 0;
    raft::Index snapshot = 0;
  };

  // sim_group.cc
  ManagerLife::Events events_of(Manager& manager);
  void start(Manager& manager);
  void kill(Manager& manager);
  void away(Manager& manager, Duration time);
  void stop(Manager& manager, Duration time);
  void wedge(Manager& manager, Duration time);
  void committed(Manager& manager, const manager::store::CommitEvent& event);
  void check_new(Manager& manager, const manager::store::CommitEvent& event);
  void leads(Manager& manager, uint64_t term);
  void durable(Manager& manager, const LogImage& image);
  Manager& victim();
  void connect_lanes();
  // A machine goes off the network, and comes back.
  void isolate(const Manager& manager, Duration time);
  void process(const Manager& manager, bool up);
  // sim_group_members.cc: who is a manager
  bool keeper() const { return !manager_nodes_.empty(); }
  void look_after_members();
  void ask_to_join(Manager& manager);
  void retire(Manager& manager);
  void change_role(Manager& manager);
  void lose_disk(Manager& manager);
  void follow_role(Manager& manager, const v1::Node& node);
  bool whole() const;
  Status check_members();

  bool has(Trouble trouble) const { return deps_.troubles.has(trouble); }
  void say(const Manager& manager, std::string_view what) const {
    deps_.trace(fmt::format("{} {}", manager.place.self.node_id, what));
  }
  Duration up_to(uint64_t ms) {
    return Duration(1ms) * static_cast<int64_t>(deps_.rng.below(ms) + 1);
  }
  Duration extra_up_to(uint64_t ms) {
    return Duration(1ms) * static_cast<int64_t>(deps_.extra.below(ms) + 1);
  }

  Deps deps_;
  SimExecutor strand_;  // outlives managers: what happens to them
  SimLogNetwork lanes_{deps_.world, deps_.rng};
  SimLogRules rules_;
  raft::Members group_;
  std::vector<std::string> manager_nodes_;  // when their roles change
  static constexpr uint64_t kFirstLaterMember = 100;
  uint64_t next_member_ = kFirstLaterMember;
  std::vector<std::unique_ptr<Manager>> managers_;
  ManagerLife* serving_ = nullptr;  // whom agents reach
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
