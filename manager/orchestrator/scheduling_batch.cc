#include "manager/orchestrator/scheduling_batch.h"

#include <utility>

namespace muster::manager::orchestrator {
namespace {

using scheduler::TaskPtr;

bool as_seen(const store::Snapshot& view, const TaskPtr& seen) {
  const auto current = view.get<v1::Task>(seen->id());
  return current != nullptr && current->meta().version() == seen->meta().version();
}

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

v1::Task assigned(const scheduler::Decision& decision, const std::string& node_id, WallTime now) {
  v1::Task task = *decision.task;
  task.set_node_id(node_id);
  v1::TaskStatus& status = *task.mutable_status();
  status.set_state(v1::TASK_ASSIGNED);
  status.set_timestamp_ns(now.unix_ns);
  status.set_message(decision.preassigned ? "scheduler confirmed task can run on preassigned node"
                                          : "scheduler assigned task to node");
  status.clear_error();
  task.mutable_assigned_generic()->Assign(decision.generics.begin(), decision.generics.end());
  return task;
}

v1::Task ended(const TaskPtr& seen, const char* message, WallTime now) {
  v1::Task task = *seen;
  v1::TaskStatus& status = *task.mutable_status();
  status.set_state(v1::TASK_SHUTDOWN);
  status.set_timestamp_ns(now.unix_ns);
  status.set_message(message);
  status.clear_error();
  return task;
}

v1::Task waiting(const TaskPtr& seen, const std::string& reason, WallTime now) {
  v1::Task task = *seen;
  v1::TaskStatus& status = *task.mutable_status();
  status.set_timestamp_ns(now.unix_ns);
  status.set_message(kPendingMessage);
  status.set_error(reason);
  return task;
}

// A task of an older revision than its service has is not worth waiting for.
bool outdated(const store::Snapshot& view, const TaskPtr& task) {
  const auto service = view.get<v1::Service>(task->service_id());
  return service != nullptr && task->revision() < service->revision();
}

}  // namespace

Status write(store::Transaction& transaction, SchedulingBatch& batch) {
  batch.decisions_lost.clear();
  batch.refusals_lost.clear();
  const WallTime now = transaction.now();
  // All reading comes before the first write: a view that is held makes the store copy.
  std::vector<v1::Task> changed;
  changed.reserve(batch.size());
  {
    const store::Snapshot view = transaction.view();
    NodeCheck nodes(view, *batch.nodes);
    for (const auto& decision : batch.decisions) {
      if (nodes.good(decision.node) && as_seen(view, decision.task)) {
        changed.push_back(assigned(decision, (*batch.nodes)[decision.node].id, now));
      } else {
        batch.decisions_lost.push_back(decision.task);
      }
    }
    for (const auto& unplaced : batch.unplaced) {
      if (!as_seen(view, unplaced.task)) {
        batch.refusals_lost.push_back(unplaced.task);
      } else if (outdated(view, unplaced.task)) {
        changed.push_back(
            ended(unplaced.task, "replaced by a newer version before a node was found", now));
      } else {
        changed.push_back(waiting(unplaced.task, (*batch.reasons)[unplaced.reason], now));
      }
    }
    for (const TaskPtr& task : batch.stopped) {
      // A newer form comes with an event and is looked at then.
      if (as_seen(view, task))
        changed.push_back(ended(task, "stopped before a node was found", now));
    }
  }
  for (v1::Task& task : changed) MUSTER_TRY(transaction.update(std::move(task)));
  return ok_status();
}

}  // namespace muster::manager::orchestrator
