#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/backoff.h"
#include "base/executor.h"
#include "base/log.h"
#include "manager/store/store.h"
#include "muster/v1/dispatcher.pb.h"

namespace muster::manager::dispatcher {

// Writes observed task states into the store, first come first served. What arrives while a write
// is under way goes into the next one; of several states of a task the last wins. A write that
// fails is repeated until it succeeds, since agents send a state again only in a new session.
//
// Bounds: one waiting state for each task of the cluster; reports about anything else are refused
// on arrival. Lives on the store's strand.
class StatusWriter {
 public:
  // Runs once every batch of the session up to `sequence` is durable.
  using Acknowledge = std::function<void(const std::string& node_id, const std::string& session_id,
                                         uint64_t sequence)>;

  StatusWriter(Executor& strand, store::Store& store, std::string manager_id, Log log,
               Acknowledge acknowledge);
  ~StatusWriter();

  void add(const std::string& session_id, const std::string& node_id, const v1::StatusBatch& batch);
  // With leadership, and without: what was not written is forgotten, since agents report it anew in
  // their next session.
  void start();
  void stop();

 private:
  using Key = std::pair<std::string, std::string>;  // task, node
  // A report, or, with an empty task id, the end of a batch.
  struct Item {
    Key key;
    v1::TaskStatusUpdate update;
    std::string session_id;
    uint64_t sequence = 0;

    bool is_report() const { return !key.first.empty(); }
  };
  // One write: at most kReportsMax states, about 0.5 MiB, a third of an entry.
  static constexpr size_t kReportsMax = 1000;
  struct Batch {
    std::list<Item> items;
    size_t reports = 0;
  };

  void add_report(const std::string& node_id, const v1::TaskStatusUpdate& update,
                  const store::Snapshot& state);
  void flush();
  void fill(Batch& batch);
  Status write(store::Transaction& tx, const Batch& batch);
  std::optional<v1::Task> changed_by(const v1::Task& present, const v1::TaskStatusUpdate& update,
                                     WallTime now) const;
  void written(Batch& batch, const Status& status);
  void put_back(Batch& batch);

  Executor& strand_;
  store::Store& store_;
  const std::string manager_id_;
  Log log_;
  Acknowledge acknowledge_;
  bool active_ = false;
  uint64_t term_ = 0;     // counts stop(): whose answers still count
  bool writing_ = false;  // or waiting for the time to try again
  size_t reports_max_ = kReportsMax;
  std::list<Item> queue_;
  std::map<Key, std::list<Item>::iterator> queued_;
  Backoff backoff_{100ms, 5s};
  Executor::TimerId retry_ = 0;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

// Whether an observed state may replace the stored one: states only grow, nothing follows a final
// one, and what is only a desired state, or the manager's to say, is not an agent's report.
bool may_replace(const v1::Task& stored, const v1::TaskStatusUpdate& update);

// What becomes of a task's place in its networks by what its agent says of it: it enters once, and
// only while it is meant to run, and never comes back from its way out.
v1::EndpointState endpoint_after(const v1::Task& stored, v1::EndpointState reported);

}  // namespace muster::manager::dispatcher
