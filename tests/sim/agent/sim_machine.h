#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/rng.h"
#include "base/sim_executor.h"
#include "base/status.h"
#include "tests/sim/agent/sim_pool.h"

namespace muster::sim {

// What of a host's doings fails; until all heals.
struct HostTroubles {
  bool task_fails = false;  // pulls and starts
  bool slow_pulls = false;
  bool unhealthy = false;
};

// One life of musterd after another, as its ports see it: what a dead one still does has no effect.
class SimProcess {
 public:
  void begin() { alive_ = true; }
  void end() {
    alive_ = false;
    left_ = 0;
  }
  bool alive() const { return alive_; }
  // It dies when it is about to have its n-th effect from now; 0: it does not.
  void die_at(uint64_t effect) { left_ = effect; }
  // Before everything that changes something outside of the process. False: it was killed before.
  bool effect() {
    if (!alive_) return false;
    if (left_ == 0 || --left_ > 0) return true;
    alive_ = false;
    if (died) died();
    return false;
  }
  std::function<void()> died;

 private:
  bool alive_ = false;
  uint64_t left_ = 0;
};

// What the simulated ports of a host share; apart from the process all of it outlives musterd.
struct SimMachine {
  SimWorld& world;
  SimExecutor& strand;
  Rng& rng;
  const HostTroubles& troubles;
  std::function<void(std::string)> broken;          // a rule was broken
  std::function<void(std::string_view probe)> met;  // a place that matters was come to
  SimProcess process;
  FiberStacks stacks;

  Duration up_to(Duration most) {
    return Duration(static_cast<int64_t>(rng.below(static_cast<uint64_t>(most.count()) + 1)));
  }
  bool one_in(uint64_t n) { return rng.below(n) == 0; }
  // A step of a call: it takes its time, and then has its effect or comes too late.
  bool step(Duration most) {
    SimPool::wait(up_to(most));
    return process.effect();
  }
};

// What a call of a dead process returns; nobody acts on it.
inline Status process_is_dead() {
  return unavailable("the process has ended");
}

}  // namespace muster::sim
