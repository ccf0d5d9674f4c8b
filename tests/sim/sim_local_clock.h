#pragma once

#include <utility>

#include "base/sim_executor.h"

namespace muster::sim {

// The clocks of one machine: they run a little fast or slow against the world's, and the wall clock
// may be wrong and may step, as an operator or a time server makes it.
class LocalClock final : public Clock {
 public:
  explicit LocalClock(const SimWorld& world) : world_(world) {}

  TimePoint now() const override { return {local(world_.now().since_start)}; }
  WallTime wall_now() const override {
    const Duration world = world_.now().since_start;
    return world_.wall_now() + (local(world) - world) + offset_;
  }

  // How much faster, in millionths. Only while nobody runs by this clock.
  void run_fast(int64_t ppm) { ppm_ = ppm; }
  void step(Duration by) { offset_ += by; }
  void set_right() { offset_ = Duration(0); }
  // How long in the world it takes until so much has passed here.
  Duration in_world(Duration here) const {
    if (ppm_ == 0 || here.count() <= 0) return here;
    const double less = static_cast<double>(here.count()) * static_cast<double>(ppm_) /
                        static_cast<double>(1'000'000 + ppm_);
    return here - Duration(static_cast<int64_t>(less)) + Duration(2);  // never too early
  }

 private:
  Duration local(Duration world) const {
    return world + Duration(world.count() * ppm_ / 1'000'000);
  }

  const SimWorld& world_;
  int64_t ppm_ = 0;
  Duration offset_{0};
};

// A strand on a machine: its timers go by that machine's clock.
class LocalStrand final : public Executor {
 public:
  LocalStrand(SimWorld& world, const LocalClock& clock) : strand_(world), clock_(clock) {}

  void post(UniqueFunction<void()> f) override { strand_.post(std::move(f)); }
  TimerId after(Duration delay, UniqueFunction<void()> f) override {
    return strand_.after(clock_.in_world(delay), std::move(f));
  }
  void cancel(TimerId timer) override { strand_.cancel(timer); }
  bool is_current() const override { return strand_.is_current(); }
  const Clock& clock() const override { return clock_; }

  void pause() { strand_.pause(); }
  void resume() { strand_.resume(); }
  bool paused() const { return strand_.paused(); }
  // For what happens to the machine from outside, in the world's time.
  SimExecutor& world_strand() { return strand_; }

 private:
  SimExecutor strand_;
  const LocalClock& clock_;
};

}  // namespace muster::sim
