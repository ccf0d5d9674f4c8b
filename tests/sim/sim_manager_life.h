#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "base/sim_executor.h"
#include "manager/allocator/allocator.h"
#include "manager/control/control_api.h"
#include "manager/dispatcher/dispatcher.h"
#include "manager/orchestrator/orchestrator.h"
#include "manager/orchestrator/scheduling_loop.h"
#include "manager/store/store.h"
#include "tests/sim/sim_disk.h"

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
  Result<std::string> new_join_token(const v1::Cluster&) override { return std::string("token"); }
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

// One life of the manager. Destroying it is a kill -9: what was under way is lost, what the log
// synced is not. Its parts are made on its strand, by start().
class ManagerLife {
 public:
  struct Parts {
    Parts(ManagerLife& life, Rng& rng, SimDisk& disk, const SimLog::Faults& faults,
          std::function<void()> lost);

    SimLog log;
    manager::store::Store store;
    NoNodeControl node;
    manager::control::ControlApi api;
    manager::allocator::Allocator allocator;
    manager::orchestrator::Orchestrator orchestrator;
    manager::orchestrator::SchedulingLoop scheduling;
    SimProbe probe;
    manager::dispatcher::Dispatcher dispatcher;
    manager::store::Store::Subscription checks;
  };

  ManagerLife(SimWorld& world, Rng& rng, std::vector<std::string> node_ids)
      : strand(world), worker(world), rng_(rng), node_ids_(std::move(node_ids)) {}

  // Reads the disk and begins to lead. On the strand, once. `watcher` sees every commit, those read
  // from the disk among them.
  Status start(SimDisk& disk, const SimLog::Faults& faults, std::function<void()> lost,
               std::function<void(const manager::store::CommitEvent&)> watcher);

  SimExecutor strand;
  SimExecutor worker;
  std::unique_ptr<Parts> parts;  // null before start()

 private:
  void bootstrap();
  void start_parts();

  Rng& rng_;
  std::vector<std::string> node_ids_;
};

}  // namespace muster::sim
