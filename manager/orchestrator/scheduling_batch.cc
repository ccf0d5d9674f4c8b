#include "manager/orchestrator/scheduling_batch.h"

#include <utility>

namespace muster::manager::orchestrator {
namespace {

using scheduler::TaskPtr;

// Whether nodes are still as seen and take tasks, each looked up once a transaction.
class NodeCheck {
 public:
  NodeCheck(const store::Snapshot& view, const std::vector<SeenNode>& nodes)
      : view_(view), nodes_(nodes), answers_(nodes.size(), kUnasked) {}

  bool good(scheduler::NodeIndex index) {
    if (answers_[index] == kUnasked) answers_[index] = look(nodes_[index]) ? kGood : kBad;
    return answers_[index] == kGood;
  }

 private:
  enum Answer : uint8_t { kUnasked, kGood, kBad };

  bool look(const SeenNode& seen) const {
    const auto node = view_.get<v1::Node>(seen.id);
    return node != nullptr && node->meta().version() == seen.version &&
           node->status().state() == v1::NodeStatus::READY &&
           node->spec().availability() == v1::NodeSpec::ACTIVE;
  }

  const store::Snapshot& view_;
  const std::vector<SeenNode>& nodes_;
  std::vector<Answer> answers_;
};

v1::Task changed(const TaskPtr& seen, v1::TaskState state, const char* message, WallTime now) {
  v1::Task task = *seen;
  v1::TaskStatus& status = *task.mutable_status();
  status.set_state(state);
  status.set_timestamp_ns(now.unix_ns);
  status.set_message(message);
  status.clear_error();
  return task;
}

v1::Task assigned(const scheduler::Decision& decision, const std::string& node_id, WallTime now) {
  v1::Task task =
      changed(decision.task, v1::TASK_ASSIGNED,
              decision.preassigned ? "scheduler confirmed task can run on preassigned node"
                                   : "scheduler assigned task to node",
              now);
  task.set_node_id(node_id);
  task.mutable_assigned_generic()->Assign(decision.generics.begin(), decision.generics.end());
  return task;
}

v1::Task waiting(const TaskPtr& seen, const std::string& reason, WallTime now) {
  v1::Task task = changed(seen, v1::TASK_PENDING, kPendingMessage, now);
  task.mutable_status()->set_error(reason);
  return task;
}

// A task of an older revision than its service has is not worth waiting for.
bool outdated(const store::Snapshot& view, const TaskPtr& task) {
  const auto service = view.get<v1::Service>(task->service_id());
  return service != nullptr && task->revision() < service->revision();
}

// What reading alone decides, kept until the writing: a view that is held then makes the store
// copy its state.
struct Looked {
  std::vector<bool> node_good;      // of each decision
  std::vector<bool> task_outdated;  // of each unplaced task
};

Looked look(const store::Snapshot& view, const SchedulingBatch& batch) {
  Looked looked;
  NodeCheck nodes(view, *batch.nodes);
  for (const auto& decision : batch.decisions) {
    looked.node_good.push_back(nodes.good(decision.node));
  }
  for (const auto& unplaced : batch.unplaced) {
    looked.task_outdated.push_back(outdated(view, unplaced.task));
  }
  return looked;
}

// Writes `task` unless the stored one is no longer `seen`, which is then listed in `lost` if given.
Status put(store::Transaction& transaction, const TaskPtr& seen, v1::Task task,
           std::vector<TaskPtr>* lost) {
  Status status = transaction.replace<v1::Task>(seen, std::move(task));
  if (status.code() != StatusCode::kAborted && status.code() != StatusCode::kNotFound) {
    return status;
  }
  if (lost != nullptr) lost->push_back(seen);
  return ok_status();
}

}  // namespace

Status write(store::Transaction& transaction, SchedulingBatch& batch) {
  batch.decisions_lost.clear();
  batch.refusals_lost.clear();
  const WallTime now = transaction.now();
  const Looked looked = look(transaction.view(), batch);
  for (size_t i = 0; i < batch.decisions.size(); ++i) {
    const auto& decision = batch.decisions[i];
    if (!looked.node_good[i]) {
      batch.decisions_lost.push_back(decision.task);
      continue;
    }
    MUSTER_TRY(put(transaction, decision.task,
                   assigned(decision, (*batch.nodes)[decision.node].id, now),
                   &batch.decisions_lost));
  }
  for (size_t i = 0; i < batch.unplaced.size(); ++i) {
    const auto& [task, reason] = batch.unplaced[i];
    v1::Task next = looked.task_outdated[i]
                        ? changed(task, v1::TASK_SHUTDOWN,
                                  "replaced by a newer version before a node was found", now)
                        : waiting(task, (*batch.reasons)[reason], now);
    MUSTER_TRY(put(transaction, task, std::move(next), &batch.refusals_lost));
  }
  for (const TaskPtr& task : batch.stopped) {
    // A newer form comes with an event and is looked at then.
    MUSTER_TRY(put(transaction, task,
                   changed(task, v1::TASK_SHUTDOWN, "stopped before a node was found", now),
                   nullptr));
  }
  return ok_status();
}

}  // namespace muster::manager::orchestrator
