#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "base/executor.h"
#include "manager/store/store.h"

namespace muster::manager::store {

// Who watches, and the recent commits for those who resume. Lives on the store's strand.
//
// History keeps changes, not states: a state kept per commit would pin every replaced tree node.
// The states a resumed watcher sees are made again by undoing the changes from the present one.
// It keeps no changes of blobs: a resumed watcher is not told of them, and the blobs of the states
// it sees are the present ones.
class WatchHub {
 public:
  // Besides time and Store::kHistoryCommitsMax: changes kept, since one commit may have 100,000.
  // What a change pins is the object's earlier self, a kilobyte or two.
  static constexpr size_t kHistoryChangesMax = 20'000;

  explicit WatchHub(Executor& strand) : strand_(strand) {}

  // Delivers to everybody and remembers. `event.version` grows from call to call.
  void publish(const CommitEvent& event);
  // History begins anew at `version`: what lies before cannot be resumed.
  void reset(uint64_t version);
  Store::HistoryStart since(WallTime time) const;
  bool watched() const { return !links_.empty(); }

  Result<std::shared_ptr<Store::Subscription::Link>> watch(
      uint64_t after_version, const Snapshot& present,
      UniqueFunction<void(const CommitEvent&)> watcher);

 private:
  struct Past {
    uint64_t version;
    WallTime time;
    std::shared_ptr<const std::vector<AnyChange>> changes;
  };

  std::deque<CommitEvent> rebuild(uint64_t after_version, const Snapshot& present) const;

  Executor& strand_;
  std::deque<Past> history_;
  size_t history_changes_ = 0;
  uint64_t history_base_ = 0;  // history holds every commit above this version
  WallTime base_time_;         // of the last commit that was dropped
  std::vector<std::shared_ptr<Store::Subscription::Link>> links_;
};

// One watcher. While `backlog` is not empty a closure that delivers it is posted, and live events
// line up behind it.
struct Store::Subscription::Link {
  UniqueFunction<void(const CommitEvent&)> watcher;
  uint64_t after_version = 0;
  bool active = true;
  std::deque<CommitEvent> backlog;

  void deliver(const CommitEvent& event) {
    if (!active || event.version <= after_version) return;
    after_version = event.version;
    watcher(event);
  }
};

}  // namespace muster::manager::store
