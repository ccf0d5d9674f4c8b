#pragma once

#include <functional>
#include <memory>
#include <thread>

#include "base/status.h"
#include "base/unique_fd.h"

namespace muster::overlay {

// A thread that calls `serve` whenever `fd`, which outlives it, has something to read; `serve` is
// to read it. Ends with the destructor, which waits for a call that is under way.
class UseWatcher {
 public:
  static Result<std::unique_ptr<UseWatcher>> start(int fd, std::function<void()> serve);
  ~UseWatcher();

 private:
  UseWatcher(int fd, std::function<void()> serve) : fd_(fd), serve_(std::move(serve)) {}
  void run();

  int fd_;
  std::function<void()> serve_;
  UniqueFd stop_;
  std::thread thread_;
};

}  // namespace muster::overlay
