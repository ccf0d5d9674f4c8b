#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/log.h"
#include "manager/store/store.h"
#include "muster/v1/dispatcher.pb.h"

namespace muster::manager::dispatcher {

// Writes observed task states into the store. What arrives while a write is under way goes into
// the next one; of several states of a task the last wins. Lives on the store's strand.
class StatusWriter {
 public:
  // `acknowledge(session id, sequence)` runs once every batch of the session up to `sequence` is
  // durable. A write that fails is not acknowledged: the agent sends it again.
  using Acknowledge = std::function<void(const std::string& session_id, uint64_t sequence)>;

  StatusWriter(store::Store& store, std::string manager_id, Log log, Acknowledge acknowledge);

  void add(const std::string& session_id, const std::string& node_id, const v1::StatusBatch& batch);
  // Forgets what is pending, at the end of leadership.
  void clear();

 private:
  struct Pending {
    std::string node_id;
    v1::TaskStatusUpdate update;
  };

  // One write: at most kReportsMax states, about 0.5 MiB, a third of an entry.
  static constexpr size_t kReportsMax = 1000;
  struct Batch {
    std::map<std::string, Pending> reports;     // by task id
    std::map<std::string, uint64_t> sequences;  // by session id, durable with this write
  };

  void flush();
  void fill(Batch& batch);
  Status write(store::Transaction& tx, const Batch& batch);

  store::Store& store_;
  const std::string manager_id_;
  Log log_;
  Acknowledge acknowledge_;
  bool queued_ = false;
  std::map<std::string, Pending> pending_;     // by task id
  std::map<std::string, uint64_t> sequences_;  // by session id
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

// Whether an observed state may replace the stored one: states only grow, and nothing follows a
// final one.
bool may_replace(const v1::Task& stored, const v1::TaskStatusUpdate& update);

}  // namespace muster::manager::dispatcher
