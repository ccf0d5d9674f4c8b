#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "base/executor.h"

namespace muster {

// The machine's own clocks: CLOCK_MONOTONIC since construction, and CLOCK_REALTIME.
class SystemClock final : public Clock {
 public:
  SystemClock();
  TimePoint now() const override;
  WallTime wall_now() const override;

 private:
  int64_t start_ns_;
};

// A strand with a thread of its own. The queue is bounded by what its users have outstanding, not
// here: every component states its own bound. Thread-safe.
class ThreadExecutor final : public Executor {
 public:
  // `name` is the thread's name, at most 15 bytes are shown.
  explicit ThreadExecutor(std::string name);
  // Stops as stop() does.
  ~ThreadExecutor() override;

  void post(UniqueFunction<void()> f) override;
  TimerId after(Duration delay, UniqueFunction<void()> f) override;
  void cancel(TimerId timer) override;
  bool is_current() const override;
  const Clock& clock() const override { return clock_; }

  // Finishes the closure that runs, destroys all that wait, joins the thread. Idempotent; must not
  // be called on the strand itself.
  void stop();

 private:
  using TimerKey = std::pair<TimePoint, TimerId>;

  void run();
  void discard();

  SystemClock clock_;
  std::string name_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::deque<UniqueFunction<void()>> queue_;
  TimerId next_timer_ = 1;
  std::map<TimerKey, UniqueFunction<void()>> timers_;
  std::map<TimerId, TimePoint> timer_due_;
  std::atomic<std::thread::id> thread_id_{};
  std::thread thread_;
};

}  // namespace muster
