#pragma once

#include <cstdint>
#include <mutex>
#include <set>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "base/thread_executor.h"
#include "base/time.h"
#include "overlay/dataplane/kernel/conntrack.h"
#include "overlay/dataplane/kernel/netlink.h"

namespace muster::overlay {

// Deletes stale entries of the connection table, off the way of whoever found them stale: a sweep
// starts at once on a thread of its own, and what arrives while one runs goes into the next. What
// backends have yet to answer is looked at once more after kAnswerTime: by then one that is alive
// has. Thread-safe.
class FlowSweeper {
 public:
  static constexpr Duration kAnswerTime = 500ms;

  // Of the calling thread's network namespace.
  static Result<NetlinkSocket> open_socket();
  FlowSweeper(NetlinkSocket conntrack, Log log);
  ~FlowSweeper();

  // To be called after nothing leads to these backends any more.
  void forget(std::vector<FlowFilter> flows);
  // The thread, for other slow chores.
  Executor& strand() { return strand_; }
  // Ends the thread; nothing runs on it afterwards. Idempotent.
  void stop() { strand_.stop(); }

 private:
  void sweep();
  void delete_some(const std::vector<FlowFilter>& flows, const std::set<uint32_t>& unanswered);

  NetlinkSocket conntrack_;  // used on the strand alone
  Log log_;
  std::mutex mutex_;
  std::vector<FlowFilter> waiting_;
  ThreadExecutor strand_;
};

}  // namespace muster::overlay
