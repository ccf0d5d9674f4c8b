#include "manager/dispatcher/status_writer.h"

#include <google/protobuf/util/message_differencer.h>

#include <memory>
#include <utility>

namespace muster::manager::dispatcher {

bool may_replace(const v1::Task& stored, const v1::TaskStatusUpdate& update) {
  return update.status().state() >= stored.status().state();
}

StatusWriter::StatusWriter(store::Store& store, std::string manager_id, Log log,
                           Acknowledge acknowledge)
    : store_(store),
      manager_id_(std::move(manager_id)),
      log_(std::move(log)),
      acknowledge_(std::move(acknowledge)) {}

void StatusWriter::clear() {
  pending_.clear();
  sequences_.clear();
}

void StatusWriter::add(const std::string& session_id, const std::string& node_id,
                       const v1::StatusBatch& batch) {
  for (const auto& update : batch.updates()) {
    Pending& pending = pending_[update.task_id()];
    if (!pending.update.task_id().empty() &&
        update.status().state() < pending.update.status().state()) {
      continue;
    }
    pending = {node_id, update};
  }
  uint64_t& sequence = sequences_[session_id];
  sequence = std::max(sequence, batch.sequence());
  flush();
}

void StatusWriter::flush() {
  if (queued_) return;
  queued_ = true;
  auto batch = std::make_shared<Batch>();
  const std::weak_ptr<int> alive = alive_;
  store_.update(
      [this, alive, batch](store::Transaction& tx) -> Status {
        if (alive.expired()) return Status(StatusCode::kCancelled, "the dispatcher has stopped");
        fill(*batch);
        return write(tx, *batch);
      },
      [this, alive, batch](const store::Commit& commit) {
        if (alive.expired()) return;
        if (commit.status.ok()) {
          for (const auto& [session_id, sequence] : batch->sequences) {
            acknowledge_(session_id, sequence);
          }
        } else {
          log_->warn("task states were not written: {}", commit.status.message());
        }
      });
}

// Takes what waits, up to what surely fits an entry. The store may run the transaction twice, so
// what was taken stays in the batch.
void StatusWriter::fill(Batch& batch) {
  queued_ = false;
  while (!pending_.empty() && batch.reports.size() < kReportsMax) {
    auto first = pending_.extract(pending_.begin());
    batch.reports.insert_or_assign(std::move(first.key()), std::move(first.mapped()));
  }
  if (!pending_.empty()) {
    flush();  // the rest, and the acknowledgements with it
    return;
  }
  for (auto& [session, sequence] : std::exchange(sequences_, {})) {
    batch.sequences[session] = std::max(batch.sequences[session], sequence);
  }
}

Status StatusWriter::write(store::Transaction& tx, const Batch& batch) {
  const store::Snapshot view = tx.view();
  for (const auto& [task_id, report] : batch.reports) {
    const auto stored = view.get<v1::Task>(task_id);
    if (!stored) continue;  // deleted meanwhile: the agent learns it from its feed
    if (stored->node_id() != report.node_id) {
      log_->warn("node {} reports task {} of node {}; ignored", report.node_id, task_id,
                 stored->node_id());
      continue;
    }
    if (!may_replace(*stored, report.update)) continue;
    v1::Task next = *stored;
    *next.mutable_status() = report.update.status();
    next.mutable_status()->set_applied_by(stored->status().applied_by());
    next.mutable_status()->set_applied_at_ns(stored->status().applied_at_ns());
    next.set_endpoint_state(report.update.endpoint_state());
    if (google::protobuf::util::MessageDifferencer::Equals(next, *stored)) continue;
    next.mutable_status()->set_applied_by(manager_id_);
    next.mutable_status()->set_applied_at_ns(tx.now().unix_ns);
    MUSTER_TRY(tx.update(std::move(next)));
  }
  return ok_status();
}

}  // namespace muster::manager::dispatcher
