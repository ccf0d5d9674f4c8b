#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "muster/v1/dispatcher.pb.h"

namespace muster::agent {

// The last observed state of every task that the manager has not acknowledged. One batch is under
// way at a time; what changes meanwhile is the next batch.
class ReportQueue {
 public:
  static constexpr size_t kBatchMax = 1000;

  void add(v1::TaskStatusUpdate update);
  // The next batch; nothing while one is under way or when there is nothing to say.
  std::optional<v1::StatusBatch> next();
  void acknowledged(uint64_t sequence);
  // The session ended: what was under way is to be sent again.
  void reset();
  // The task is not assigned any more.
  void forget(const std::string& task_id);
  bool empty() const { return waiting_.empty() && under_way_.empty(); }

 private:
  uint64_t sequence_ = 0;
  std::map<std::string, v1::TaskStatusUpdate> waiting_;
  std::map<std::string, v1::TaskStatusUpdate> under_way_;
};

}  // namespace muster::agent
