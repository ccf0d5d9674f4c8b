#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "base/executor.h"

namespace muster {

class SimExecutor;

// Virtual time for tests and the simulator: one thread, closures ordered by (due time, order of
// posting), time jumps to the next due closure. The same inputs give the same run.
//
// One SimWorld is shared by all strands of a simulation; SimExecutor is a strand's view of it.
class SimWorld final : public Clock {
 public:
  static constexpr uint64_t kNoLimit = ~uint64_t{0};

  // `wall_start` is the wall time at virtual time 0.
  explicit SimWorld(WallTime wall_start = {1'700'000'000'000'000'000}) : wall_start_(wall_start) {}

  TimePoint now() const override { return now_; }
  WallTime wall_now() const override { return wall_start_ + now_.since_start; }

  // Runs the next closure, moving time to its due time. False when nothing is pending.
  bool step();
  // Runs everything that is due up to and including now + d, then sets the time to now + d. CHECKs
  // after `limit` closures: something goes round in circles, faster than time.
  void advance(Duration d, uint64_t limit = kNoLimit);
  // Runs what is due now without moving time. Bounded: CHECKs after `limit` closures.
  void settle(uint64_t limit = 1'000'000);
  bool idle() const { return pending_.empty(); }

 private:
  friend class SimExecutor;
  struct Item {
    SimExecutor* strand;
    UniqueFunction<void()> run;
  };
  using Key = std::pair<TimePoint, uint64_t>;

  WallTime wall_start_;
  TimePoint now_{};
  uint64_t next_ = 1;
  std::map<Key, Item> pending_;
  std::map<uint64_t, TimePoint> due_;
  const SimExecutor* current_ = nullptr;
};

class SimExecutor final : public Executor {
 public:
  explicit SimExecutor(SimWorld& world) : world_(world) {}
  // Drops the strand's pending closures, as a killed process would.
  ~SimExecutor() override;

  void post(UniqueFunction<void()> f) override { after(Duration(0), std::move(f)); }
  TimerId after(Duration delay, UniqueFunction<void()> f) override;
  void cancel(TimerId timer) override;
  // True also outside step(): a test body may call components directly.
  bool is_current() const override { return world_.current_ == nullptr || world_.current_ == this; }
  const Clock& clock() const override { return world_; }

  // What becomes due while the strand is paused runs when it is resumed: a thread that is busy
  // with something long, or a process that is stopped.
  void pause() { paused_ = true; }
  void resume();
  bool paused() const { return paused_; }

 private:
  friend class SimWorld;

  SimWorld& world_;
  bool paused_ = false;
  std::vector<std::pair<TimerId, UniqueFunction<void()>>> held_;
};

}  // namespace muster
