#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/backoff.h"
#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"
#include "manager/orchestrator/node_fit.h"
#include "manager/orchestrator/plan.h"
#include "manager/store/store.h"

namespace muster::manager::orchestrator {

// Keeps services as their specs say, on the leader: tasks in slots and on nodes, restarts, updates,
// history, clean-up of removed services.
//
// The shell around service_plan.h. It notes which services, slots and nodes a commit touched, and
// evaluates those inside one transaction, against the state that transaction sees; what is touched
// while it is under way waits for the next. There is no timer but for what the policies date:
// restart delays, update delays, the wait for a predecessor to stop. Work is proportional to what
// changed: a task that ends costs its slot, not its service.
//
// Level-triggered: may be stopped at any moment; start() looks at every service once. Lives on the
// store's strand; strand, store and rng outlive it.
class Orchestrator {
 public:
  struct Options {
    size_t changes_max = 1'500;    // a transaction's, well below an entry (1.5 MB)
    Duration retry_delay = 100ms;  // after a write that failed; grows to kRetryDelayMax
  };

  Orchestrator(Executor& strand, store::Store& store, Rng& rng, Log log, Options options);
  Orchestrator(Executor& strand, store::Store& store, Rng& rng, Log log)
      : Orchestrator(strand, store, rng, std::move(log), Options()) {}
  ~Orchestrator();

  // Call once the store leads.
  void start(const store::Snapshot& snapshot);
  // Idempotent. A write that is under way may still happen.
  void stop();

 private:
  static constexpr Duration kRetryDelayMax = 5s;
  using SlotKey = std::pair<uint64_t, std::string>;  // number, or node id of a global service
  struct Dirt {
    bool whole = false;
    std::set<SlotKey> slots;
  };
  // By service id: an order that is the same everywhere.
  using DirtMap = std::map<std::string, Dirt>;
  struct Wake {
    std::string service_id;
    std::optional<SlotKey> slot;
    friend auto operator<=>(const Wake&, const Wake&) = default;
  };

  void on_commit(const store::CommitEvent& event);
  void on_task(const store::Change<v1::Task>& change, const store::Snapshot& state);
  void on_node(const store::Change<v1::Node>& change, const store::Snapshot& state);
  void mark(const std::string& service_id) { dirt_[service_id].whole = true; }
  void mark_slot(const v1::Task& task);
  void mark_all(const store::Snapshot& state);
  void mark_crowded(const store::Snapshot& state, const v1::Node& node);
  Crowded look_at_tight_nodes(const store::Snapshot& state);

  void pump();
  Status evaluate(store::Transaction& tx);
  void evaluate_service(const store::Snapshot& state, const std::string& service_id,
                        const Dirt& dirt, const Crowded& crowded, WallTime now, size_t room,
                        Plan& plan);
  Status write(store::Transaction& tx, Plan& plan);
  void on_written(const store::Commit& commit);
  void merge(DirtMap from);
  void note_wake(Wake wake, WallTime at);
  void arm();
  void on_timer();

  Executor& strand_;
  store::Store& store_;
  Rng& rng_;
  Log log_;
  Options options_;
  size_t changes_max_;
  bool running_ = false;
  bool writing_ = false;
  DirtMap dirt_;
  // Services with tasks that wait for their turn to leave their nodes.
  std::set<std::string, std::less<>> moving_;
  // Nodes that may offer less than is reserved on them: only a change of what they offer can bring
  // that about, so the tasks of others need not be counted.
  std::set<std::string> tight_nodes_;
  DirtMap in_work_;                       // evaluated by the transaction under way
  std::map<Wake, WallTime> found_wakes_;  // of the transaction under way
  std::map<Wake, WallTime> wakes_;
  std::set<std::pair<WallTime, Wake>> wake_order_;
  Backoff backoff_;
  Executor::TimerId timer_ = 0;
  Executor::TimerId retry_ = 0;
  std::optional<WallTime> armed_for_;
  store::Store::Subscription subscription_;
  std::shared_ptr<Orchestrator*> alive_;
};

}  // namespace muster::manager::orchestrator
