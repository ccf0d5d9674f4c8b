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
// backends may be answering at this moment is looked at once more after kAnswerTime: by then one
// that is alive has. Thread-safe.
//
// What is stale has to go, however few packets it sees: a client that takes the same port again
// meets it, and is led to a backend that is no more.
class FlowSweeper {
 public:
  static constexpr Duration kAnswerTime = 500ms;
  static constexpr Duration kLostTime = 10s;

  // Of the calling thread's network namespace.
  static Result<NetlinkSocket> open_socket();
  FlowSweeper(NetlinkSocket conntrack, Log log);
  ~FlowSweeper();

  // To be called after nothing leads to these backends any more.
  void forget(std::vector<FlowFilter> flows);
  // All backends that may be alive though nobody sees them, which takes the place of what was said
  // before. What they have established goes on; the rest is deleted, and what clients end of it
  // later, too: it is looked at every kLostTime while there is any.
  void lose(std::set<Ip> backends);
  // The thread, for other slow chores.
  Executor& strand() { return strand_; }
  // Ends the thread; nothing runs on it afterwards. Idempotent.
  void stop() { strand_.stop(); }

 private:
  void sweep();
  void delete_some(const std::vector<FlowFilter>& flows, const std::set<uint32_t>& awaited);
  void look_at_lost();

  NetlinkSocket conntrack_;   // used on the strand alone
  bool looks_later_ = false;  // as well: there is a next look at the lost
  Log log_;
  std::mutex mutex_;
  std::vector<FlowFilter> waiting_;
  std::set<Ip> lost_;
  ThreadExecutor strand_;
};

}  // namespace muster::overlay
