#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/status.h"
#include "base/thread_executor.h"
#include "base/time.h"
#include "base/unique_fd.h"

namespace muster::overlay::dns {

// One thread's epoll loop with timers. Everything is called on the thread that runs it.
class EventLoop {
 public:
  using Handler = std::function<void(uint32_t events)>;  // EPOLL*
  using TimerId = uint64_t;                              // 0 = none

  Status open();
  // The descriptor stays the caller's, who calls unwatch() before closing it. A handler may unwatch
  // any descriptor, its own too: no handler of one that is no longer watched is called.
  Status watch(int fd, uint32_t events, Handler handler);
  void change(int fd, uint32_t events);
  void unwatch(int fd);
  // Sends what the socket takes of `out` and drops it there; watches for room while some is left.
  // False when the connection is broken.
  bool send_some(int fd, std::string& out);
  TimerId after(Duration delay, std::function<void()> f);
  void cancel(TimerId timer);
  TimePoint now() const { return clock_.now(); }

  // Until stop().
  Status run();
  void stop() { running_ = false; }

 private:
  struct Watch {
    uint64_t serial = 0;
    Handler handler;
  };
  int wait_ms() const;
  void run_timers();

  SystemClock clock_;
  UniqueFd epoll_;
  std::map<int, std::shared_ptr<Watch>> watches_;
  uint64_t next_serial_ = 1;
  std::map<std::pair<TimePoint, TimerId>, std::function<void()>> timers_;
  std::map<TimerId, TimePoint> due_;
  TimerId next_timer_ = 1;
  bool running_ = false;
};

}  // namespace muster::overlay::dns
