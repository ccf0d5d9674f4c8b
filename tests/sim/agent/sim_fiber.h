#pragma once

#include <ucontext.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "base/unique_function.h"

namespace muster::sim {

// Stacks of fibers that have ended, for those to come.
class FiberStacks {
 public:
  static constexpr size_t kBytes = 512 << 10;
  std::unique_ptr<char[]> take();
  void give(std::unique_ptr<char[]> stack) { free_.push_back(std::move(stack)); }

 private:
  std::vector<std::unique_ptr<char[]>> free_;
};

// Work that can stop in its middle and be resumed: in one thread, what blocks elsewhere.
class Fiber {
 public:
  Fiber(FiberStacks& stacks, UniqueFunction<void()> work);
  ~Fiber();  // only of one that has ended
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Runs until the work ends or stops.
  void resume();
  // Inside the work: back to who resumed it.
  void stop();
  bool ended() const { return ended_; }
  // The one that runs; null outside of all.
  static Fiber* current();

 private:
  static void enter(unsigned high, unsigned low);
  void run();

  FiberStacks& stacks_;
  UniqueFunction<void()> work_;
  std::unique_ptr<char[]> stack_;
  ucontext_t own_;
  ucontext_t caller_;
  Fiber* outer_ = nullptr;
  bool ended_ = false;
  // For the address sanitizer: where the caller's stack is.
  const void* caller_stack_ = nullptr;
  size_t caller_bytes_ = 0;
  void* own_fake_ = nullptr;
};

}  // namespace muster::sim
