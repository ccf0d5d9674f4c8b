#include "tests/sim/sim_manager.h"

#include <functional>
#include <map>
#include <set>
#include <variant>
#include <vector>

#include "base/rng.h"
#include "base/sim_executor.h"
#include "manager/orchestrator/orchestrator.h"
#include "manager/store/job_status.h"
#include "manager/store/store.h"
#include "manager/store/update_status.h"

namespace muster::sim {
namespace {

namespace store = manager::store;
using manager::store::is_updating;
using TaskPtr = store::Ptr<v1::Task>;

constexpr int kServices = 5;
constexpr int kNodes = 6;
constexpr uint64_t kReplicasMax = 8;
constexpr int64_t kHistory = 3;

// Commits after a random moment, in memory.
class MemoryProposer final : public store::Proposer {
 public:
  MemoryProposer(Executor& strand, Rng& rng) : strand_(strand), rng_(rng) {}
  void propose(uint64_t, std::string, UniqueFunction<void(store::ProposalResult)> done) override {
    const Duration delay = Duration(1us) * static_cast<int64_t>(rng_.below(3'000));
    strand_.after(delay, [done = std::move(done), index = ++index_]() mutable {
      done({store::ProposalOutcome::kCommitted, index, {}});
    });
  }
  uint64_t leading_term() const override { return 1; }
  uint64_t commits() const { return index_; }

 private:
  Executor& strand_;
  Rng& rng_;
  uint64_t index_ = 0;
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed) : rng_(seed), ids_(seed + 1) {}
  Result<SimOutcome> run();

 private:
  void set_up();
  void disturb();
  void put_service(const std::string& id);
  void toggle_node(const std::string& id);
  void work();
  void move(const v1::Task& task, v1::TaskState state);
  v1::TaskState next_state(const v1::Task& task);
  std::string pick_node();
  void check_commit(const store::CommitEvent& event);
  Status check_end();
  uint64_t hash() const;
  void write(std::function<Status(store::Transaction&)> body) {
    store_.update(std::move(body), [](const store::Commit&) {});
  }
  template <class T>
  void put(T object);
  void broken(std::string what) {
    if (broken_.ok())
      broken_ = internal_error("at {} ms: {}", world_.now().since_start / 1ms, what);
  }

  SeededRng rng_;
  SeededRng ids_;
  SimWorld world_;
  SimExecutor strand_{world_};
  MemoryProposer proposer_{strand_, rng_};
  store::Store store_{strand_, &proposer_, null_log()};
  manager::orchestrator::Orchestrator orchestrator_{strand_, store_, ids_, null_log()};
  store::Store::Subscription checks_;
  std::map<std::string, uint64_t> revisions_;
  std::set<std::string> paired_;  // services that were start-first at any time
  bool quiet_ = false;
  Status broken_;
};

template <class T>
void Simulation::put(T object) {
  write([object](store::Transaction& tx) -> Status {
    const auto known = tx.view().get<T>(object.id());
    if (known == nullptr) return tx.create(object);
    T next = object;
    next.mutable_meta()->set_version(known->meta().version());
    return tx.update(std::move(next));
  });
}

void Simulation::set_up() {
  store_.lead(1);
  v1::Cluster cluster;
  cluster.set_id("c");
  cluster.mutable_spec()->mutable_annotations()->set_name("default");
  cluster.mutable_spec()->set_task_history_limit(kHistory);
  put(cluster);
  for (int i = 0; i < kNodes; ++i) {
    v1::Node node;
    node.set_id(fmt::format("n{}", i));
    node.mutable_status()->set_state(v1::NodeStatus::READY);
    put(node);
  }
  world_.advance(1s);
  checks_ = store_.watch([this](const store::CommitEvent& event) { check_commit(event); });
  orchestrator_.start(store_.snapshot());
}

// A new shape for the service; service 0 is the global one, service 4 a job.
void Simulation::put_service(const std::string& id) {
  v1::Service service;
  if (const auto known = store_.snapshot().get<v1::Service>(id)) {
    *service.mutable_spec() = known->spec();
    service.set_revision(known->revision());
  }
  service.set_id(id);
  service.mutable_spec()->mutable_annotations()->set_name(id);
  uint64_t& number = revisions_[id];
  const bool renew = service.revision() == 0 || rng_.below(2) == 0;
  if (renew) service.set_revision(++number);
  if (id == "s0") {
    service.mutable_spec()->mutable_global();
  } else if (id == "s4") {
    v1::ReplicatedJob& job = *service.mutable_spec()->mutable_replicated_job();
    job.set_total_completions(rng_.below(kReplicasMax + 1));
    job.set_max_concurrent(rng_.below(4));
    service.mutable_job_status()->set_iteration(1);
  } else {
    service.mutable_spec()->mutable_replicated()->set_replicas(rng_.below(kReplicasMax + 1));
  }
  v1::UpdateConfig& update = *service.mutable_spec()->mutable_update();
  update.set_parallelism(rng_.below(3));
  update.set_failure_action(static_cast<v1::UpdateConfig::FailureAction>(rng_.below(3)));
  update.set_max_failure_ratio_ppm(rng_.below(2) == 0 ? 0 : 300'000);
  update.set_monitor_ns(Duration(1s).count() * static_cast<int64_t>(rng_.below(4)));
  update.set_order(rng_.below(2) == 0 ? v1::UpdateConfig::STOP_FIRST
                                      : v1::UpdateConfig::START_FIRST);
  v1::Revision revision;
  revision.set_id(store::revision_id(id, number));
  revision.set_service_id(id);
  revision.set_number(number);
  revision.mutable_spec()->set_force_update(number);
  revision.mutable_spec()->mutable_restart()->set_delay_ns(Duration(1s).count());
  write([service, revision, renew](store::Transaction& tx) -> Status {
    const auto known = tx.view().get<v1::Service>(service.id());
    if (renew) MUSTER_TRY(tx.create(revision));
    if (known == nullptr) return renew ? tx.create(service) : ok_status();
    v1::Service next = *known;
    *next.mutable_spec() = service.spec();
    if (store::is_job(next.spec())) {
      const uint64_t last = next.job_status().iteration();
      next.mutable_job_status()->Clear();
      next.mutable_job_status()->set_iteration(last + 1);
    }
    if (renew) {  // as the control API does it
      *next.mutable_previous_spec() = known->spec();
      next.set_previous_revision(known->revision());
      next.set_revision(revision.number());
      next.clear_update_status();
    }
    return tx.update(std::move(next));
  });
}

void Simulation::toggle_node(const std::string& id) {
  const auto known = store_.snapshot().get<v1::Node>(id);
  v1::Node node = *known;
  if (rng_.below(2) == 0) {
    const bool down = node.status().state() == v1::NodeStatus::DOWN;
    node.mutable_status()->set_state(down ? v1::NodeStatus::READY : v1::NodeStatus::DOWN);
  } else {
    node.mutable_spec()->set_availability(static_cast<v1::NodeSpec::Availability>(rng_.below(3)));
  }
  put(node);
}

void Simulation::disturb() {
  const std::string service = fmt::format("s{}", rng_.below(kServices));
  switch (rng_.below(8)) {
    case 0:
      if (store_.snapshot().get<v1::Service>(service) != nullptr) {
        write([service](store::Transaction& tx) { return tx.remove<v1::Service>(service); });
      }
      break;
    case 1:
    case 2:
    case 3: put_service(service); break;
    default: toggle_node(fmt::format("n{}", rng_.below(kNodes))); break;
  }
}

std::string Simulation::pick_node() {
  std::vector<std::string> fit;
  store_.snapshot().each<v1::Node>([&](const auto& node) {
    if (node->status().state() == v1::NodeStatus::READY &&
        node->spec().availability() == v1::NodeSpec::ACTIVE) {
      fit.push_back(node->id());
    }
    return true;
  });
  return fit.empty() ? std::string() : fit[rng_.below(fit.size())];
}

void Simulation::move(const v1::Task& task, v1::TaskState state) {
  const std::string node = task.node_id().empty() ? pick_node() : task.node_id();
  if (node.empty()) return;
  const WallTime now = world_.wall_now();
  write([id = task.id(), state, node, now](store::Transaction& tx) -> Status {
    const auto known = tx.view().get<v1::Task>(id);
    if (known == nullptr || known->status().state() >= state) return ok_status();
    v1::Task next = *known;
    next.set_node_id(node);
    next.mutable_status()->set_state(state);
    next.mutable_status()->set_timestamp_ns(now.unix_ns);
    if (state == v1::TASK_RUNNING) next.mutable_status()->set_running_since_ns(now.unix_ns);
    return tx.update(std::move(next));
  });
}

// What the task's node would report next; the present state when there is nothing to do.
v1::TaskState Simulation::next_state(const v1::Task& task) {
  const v1::TaskState state = task.status().state();
  if (task.desired_state() >= v1::TASK_SHUTDOWN) return v1::TASK_SHUTDOWN;
  if (state < v1::TASK_ASSIGNED) return v1::TASK_ASSIGNED;
  if (state < v1::TASK_READY) return v1::TASK_READY;
  if (state < v1::TASK_RUNNING) {
    return task.desired_state() >= v1::TASK_RUNNING ? v1::TASK_RUNNING : state;
  }
  if (task.job_iteration() != 0) {
    if (rng_.below(8) != 0) return state;
    return quiet_ || rng_.below(3) != 0 ? v1::TASK_COMPLETE : v1::TASK_FAILED;
  }
  if (quiet_ || rng_.below(60) != 0) return state;
  return rng_.below(2) == 0 ? v1::TASK_FAILED : v1::TASK_COMPLETE;
}

void Simulation::work() {
  const store::Snapshot state = store_.snapshot();
  state.each<v1::Task>([&](const TaskPtr& task) {
    if (task->status().state() > v1::TASK_RUNNING || rng_.below(3) == 0) return true;
    if (!task->node_id().empty()) {
      const auto node = state.get<v1::Node>(task->node_id());
      if (node == nullptr || node->status().state() == v1::NodeStatus::DOWN) return true;
    }
    const v1::TaskState next = next_state(*task);
    if (next > task->status().state()) move(*task, next);
    return true;
  });
}

void Simulation::check_commit(const store::CommitEvent& event) {
  for (const store::AnyChange& any : *event.changes) {
    const auto* change = std::get_if<store::Change<v1::Task>>(&any);
    if (change == nullptr || change->after == nullptr) continue;
    const v1::Task& after = *change->after;
    if (change->before != nullptr) {
      if (after.status().state() < change->before->status().state()) {
        broken(fmt::format("task {} went back", after.id()));
      }
      if (after.desired_state() < change->before->desired_state()) {
        broken(fmt::format("desired state of task {} went back", after.id()));
      }
    }
    const auto service = event.after.get<v1::Service>(after.service_id());
    const bool pairs = service == nullptr ||
                       service->spec().update().order() == v1::UpdateConfig::START_FIRST ||
                       paired_.contains(after.service_id());
    if (pairs) paired_.insert(after.service_id());
    std::map<std::pair<std::string, uint64_t>, int> meant;
    event.after.tasks_of_slot(after.service_id(), after.slot(), [&](const TaskPtr& task) {
      if (task->desired_state() > v1::TASK_RUNNING) return true;
      const std::string where = task->slot() == 0 ? task->node_id() : std::string();
      if (++meant[{where, task->revision()}] > (pairs ? 2 : 1)) {
        broken(fmt::format("two tasks of one revision in a slot of {}", task->service_id()));
      }
      return true;
    });
  }
}

Status Simulation::check_end() {
  const store::Snapshot state = store_.snapshot();
  std::map<std::string, uint64_t> running;
  std::map<std::tuple<std::string, uint64_t, std::string>, int64_t> ended;
  Status status;
  state.each<v1::Task>([&](const TaskPtr& task) {
    if (state.get<v1::Service>(task->service_id()) == nullptr) {
      status = internal_error("task {} outlives its service", task->id());
    } else if (task->desired_state() == v1::TASK_RUNNING &&
               task->status().state() == v1::TASK_RUNNING) {
      ++running[task->service_id()];
    } else {
      const std::string node = task->slot() == 0 ? task->node_id() : std::string();
      // An update under way keeps the task by which a slot failed or passed.
      const auto service = state.get<v1::Service>(task->service_id());
      // And a job what has completed.
      const bool more = is_updating(service->update_status()) || store::is_job(service->spec());
      const int64_t kept = kHistory + (more ? 1 : 0);
      if (++ended[{task->service_id(), task->slot(), node}] > kept) {
        status = internal_error("a slot of {} keeps too much history", task->service_id());
      }
    }
    return true;
  });
  state.each<v1::Service>([&](const auto& service) {
    const uint64_t wanted =
        service->spec().has_global() ? uint64_t{kNodes} : service->spec().replicated().replicas();
    const auto& previous = service->previous_revision();
    if (state.get<v1::Revision>(store::revision_id(service->id(), service->revision())) ==
            nullptr ||
        (service->has_previous_spec() &&
         state.get<v1::Revision>(store::revision_id(service->id(), previous)) == nullptr)) {
      status = internal_error("service {} has lost a revision", service->id());
    }
    if (is_updating(service->update_status())) {
      status = internal_error("the update of {} does not end", service->id());
    }
    if (store::is_job(service->spec())) {
      if (service->job_status().state() != v1::JobStatus::COMPLETED) {
        status = internal_error("job {} does not end: {}", service->id(),
                                service->job_status().ShortDebugString());
      }
    } else if (running[service->id()] != wanted) {
      status = internal_error("service {} runs {} of {} tasks", service->id(),
                              running[service->id()], wanted);
    }
    return true;
  });
  return status;
}

// FNV-1a over everything stored.
uint64_t Simulation::hash() const {
  uint64_t value = 14695981039346656037u;
  const auto add = [&](const auto& object) {
    for (const char c : object->SerializeAsString()) {
      value = (value ^ static_cast<unsigned char>(c)) * 1099511628211u;
    }
    return true;
  };
  const store::Snapshot state = store_.snapshot();
  state.each<v1::Service>(add);
  state.each<v1::Task>(add);
  state.each<v1::Node>(add);
  return value;
}

Result<SimOutcome> Simulation::run() {
  set_up();
  for (int step = 0; step < 1'500; ++step) {
    if (step % 10 == 0) disturb();
    work();
    world_.advance(Duration(1ms) * static_cast<int64_t>(1 + rng_.below(200)));
    MUSTER_TRY(broken_);
  }
  quiet_ = true;
  for (int i = 0; i < kNodes; ++i) {
    v1::Node node = *store_.snapshot().get<v1::Node>(fmt::format("n{}", i));
    node.mutable_status()->set_state(v1::NodeStatus::READY);
    node.mutable_spec()->set_availability(v1::NodeSpec::ACTIVE);
    put(node);
  }
  for (int step = 0; step < 600; ++step) {
    work();
    world_.advance(200ms);
    MUSTER_TRY(broken_);
  }
  MUSTER_TRY(check_end());
  return SimOutcome{hash(), proposer_.commits()};
}

}  // namespace

Result<SimOutcome> run_manager(uint64_t seed) {
  return Simulation(seed).run();
}

}  // namespace muster::sim
