#include "tests/sim/sim_manager_life.h"

#include <utility>

#include "manager/control/cluster_objects.h"

namespace muster::sim {

using manager::dispatcher::ProbeResult;
namespace store_ns = manager::store;

ManagerLife::Parts::Parts(ManagerLife& life, Rng& rng, SimDisk& disk, const SimLog::Faults& faults,
                          std::function<void()> lost)
    : log(life.strand, rng, disk, faults, std::move(lost)),
      store(life.strand, &log, null_log()),
      api(life.strand, rng, node, null_log()),
      allocator(life.strand, store, life.strand.clock(), null_log()),
      orchestrator(life.strand, store, rng, null_log()),
      scheduling(life.strand, life.worker, store, null_log()),
      probe(
          life.strand,
          [&rng] { return rng.below(2) == 0 ? ProbeResult::kRefused : ProbeResult::kUnreachable; }),
      dispatcher({life.strand, store, rng, probe, null_log()}, {"m", {"192.0.2.1:2377"}}) {}

Status ManagerLife::start(SimDisk& disk, const SimLog::Faults& faults, std::function<void()> lost,
                          std::function<void(const store_ns::CommitEvent&)> watcher) {
  parts = std::make_unique<Parts>(*this, rng_, disk, faults, std::move(lost));
  parts->checks = parts->store.watch(std::move(watcher));
  MUSTER_TRY(disk.replay(parts->store));
  parts->store.lead(parts->log.leading_term());
  if (parts->store.snapshot().cluster() == nullptr) {
    bootstrap();
  } else {
    start_parts();
  }
  return ok_status();
}

void ManagerLife::start_parts() {
  const store_ns::Snapshot state = parts->store.snapshot();
  parts->api.activate(parts->store);
  parts->allocator.start();
  parts->orchestrator.start(state);
  parts->scheduling.start(state);
  parts->dispatcher.start_leading();
}

// Closures that are left when the life ends are dropped with its strand.
void ManagerLife::bootstrap() {
  parts->store.update(
      [this](store_ns::Transaction& tx) -> Status {
        v1::ClusterSpec spec;
        spec.set_task_history_limit(2);
        MUSTER_TRY(manager::control::create_cluster(tx, {"c", spec, {}, {}, 0, 0}));
        for (const std::string& id : node_ids_) {
          v1::Node node;
          node.set_id(id);
          MUSTER_TRY(manager::control::upsert_node(tx, node));
        }
        return manager::allocator::bootstrap_networks(tx, rng_);
      },
      [this](const store_ns::Commit& commit) {
        if (commit.status.ok()) return start_parts();
        strand.after(Duration(10ms), [this] { bootstrap(); });
      });
}

}  // namespace muster::sim
