#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "base/sim_executor.h"
#include "manager/allocator/allocator.h"
#include "manager/ca/authority.h"
#include "manager/ca/root.h"
#include "manager/control/control_api.h"
#include "manager/dispatcher/dispatcher.h"
#include "manager/drainer/drainer.h"
#include "manager/members/member_keeper.h"
#include "manager/members/membership.h"
#include "manager/network_keys/key_keeper.h"
#include "manager/orchestrator/orchestrator.h"
#include "manager/orchestrator/scheduling_loop.h"
#include "manager/store/durable/replicated_store.h"
#include "manager/store/store.h"
#include "tests/sim/log/sim_log_disk.h"
#include "tests/sim/log/sim_log_network.h"
#include "tests/sim/sim_local_clock.h"
#include "tests/sim/sim_options.h"
#include "tests/sim/sim_probes.h"

namespace muster::sim {

// The parts of the daemon the control API asks; nothing of it matters here.
class NoNodeControl final : public manager::control::NodeControl {
 public:
  template <class T>
  using Callback = manager::control::Callback<T>;
  void init_swarm(const v1::InitSwarmRequest&, Callback<v1::InitSwarmResponse> done) override {
    done(v1::InitSwarmResponse());
  }
  void leave_swarm(const v1::LeaveSwarmRequest&, Callback<v1::LeaveSwarmResponse> done) override {
    done(v1::LeaveSwarmResponse());
  }
  void get_info(Callback<v1::GetInfoResponse> done) override { done(v1::GetInfoResponse()); }
  std::string node_id() const override { return "m"; }
  Result<std::string> new_join_token(const v1::Cluster& cluster) override {
    return manager::ca::new_join_token(cluster.root_ca());
  }
};

class SimProbe final : public manager::dispatcher::HostProbe {
 public:
  SimProbe(Executor& strand, std::function<manager::dispatcher::ProbeResult()> answer)
      : strand_(strand), answer_(std::move(answer)) {}
  void probe(const std::string&,
             std::function<void(manager::dispatcher::ProbeResult)> done) override {
    strand_.after(Duration(1ms), [done = std::move(done), answer = answer_()] { done(answer); });
  }

 private:
  Executor& strand_;
  std::function<manager::dispatcher::ProbeResult()> answer_;
};

class SimReachability final : public manager::members::Reachability {
 public:
  explicit SimReachability(Executor& strand) : strand_(strand) {}
  void check(const std::string&, UniqueFunction<void(Status)> done) override {
    strand_.after(Duration(1ms), [done = std::move(done)]() mutable { done(ok_status()); });
  }

 private:
  Executor& strand_;
};

struct SimSwarm;

// What a manager is apart from its lives.
struct ManagerPlace {
  explicit ManagerPlace(const SimWorld& world) : clock(world) {}

  raft::Member self;
  LogImage image;
  DiskWeather disk;
  LocalClock clock;
};

// One life of a manager: the real store, driver and protocol over a simulated disk and network, and
// everything a leader runs. Destroyed after kill(), it was a kill -9: what was under way is lost,
// what its disk has synced is not. Its parts are made on its strand, by start().
class ManagerLife {
 public:
  struct World {
    SimWorld& world;
    Rng& rng;
    SimLogNetwork& lanes;
    const std::vector<std::string>& node_ids;
    Probes& probes;
  };
  struct Options {
    raft::StartMode mode = raft::StartMode::kRestore;
    raft::Members group;  // all managers there are to be
    // Nodes of managers whose roles the keeper (manager/members) follows; then `group` is empty.
    // None: the group grows to `group` and stays so.
    std::vector<std::string> manager_nodes;
    uint64_t snapshot_entries = 0;
    uint64_t trailing_entries = 0;
    SimMutant mutant = SimMutant::kNone;
    // What the swarm begins with when its nodes have certificates: they join it by themselves.
    const SimSwarm* swarm = nullptr;

    bool keeper() const { return !manager_nodes.empty(); }
  };
  struct Events {
    std::function<void(uint64_t term)> on_lead;  // its parts run
    std::function<void()> on_follow;
    std::function<void(const Status&)> on_fatal;
    std::function<void()> on_removed;
    std::function<void(std::string)> broken;
    // Every commit, those read from the disk among them.
    std::function<void(const manager::store::CommitEvent&)> on_commit;
  };
  struct Parts {
    Parts(ManagerLife& life, raft::Node::Options options, manager::store::ReplicationEvents events);

    std::unique_ptr<raft::Transport> transport;
    manager::store::ReplicatedStore replicated;
    manager::store::Store& store;
    NoNodeControl node;
    manager::control::ControlApi api;
    manager::allocator::Allocator allocator;
    manager::orchestrator::Orchestrator orchestrator;
    manager::orchestrator::SchedulingLoop scheduling;
    SimProbe probe;
    manager::dispatcher::Dispatcher dispatcher;
    manager::drainer::Drainer drainer;
    SeededRng secrets;
    manager::network_keys::KeyKeeper network_keys;
    SimReachability reachability;
    manager::members::MemberKeeper keeper;
    manager::members::Membership membership;
    manager::ca::CertificateAuthority ca;
    manager::store::Store::Subscription checks;
  };

  ManagerLife(World world, ManagerPlace& place, Options options, Events events);
  // Reads the disk and takes part. On the strand, once.
  Status start();
  void kill();
  // In order: hands over, says goodbye. On the strand, once; `done` comes there.
  void stop(UniqueFunction<void()> done);

  const std::string& node_id() const { return place_.self.node_id; }
  // The term whose parts run; 0: it does not lead, or has not yet begun.
  uint64_t working_term() const { return working_term_; }

  LocalStrand raft_strand;
  LocalStrand strand;
  LocalStrand worker;
  SimLogDisk disk;
  std::unique_ptr<Parts> parts;  // null before start()

 private:
  void lead(uint64_t term);
  void follow();
  void bootstrap(uint64_t term);
  Status create_swarm(manager::store::Transaction& tx) const;
  void start_parts(uint64_t term);
  void look_after_group();
  void check_fence();

  World world_;
  ManagerPlace& place_;
  Options options_;
  Events events_;
  uint64_t term_ = 0;
  uint64_t working_term_ = 0;
  bool changing_group_ = false;
};

}  // namespace muster::sim
