#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/backoff.h"
#include "base/executor.h"
#include "base/log.h"
#include "manager/store/store.h"

namespace muster::manager::dispatcher {

// Writes what the dispatcher finds out about nodes. Of several changes of a node that wait, the
// last counts; a write that fails is repeated until it succeeds or something newer is known, so
// that a node never stays READY in the store because the log was full when it went away.
//
// Bounds: one waiting change a node. Lives on the store's strand.
class NodeWriter {
 public:
  using Change = std::function<void(v1::Node&)>;

  NodeWriter(Executor& strand, store::Store& store, Log log);
  ~NodeWriter();

  // Nodes that are not in the store (any more) are left out.
  void set(const std::string& node_id, Change change);
  // Without leadership there is nothing to say: whoever leads next finds out by itself.
  void clear();

 private:
  // One write: descriptions of some KiB each, well below an entry.
  static constexpr size_t kNodesMax = 200;
  using Changes = std::map<std::string, Change>;

  void flush();
  Status write(store::Transaction& tx, Changes& taken);
  void written(Changes& taken, const Status& status);

  Executor& strand_;
  store::Store& store_;
  Log log_;
  bool writing_ = false;  // or waiting for the time to try again
  size_t nodes_max_ = kNodesMax;
  Changes waiting_;
  uint64_t term_ = 0;  // counts clear()
  Backoff backoff_{100ms, 5s};
  Executor::TimerId retry_ = 0;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace muster::manager::dispatcher
