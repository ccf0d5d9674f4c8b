#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_function.h"

namespace muster::daemon {

// Threads for local API calls that block on disk or network. At most kQueueMax calls wait; beyond,
// post() refuses.
class WorkPool {
 public:
  static constexpr size_t kQueueMax = 256;

  WorkPool(std::string name, size_t threads);
  // Finishes what runs, drops what waits.
  ~WorkPool();

  [[nodiscard]] bool post(UniqueFunction<void()> work);

 private:
  void run(const std::string& name);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<UniqueFunction<void()>> queue_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace muster::daemon
