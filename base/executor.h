#pragma once

#include <cstdint>

#include "base/time.h"
#include "base/unique_function.h"

namespace muster {

// Where time comes from. Pure code takes times as arguments instead; shells hold a Clock.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;
  virtual WallTime wall_now() const = 0;
};

// A strand: runs closures one at a time, in the order of their posting. Components say in their
// header on which strand they live and assert is_current() at their public methods.
//
// Implementations: ThreadExecutor (one thread), SimExecutor (virtual time, in base/sim_executor.h).
class Executor {
 public:
  // Identifies a pending timer; 0 is none.
  using TimerId = uint64_t;

  virtual ~Executor() = default;

  // Runs `f` later on this strand; never from inside post(). Callable from any thread. After
  // stop() the closure is destroyed without being run.
  virtual void post(UniqueFunction<void()> f) = 0;
  // Runs `f` once `delay` has passed (at once if not positive). Callable from any thread.
  virtual TimerId after(Duration delay, UniqueFunction<void()> f) = 0;
  // Forgets a timer; its closure is destroyed unrun. No effect when it has run. Called on this
  // strand, the closure is certain not to run afterwards.
  virtual void cancel(TimerId timer) = 0;
  // Whether the caller runs on this strand.
  virtual bool is_current() const = 0;
  virtual const Clock& clock() const = 0;
};

}  // namespace muster
