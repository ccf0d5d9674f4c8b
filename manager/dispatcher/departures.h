#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/backoff.h"
#include "base/executor.h"
#include "base/log.h"
#include "manager/store/store.h"

namespace muster::manager::dispatcher {

// Tasks that have left networks by hand while they run, and whose nodes have not said yet that
// their containers are out of them. What such a task had is in Task.left and is nobody else's; once
// its node has acknowledged its tasks as of the commit by which it left, that is cleared. Of a task
// that has ended, or is given up with its node, the allocator does not ask.
//
// Level-triggered: start() goes by the stored state, and an acknowledgement of any later version
// counts. A write that fails is repeated. Lives on the store's strand.
class Departures {
 public:
  // Tasks, and about as many bytes, in one write: well below an entry.
  static constexpr size_t kTasksMax = 500;
  static constexpr size_t kBytesMax = 400'000;

  Departures(Executor& strand, store::Store& store, Log log);
  ~Departures();

  // With leadership.
  void start(const store::Snapshot& view);
  void follow(const store::CommitEvent& event);
  // What the node was told of its tasks up to this version is so.
  void acknowledged(const std::string& node_id, uint64_t version);
  // At the end of leadership.
  void clear();

 private:
  using Left = std::vector<v1::NetworkAttachment>;
  using Due = std::map<std::string, Left>;  // by task

  void forget(const v1::Task& task);
  void flush();
  Status write(store::Transaction& tx, Due& taken);
  void written(Due& taken, const Status& status);

  Executor& strand_;
  store::Store& store_;
  Log log_;
  // The version that has to be acknowledged, by node and task.
  std::map<std::string, std::map<std::string, uint64_t>> awaited_;
  Due due_;
  bool writing_ = false;  // or waiting for the time to try again
  uint64_t term_ = 0;     // counts clear()
  Backoff backoff_{100ms, 5s};
  Executor::TimerId retry_ = 0;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace muster::manager::dispatcher
