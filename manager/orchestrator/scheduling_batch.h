#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "manager/store/store.h"
#include "scheduler/placement.h"

namespace muster::manager::orchestrator {

// A node as it was when the placement was worked out.
struct SeenNode {
  std::string id;
  uint64_t version = 0;
};

// What one transaction of the scheduler writes: a share of one round's decisions. Made on the
// scheduler's strand, written on the store's; nobody else has it in between.
struct SchedulingBatch {
  std::shared_ptr<const std::vector<SeenNode>> nodes;  // by scheduler::NodeIndex
  std::shared_ptr<const std::vector<std::string>> reasons;
  std::vector<scheduler::Decision> decisions;
  std::vector<scheduler::Unplaced> unplaced;
  std::vector<scheduler::TaskPtr> stopped;  // told to shut down before they got a node

  // Filled by write(): what was not written since the task or the node is no longer as seen.
  std::vector<scheduler::TaskPtr> decisions_lost;
  std::vector<scheduler::TaskPtr> refusals_lost;

  size_t size() const { return decisions.size() + unplaced.size() + stopped.size(); }
};

// The text of Task.status.message while a task waits for a node.
inline constexpr const char* kPendingMessage = "pending task scheduling";

// The transaction: every task and node is compared with what was seen; what differs is left alone
// and listed as lost. May run more than once.
Status write(store::Transaction& transaction, SchedulingBatch& batch);

}  // namespace muster::manager::orchestrator
