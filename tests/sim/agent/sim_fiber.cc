#include "tests/sim/agent/sim_fiber.h"

#include <cstdint>
#include <utility>

#include "base/check.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MUSTER_FIBERS_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define MUSTER_FIBERS_ASAN
#endif
#ifdef MUSTER_FIBERS_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace muster::sim {
namespace {

Fiber* g_current = nullptr;  // the simulator has one thread

void leaves([[maybe_unused]] void** fake, [[maybe_unused]] const void* to,
            [[maybe_unused]] size_t bytes) {
#ifdef MUSTER_FIBERS_ASAN
  __sanitizer_start_switch_fiber(fake, to, bytes);
#endif
}

void arrives([[maybe_unused]] void* fake, [[maybe_unused]] const void** from,
             [[maybe_unused]] size_t* bytes) {
#ifdef MUSTER_FIBERS_ASAN
  __sanitizer_finish_switch_fiber(fake, from, bytes);
#endif
}

}  // namespace

std::unique_ptr<char[]> FiberStacks::take() {
  if (free_.empty()) return std::unique_ptr<char[]>(new char[kBytes]);
  std::unique_ptr<char[]> stack = std::move(free_.back());
  free_.pop_back();
  return stack;
}

Fiber::Fiber(FiberStacks& stacks, UniqueFunction<void()> work)
    : stacks_(stacks), work_(std::move(work)), stack_(stacks.take()) {
  MUSTER_CHECK(::getcontext(&own_) == 0);
  own_.uc_stack.ss_sp = stack_.get();
  own_.uc_stack.ss_size = FiberStacks::kBytes;
  own_.uc_link = nullptr;
  const auto self = reinterpret_cast<uintptr_t>(this);
  ::makecontext(&own_, reinterpret_cast<void (*)()>(&Fiber::enter), 2,
                static_cast<unsigned>(static_cast<uint64_t>(self) >> 32),
                static_cast<unsigned>(self));
}

Fiber::~Fiber() {
  MUSTER_CHECK(ended_, "a fiber goes before its work has ended");
  stacks_.give(std::move(stack_));
}

Fiber* Fiber::current() {
  return g_current;
}

void Fiber::enter(unsigned high, unsigned low) {
  const uint64_t self = (static_cast<uint64_t>(high) << 32) | low;
  reinterpret_cast<Fiber*>(static_cast<uintptr_t>(self))->run();
}

void Fiber::run() {
  arrives(nullptr, &caller_stack_, &caller_bytes_);
  work_();
  work_ = nullptr;
  ended_ = true;
  leaves(nullptr, caller_stack_, caller_bytes_);  // for good
  ::setcontext(&caller_);
}

void Fiber::resume() {
  MUSTER_CHECK(!ended_);
  outer_ = std::exchange(g_current, this);
  void* fake = nullptr;
  leaves(&fake, stack_.get(), FiberStacks::kBytes);
  ::swapcontext(&caller_, &own_);
  arrives(fake, nullptr, nullptr);
  g_current = outer_;
}

void Fiber::stop() {
  leaves(&own_fake_, caller_stack_, caller_bytes_);
  ::swapcontext(&own_, &caller_);
  arrives(own_fake_, &caller_stack_, &caller_bytes_);
}

}  // namespace muster::sim
