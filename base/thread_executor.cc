#include "base/thread_executor.h"

#include <pthread.h>
#include <time.h>

#include "base/check.h"

namespace muster {
namespace {

int64_t read_clock_ns(clockid_t id) {
  timespec ts{};
  clock_gettime(id, &ts);
  return static_cast<int64_t>(ts.tv_sec) * 1'000'000'000 + ts.tv_nsec;
}

}  // namespace

SystemClock::SystemClock() : start_ns_(read_clock_ns(CLOCK_MONOTONIC)) {}
TimePoint SystemClock::now() const {
  return {Duration(read_clock_ns(CLOCK_MONOTONIC) - start_ns_)};
}
WallTime SystemClock::wall_now() const {
  return {read_clock_ns(CLOCK_REALTIME)};
}

ThreadExecutor::ThreadExecutor(std::string name) : name_(std::move(name)) {
  thread_ = std::thread([this] { run(); });
}

ThreadExecutor::~ThreadExecutor() {
  stop();
}

void ThreadExecutor::post(UniqueFunction<void()> f) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    queue_.push_back(std::move(f));
    if (queue_.size() > 1) return;  // the strand is awake, or about to be
  }
  wake_.notify_one();
}

Executor::TimerId ThreadExecutor::after(Duration delay, UniqueFunction<void()> f) {
  TimerId id = 0;
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return 0;
    id = next_timer_++;
    const TimePoint due = clock_.now() + delay;
    timers_.emplace(TimerKey{due, id}, std::move(f));
    timer_due_.emplace(id, due);
  }
  wake_.notify_one();
  return id;
}

void ThreadExecutor::cancel(TimerId timer) {
  UniqueFunction<void()> dropped;  // destroyed outside the lock: it may own anything
  std::lock_guard lock(mutex_);
  const auto due = timer_due_.find(timer);
  if (due == timer_due_.end()) return;
  const auto it = timers_.find({due->second, timer});
  dropped = std::move(it->second);
  timers_.erase(it);
  timer_due_.erase(due);
}

bool ThreadExecutor::is_current() const {
  return thread_id_.load(std::memory_order_relaxed) == std::this_thread::get_id();
}

void ThreadExecutor::stop() {
  MUSTER_CHECK(!is_current(), "a strand cannot join itself");
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
  discard();
}

void ThreadExecutor::discard() {
  // Destructors of closures may post or cancel; both are harmless once stopping_ is set.
  std::deque<UniqueFunction<void()>> queue;
  std::map<TimerKey, UniqueFunction<void()>> timers;
  {
    std::lock_guard lock(mutex_);
    queue.swap(queue_);
    timers.swap(timers_);
    timer_due_.clear();
  }
}

void ThreadExecutor::run() {
  thread_id_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    UniqueFunction<void()> next;
    const TimePoint now = timers_.empty() ? TimePoint{} : clock_.now();
    if (!timers_.empty() && timers_.begin()->first.first <= now) {
      next = std::move(timers_.begin()->second);
      timer_due_.erase(timers_.begin()->first.second);
      timers_.erase(timers_.begin());
    } else if (!queue_.empty()) {
      next = std::move(queue_.front());
      queue_.pop_front();
    } else if (timers_.empty()) {
      wake_.wait(lock);
      continue;
    } else {
      wake_.wait_for(lock, timers_.begin()->first.first - now);
      continue;
    }
    lock.unlock();
    next();
    next = nullptr;
    lock.lock();
  }
}

}  // namespace muster
