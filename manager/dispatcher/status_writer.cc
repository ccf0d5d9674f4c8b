#include "manager/dispatcher/status_writer.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>

namespace muster::manager::dispatcher {
namespace {

// Longer texts of an agent are cut: a state must never be too large for an entry.
constexpr size_t kTextBytesMax = 4096;
constexpr int kProbesMax = 5;

void cut(std::string& text) {
  if (text.size() <= kTextBytesMax) return;
  size_t end = kTextBytesMax;
  // Not inside a character: protobuf wants whole ones.
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  text.resize(end);
}

void cut(v1::Health& health) {
  const int surplus = health.probes_size() - kProbesMax;
  if (surplus > 0) health.mutable_probes()->DeleteSubrange(0, surplus);
  for (v1::Health::Probe& probe : *health.mutable_probes()) cut(*probe.mutable_output());
}

}  // namespace

bool may_replace(const v1::Task& stored, const v1::TaskStatusUpdate& update) {
  const v1::TaskState was = stored.status().state();
  const v1::TaskState is = update.status().state();
  if (is < v1::TASK_ASSIGNED || is > v1::TASK_REJECTED) return false;
  return was > v1::TASK_RUNNING ? is == was : is >= was;
}

v1::EndpointState endpoint_after(const v1::Task& stored, v1::EndpointState reported) {
  const v1::EndpointState was = stored.endpoint_state();
  if (reported < v1::ENDPOINT_READY || reported > v1::ENDPOINT_RELEASED) return v1::ENDPOINT_ABSENT;
  // It got ready when it was told to stop: nobody leads to it, and nobody shall begin to.
  if (was == v1::ENDPOINT_ABSENT && stored.desired_state() >= v1::TASK_SHUTDOWN) return was;
  return std::max(was, reported);
}

StatusWriter::StatusWriter(Executor& strand, store::Store& store, std::string manager_id, Log log,
                           Acknowledge acknowledge)
    : strand_(strand),
      store_(store),
      manager_id_(std::move(manager_id)),
      log_(std::move(log)),
      acknowledge_(std::move(acknowledge)) {}

StatusWriter::~StatusWriter() {
  strand_.cancel(retry_);
}

void StatusWriter::start() {
  active_ = true;
  backoff_.reset();
  flush();
}

void StatusWriter::stop() {
  active_ = false;
  ++term_;
  queue_.clear();
  queued_.clear();
  writing_ = false;
  strand_.cancel(std::exchange(retry_, 0));
}

void StatusWriter::add(const std::string& session_id, const std::string& node_id,
                       const v1::StatusBatch& batch) {
  if (!active_) return;
  const store::Snapshot state = store_.snapshot();
  for (const auto& update : batch.updates()) add_report(node_id, update, state);
  queue_.push_back({{"", node_id}, {}, session_id, batch.sequence()});
  flush();
}

void StatusWriter::add_report(const std::string& node_id, const v1::TaskStatusUpdate& update,
                              const store::Snapshot& state) {
  const auto task = state.get<v1::Task>(update.task_id());
  if (task == nullptr) return;  // deleted meanwhile: the agent learns it from its feed
  if (task->node_id() != node_id) {
    log_->warn("node {} reports task {} of node {}; ignored", node_id, update.task_id(),
               task->node_id());
    return;
  }
  const Key key(update.task_id(), node_id);
  const auto known = queued_.find(key);
  if (known == queued_.end()) {
    queue_.push_back({key, update, {}, 0});
    queued_[key] = std::prev(queue_.end());
  } else if (update.status().state() >= known->second->update.status().state()) {
    known->second->update = update;
  }
}

void StatusWriter::flush() {
  if (writing_ || !active_ || queue_.empty()) return;
  writing_ = true;
  auto batch = std::make_shared<Batch>();
  const std::weak_ptr<int> alive = alive_;
  store_.update(
      [this, alive, batch, term = term_](store::Transaction& tx) -> Status {
        if (alive.expired() || term != term_) {
          return Status(StatusCode::kCancelled, "the dispatcher has stopped");
        }
        fill(*batch);
        return write(tx, *batch);
      },
      [this, alive, batch, term = term_](const store::Commit& commit) {
        if (!alive.expired() && term == term_) written(*batch, commit.status);
      });
}

// Takes what waits, up to what surely fits an entry. The store may run the transaction twice, so
// what was taken stays in the batch.
void StatusWriter::fill(Batch& batch) {
  while (!queue_.empty() && (batch.reports < reports_max_ || !queue_.front().is_report())) {
    if (queue_.front().is_report()) {
      queued_.erase(queue_.front().key);
      ++batch.reports;
    }
    batch.items.splice(batch.items.end(), queue_, queue_.begin());
  }
}

Status StatusWriter::write(store::Transaction& tx, const Batch& batch) {
  std::map<std::string_view, v1::Task> changed;
  {
    const store::Snapshot view = tx.view();  // let go of before the first write
    for (const Item& item : batch.items) {
      if (!item.is_report()) continue;
      const auto stored = view.get<v1::Task>(item.key.first);
      if (!stored || stored->node_id() != item.key.second) continue;
      const auto earlier = changed.find(item.key.first);  // reported twice in this batch
      const v1::Task& present = earlier == changed.end() ? *stored : earlier->second;
      if (auto next = changed_by(present, item.update, tx.now())) {
        changed.insert_or_assign(item.key.first, *std::move(next));
      }
    }
  }
  for (auto& [id, task] : changed) MUSTER_TRY(tx.update(std::move(task)));
  return ok_status();
}

// The task with what was reported; nothing when that changes nothing.
std::optional<v1::Task> StatusWriter::changed_by(const v1::Task& present,
                                                 const v1::TaskStatusUpdate& update,
                                                 WallTime now) const {
  if (!may_replace(present, update)) return std::nullopt;
  v1::Task next = present;
  v1::TaskStatus& status = *next.mutable_status();
  status = update.status();
  cut(*status.mutable_message());
  cut(*status.mutable_error());
  // Why the manager told the task to stop outlives the agent's word that it has.
  if (status.error().empty() && present.desired_state() >= v1::TASK_SHUTDOWN) {
    status.set_error(present.status().error());
  }
  if (status.has_health()) cut(*status.mutable_health());
  status.set_applied_by(present.status().applied_by());
  status.set_applied_at_ns(present.status().applied_at_ns());
  status.set_running_since_ns(present.status().running_since_ns());
  next.set_endpoint_state(endpoint_after(present, update.endpoint_state()));
  if (google::protobuf::util::MessageDifferencer::Equals(next, present)) return std::nullopt;
  status.set_applied_by(manager_id_);
  // When the state was reached, by our clock; not when more was told of it.
  if (status.state() != present.status().state() || status.applied_at_ns() == 0) {
    status.set_applied_at_ns(now.unix_ns);
  }
  // Stays when the task has ended: an update asks how long it ran.
  if (status.state() == v1::TASK_RUNNING && status.running_since_ns() == 0) {
    status.set_running_since_ns(now.unix_ns);
  }
  return next;
}

void StatusWriter::written(Batch& batch, const Status& status) {
  if (status.ok()) {
    writing_ = false;
    backoff_.reset();
    reports_max_ = std::min(kReportsMax, reports_max_ * 2);
    // A callback may end a session, which changes nothing here.
    for (const Item& item : batch.items) {
      if (!item.is_report()) acknowledge_(item.key.second, item.session_id, item.sequence);
    }
    flush();
    return;
  }
  put_back(batch);
  if (status.code() == StatusCode::kResourceExhausted) {
    reports_max_ = std::max<size_t>(1, reports_max_ / 2);
  }
  if (backoff_.fresh()) {
    log_->warn("task states were not written, trying again: {}", status.message());
  }
  const std::weak_ptr<int> alive = alive_;
  retry_ = strand_.after(backoff_.next(), [this, alive] {
    if (alive.expired()) return;
    writing_ = false;
    flush();
  });
}

// In front again, but for what newer reports have replaced.
void StatusWriter::put_back(Batch& batch) {
  for (auto item = batch.items.begin(); item != batch.items.end();) {
    const auto newer = item->is_report() ? queued_.find(item->key) : queued_.end();
    if (newer == queued_.end()) {
      ++item;
      continue;
    }
    v1::TaskStatusUpdate& update = newer->second->update;
    if (update.status().state() < item->update.status().state()) update = item->update;
    item = batch.items.erase(item);
  }
  for (auto item = batch.items.begin(); item != batch.items.end(); ++item) {
    if (item->is_report()) queued_[item->key] = item;
  }
  queue_.splice(queue_.begin(), batch.items);
  batch.reports = 0;
}

}  // namespace muster::manager::dispatcher
