#include "agent/session/report_queue.h"

#include <utility>

namespace muster::agent {

void ReportQueue::add(v1::TaskStatusUpdate update) {
  std::string id = update.task_id();
  waiting_.insert_or_assign(std::move(id), std::move(update));
}

std::optional<v1::StatusBatch> ReportQueue::next() {
  if (!under_way_.empty() || waiting_.empty()) return std::nullopt;
  v1::StatusBatch batch;
  batch.set_sequence(++sequence_);
  while (!waiting_.empty() && under_way_.size() < kBatchMax) {
    *batch.add_updates() = waiting_.begin()->second;
    under_way_.insert(waiting_.extract(waiting_.begin()));
  }
  return batch;
}

void ReportQueue::acknowledged(uint64_t sequence) {
  if (sequence >= sequence_) under_way_.clear();
}

void ReportQueue::reset() {
  // What is waiting is newer than what was under way.
  waiting_.merge(under_way_);
  under_way_.clear();
}

void ReportQueue::forget(const std::string& task_id) {
  waiting_.erase(task_id);
}

}  // namespace muster::agent
