#include "manager/orchestrator/scheduling_loop.h"

#include <algorithm>
#include <atomic>
#include <utility>
#include <variant>
#include <vector>

#include "base/check.h"
#include "manager/orchestrator/scheduling_batch.h"
#include "overlay/ipam/mtu.h"
#include "overlay/ipam/overlay_limits.h"
#include "scheduler/cluster_state.h"
#include "scheduler/pending_queue.h"
#include "scheduler/placement.h"

namespace muster::manager::orchestrator {

using scheduler::TaskPtr;
using BatchPtr = std::shared_ptr<SchedulingBatch>;

namespace {

// In the order of ids an entry touches neighbours in the store's tables, not all of them. The first
// eight characters decide nearly always, and are at hand without following pointers.
void sort_by_id(std::vector<scheduler::Decision>& decisions) {
  struct Key {
    uint64_t prefix;
    uint32_t at;
  };
  std::vector<Key> keys;
  keys.reserve(decisions.size());
  for (uint32_t at = 0; at < decisions.size(); ++at) {
    const std::string& id = decisions[at].task->id();
    uint64_t prefix = 0;
    for (size_t i = 0; i < 8; ++i) {
      prefix = prefix << 8 | (i < id.size() ? static_cast<unsigned char>(id[i]) : 0);
    }
    keys.push_back({prefix, at});
  }
  std::sort(keys.begin(), keys.end(), [&](const Key& a, const Key& b) {
    if (a.prefix != b.prefix) return a.prefix < b.prefix;
    return decisions[a.at].task->id() < decisions[b.at].task->id();
  });
  std::vector<scheduler::Decision> sorted;
  sorted.reserve(decisions.size());
  for (const Key& key : keys) sorted.push_back(std::move(decisions[key.at]));
  decisions = std::move(sorted);
}

}  // namespace

// Hands batches to the store and their outcome back to the core.
struct SchedulingLoop::Writer : std::enable_shared_from_this<Writer> {
  Writer(Executor& worker_strand, store::Store& the_store)
      : worker(worker_strand), store(the_store) {}

  void submit(const std::shared_ptr<Core>& core, std::vector<BatchPtr> batches);

  Executor& worker;
  store::Store& store;
  bool running = true;
};

// Cluster state, queue and rounds. Everything but stop() happens on the worker strand.
class SchedulingLoop::Core : public std::enable_shared_from_this<Core> {
 public:
  Core(Executor& strand, Executor& worker, std::shared_ptr<Writer> writer, Log log,
       const Options& options)
      : strand_(strand),
        worker_(worker),
        writer_(std::move(writer)),
        log_(std::move(log)),
        options_(options) {}

  void load(const store::Snapshot& snapshot);
  void on_commit(const store::CommitEvent& event);
  void on_written(const SchedulingBatch& batch, const Status& status);
  void stop() { stopped_ = true; }

 private:
  void put_task(const TaskPtr& task);
  void put_network(const v1::Network& network);
  void apply(const store::AnyChange& change);
  void pump();
  std::vector<BatchPtr> batches_of(scheduler::Plan plan);
  void pause();

  Executor& strand_;
  Executor& worker_;
  std::shared_ptr<Writer> writer_;
  Log log_;
  Options options_;
  std::atomic<bool> stopped_{false};

  scheduler::ClusterState state_;
  scheduler::PendingQueue queue_{state_};
  scheduler::Placer placer_{state_, queue_};
  std::vector<TaskPtr> stopping_;  // told to shut down while PENDING
  size_t outstanding_ = 0;         // batches handed to the store
  bool paused_ = false;
};

// ---------------------------------------------------------------- core

void SchedulingLoop::Core::put_task(const TaskPtr& task) {
  state_.put_task(task);
  queue_.put(task);
  if (task->status().state() == v1::TASK_PENDING && task->desired_state() == v1::TASK_SHUTDOWN) {
    stopping_.push_back(task);
  }
}

void SchedulingLoop::Core::put_network(const v1::Network& network) {
  const v1::NetworkSpec& spec = network.spec();
  state_.set_network(network.id(), {overlay::is_overlay_driver(spec), overlay::is_encrypted(spec),
                                    spec.ingress()});
}

void SchedulingLoop::Core::load(const store::Snapshot& snapshot) {
  snapshot.each<v1::Network>([&](const auto& network) {
    put_network(*network);
    return true;
  });
  snapshot.each<v1::Node>([&](const auto& node) {
    state_.put_node(*node);
    return true;
  });
  snapshot.each<v1::Revision>([&](const auto& revision) {
    state_.put_revision(*revision);
    return true;
  });
  snapshot.each<v1::Task>([&](const auto& task) {
    put_task(task);
    state_.note_failure(*task);
    return true;
  });
  pump();
}

void SchedulingLoop::Core::apply(const store::AnyChange& change) {
  if (const auto* task = std::get_if<store::Change<v1::Task>>(&change)) {
    if (task->after != nullptr) {
      put_task(task->after);
    } else {
      queue_.remove(task->before->id());
      state_.remove_task(task->before->id());
    }
  } else if (const auto* node = std::get_if<store::Change<v1::Node>>(&change)) {
    if (node->after != nullptr) {
      state_.put_node(*node->after);
    } else {
      state_.remove_node(node->before->id());
    }
  } else if (const auto* network = std::get_if<store::Change<v1::Network>>(&change)) {
    if (network->after != nullptr) {
      put_network(*network->after);
    } else {
      state_.set_network(network->before->id(), {});
    }
  } else if (const auto* revision = std::get_if<store::Change<v1::Revision>>(&change)) {
    if (revision->after != nullptr) {
      state_.put_revision(*revision->after);
    } else {
      state_.remove_revision(revision->before->service_id(), revision->before->number());
    }
  }
}

void SchedulingLoop::Core::on_commit(const store::CommitEvent& event) {
  if (stopped_) return;
  for (const store::AnyChange& change : *event.changes) apply(change);
  pump();
}

void SchedulingLoop::Core::on_written(const SchedulingBatch& batch, const Status& status) {
  if (stopped_) return;
  MUSTER_CHECK(outstanding_ > 0, "an outcome without a batch");
  --outstanding_;
  // An event may have told more of a task meanwhile; forget() knows, and that form is queued.
  auto back = [&](const TaskPtr& task) {
    if (state_.forget(task->id())) queue_.put(task);
  };
  if (status.ok()) {
    for (const TaskPtr& task : batch.decisions_lost) back(task);
    for (const TaskPtr& task : batch.refusals_lost) queue_.make_due(task->id());
  } else {
    log_->warn("placements were not written: {}", status.message());
    if (status.code() == StatusCode::kResourceExhausted && batch.size() > 1) {
      options_.transaction_tasks = std::min(options_.transaction_tasks, batch.size() / 2);
    }
    for (const auto& decision : batch.decisions) back(decision.task);
    for (const auto& unplaced : batch.unplaced) queue_.make_due(unplaced.task->id());
    stopping_.insert(stopping_.end(), batch.stopped.begin(), batch.stopped.end());
    pause();
  }
  pump();
}

// The store is full or has lost its leadership, in which case stop() is on its way.
void SchedulingLoop::Core::pause() {
  if (std::exchange(paused_, true)) return;
  worker_.after(options_.retry_delay, [self = shared_from_this()] {
    self->paused_ = false;
    self->pump();
  });
}

void SchedulingLoop::Core::pump() {
  if (stopped_ || paused_) return;
  while (outstanding_ == 0) {
    placer_.wake();
    if (!queue_.any_due() && stopping_.empty()) return;
    auto plan = placer_.round(worker_.clock().wall_now(), options_.round_tasks_max);
    // Tasks already marked with the same reason need no write.
    std::erase_if(plan.unplaced, [&](const scheduler::Unplaced& unplaced) {
      const auto& status = unplaced.task->status();
      return status.error() == plan.reasons[unplaced.reason] && status.message() == kPendingMessage;
    });
    auto batches = batches_of(std::move(plan));
    if (batches.empty()) continue;  // an uninteresting part of the queue; go on with the next
    outstanding_ = batches.size();
    strand_.post([writer = writer_, self = shared_from_this(),
                  sent = std::move(batches)]() mutable { writer->submit(self, std::move(sent)); });
  }
}

std::vector<BatchPtr> SchedulingLoop::Core::batches_of(scheduler::Plan plan) {
  sort_by_id(plan.decisions);
  auto nodes = std::make_shared<std::vector<SeenNode>>(state_.nodes().size());
  for (const auto& decision : plan.decisions) {
    SeenNode& seen = (*nodes)[decision.node];
    if (!seen.id.empty()) continue;
    const auto& node = state_.nodes()[decision.node];
    seen = {node.facts.id, node.version};
  }
  const auto reasons = std::make_shared<const std::vector<std::string>>(std::move(plan.reasons));
  std::vector<BatchPtr> batches;
  auto room = [&]() -> SchedulingBatch& {
    if (batches.empty() || batches.back()->size() >= options_.transaction_tasks) {
      auto batch = std::make_shared<SchedulingBatch>();
      batch->nodes = nodes;
      batch->reasons = reasons;
      batches.push_back(std::move(batch));
    }
    return *batches.back();
  };
  for (auto& decision : plan.decisions) room().decisions.push_back(std::move(decision));
  for (auto& unplaced : plan.unplaced) room().unplaced.push_back(std::move(unplaced));
  for (TaskPtr& task : std::exchange(stopping_, {})) room().stopped.push_back(std::move(task));
  return batches;
}

// ---------------------------------------------------------------- writer

void SchedulingLoop::Writer::submit(const std::shared_ptr<Core>& core,
                                    std::vector<BatchPtr> batches) {
  for (BatchPtr& batch : batches) {
    if (!running) return;
    store.update([batch](store::Transaction& transaction) { return write(transaction, *batch); },
                 [self = shared_from_this(), core, batch](const store::Commit& commit) {
                   self->worker.post(
                       [core, batch, status = commit.status] { core->on_written(*batch, status); });
                 });
  }
}

// ---------------------------------------------------------------- loop

SchedulingLoop::SchedulingLoop(Executor& strand, Executor& worker, store::Store& store, Log log,
                               Options options)
    : strand_(strand), worker_(worker), store_(store), log_(std::move(log)), options_(options) {}

SchedulingLoop::~SchedulingLoop() {
  stop();
}

void SchedulingLoop::start(const store::Snapshot& snapshot) {
  MUSTER_CHECK(strand_.is_current());
  stop();
  writer_ = std::make_shared<Writer>(worker_, store_);
  core_ = std::make_shared<Core>(strand_, worker_, writer_, log_, options_);
  auto follow = [core = core_, &worker = worker_](const store::CommitEvent& event) {
    worker.post([core, event] { core->on_commit(event); });
  };
  store::Snapshot begin = snapshot;
  if (auto subscription = store_.watch(snapshot.version(), follow)) {
    subscription_ = *std::move(subscription);
  } else {
    begin = store_.snapshot();
    subscription_ = store_.watch(follow);
  }
  worker_.post([core = core_, begin] { core->load(begin); });
}

void SchedulingLoop::stop() {
  if (core_ == nullptr) return;
  subscription_ = {};
  core_->stop();
  writer_->running = false;
  core_.reset();
  writer_.reset();
}

}  // namespace muster::manager::orchestrator
