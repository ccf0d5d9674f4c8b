#include "tests/sim/agent/sim_pool.h"

#include <utility>

namespace muster::sim {

struct SimPool::Step final : Fiber {
  Step(SimPool& the_pool, UniqueFunction<void()> work)
      : Fiber(the_pool.stacks_, std::move(work)), pool(the_pool) {}
  SimPool& pool;
};

SimPool::SimPool(SimWorld& world, FiberStacks& stacks, size_t width)
    : strand_(world), stacks_(stacks), width_(width) {}

SimPool::~SimPool() {
  ending_ = true;
  waiting_.clear();
  for (const auto& step : running_) {
    while (!step->ended()) step->resume();
  }
}

void SimPool::post(UniqueFunction<void()> work) {
  if (ending_) return;
  waiting_.push_back(std::move(work));
  strand_.post([this] { begin_next(); });
}

void SimPool::begin_next() {
  if (waiting_.empty() || running_.size() >= width_) return;
  auto work = std::move(waiting_.front());
  waiting_.pop_front();
  go_on(*running_.emplace_back(std::make_unique<Step>(*this, std::move(work))));
}

void SimPool::go_on(Step& step) {
  step.resume();
  if (!step.ended()) return;
  running_.remove_if([&](const auto& other) { return other.get() == &step; });
  begin_next();
}

void SimPool::wait(Duration d) {
  Fiber* fiber = Fiber::current();
  if (fiber == nullptr) return;
  Step& step = static_cast<Step&>(*fiber);
  if (step.pool.ending_) return;
  step.pool.strand_.after(d, [&step] { step.pool.go_on(step); });
  step.stop();
}

}  // namespace muster::sim
