#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace muster {

// A mutex that is had in the order in which it was asked for. Of std::mutex, a thread that gives it
// up and takes it again at once has it again, mostly, whoever waits: one that does much in steps
// would keep the others waiting to its end. For std::lock_guard; not recursive.
class FairMutex {
 public:
  void lock() {
    std::unique_lock lock(mutex_);
    const uint64_t ticket = next_++;
    turn_changed_.wait(lock, [&] { return turn_ == ticket; });
  }
  void unlock() {
    {
      std::lock_guard lock(mutex_);
      ++turn_;
    }
    turn_changed_.notify_all();
  }
  // How many have it or wait for it.
  size_t asked() const {
    std::lock_guard lock(mutex_);
    return static_cast<size_t>(next_ - turn_);
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable turn_changed_;
  uint64_t next_ = 0;
  uint64_t turn_ = 0;
};

}  // namespace muster
