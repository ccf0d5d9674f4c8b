#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/status.h"
#include "base/time.h"

namespace muster::bench {

// One client that writes every 10 ms, the way a careful one does: each write has a request id, an
// attempt that fails or does not answer in time is repeated with another manager, and what was
// answered is never repeated. Thread-safe.
class WriteStream {
 public:
  // `sockets`: of the managers.
  explicit WriteStream(std::vector<std::string> sockets);
  ~WriteStream();

  // Of the clock of now().
  static TimePoint now();
  // When the first write that was begun after `since`, not long ago, was answered.
  Result<TimePoint> first_answer(TimePoint since, Duration patience);
  // Writes are answered: for calm before a storm.
  Status await_flow(Duration patience);
  uint64_t answered() const;

 private:
  struct Manager;
  void run();
  bool write(uint64_t number);
  void remove(uint64_t number);

  std::vector<std::unique_ptr<Manager>> managers_;
  size_t current_ = 0;  // of the thread
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;  // guarded by mutex_
  uint64_t answered_ = 0;  // guarded by mutex_
  // Begin and answer of the newest writes, oldest first. Guarded by mutex_.
  std::deque<std::pair<TimePoint, TimePoint>> newest_;
  std::thread thread_;
};

}  // namespace muster::bench
