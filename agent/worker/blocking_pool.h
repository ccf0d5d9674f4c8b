#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_function.h"

namespace muster::agent {

// Where blocking steps run. The queue is bounded by its users: one step per task at a time.
class BlockingPool {
 public:
  virtual ~BlockingPool() = default;
  // Runs `work` later, on some thread, in the order of posting as threads become free.
  virtual void post(UniqueFunction<void()> work) = 0;
};

// Up to a number of threads, made when there is work and none is idle. Destruction finishes what
// runs and drops what waits.
class ThreadPool final : public BlockingPool {
 public:
  ThreadPool(std::string name, unsigned threads_max);
  ~ThreadPool() override;
  void post(UniqueFunction<void()> work) override;
  void stop();

 private:
  void add_thread();
  void run();

  const std::string name_;
  const unsigned threads_max_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  size_t idle_ = 0;  // threads
  std::deque<UniqueFunction<void()>> queue_;
  std::vector<std::thread> threads_;
};

}  // namespace muster::agent
