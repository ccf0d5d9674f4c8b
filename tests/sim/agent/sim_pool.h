#pragma once

#include <deque>
#include <list>
#include <memory>

#include "agent/worker/blocking_pool.h"
#include "base/sim_executor.h"
#include "tests/sim/agent/sim_fiber.h"

namespace muster::sim {

// A process' threads for blocking steps, in virtual time: a step stops where it waits, and others
// go on. Destroyed, it was a kill -9: steps run to their end at once, and their ports see to it
// that nothing of it has an effect (sim_machine.h).
class SimPool final : public agent::BlockingPool {
 public:
  SimPool(SimWorld& world, FiberStacks& stacks, size_t width);
  ~SimPool() override;
  void post(UniqueFunction<void()> work) override;
  // As threads of a stopped process.
  void pause() { strand_.pause(); }
  void resume() { strand_.resume(); }

  // Lets time pass inside a step. Outside of one, as on the worker's strand, none passes.
  static void wait(Duration d);

 private:
  struct Step;
  void begin_next();
  void go_on(Step& step);

  SimExecutor strand_;
  FiberStacks& stacks_;
  const size_t width_;
  std::deque<UniqueFunction<void()>> waiting_;
  std::list<std::unique_ptr<Step>> running_;
  bool ending_ = false;
};

}  // namespace muster::sim
