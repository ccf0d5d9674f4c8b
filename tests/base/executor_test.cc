#include "base/executor.h"

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>

#include "base/rng.h"
#include "base/sim_executor.h"
#include "base/thread_executor.h"

namespace muster {
namespace {

TEST(SimExecutor, RunsInOrderOfDueTimeThenPosting) {
  SimWorld world;
  SimExecutor a(world), b(world);
  std::string order;
  a.after(2s, [&] { order += "3"; });
  b.after(1s, [&] { order += "2"; });
  a.post([&] {
    order += "0";
    b.post([&] { order += "1"; });
  });
  world.advance(3s);
  EXPECT_EQ(order, "0123");
  EXPECT_EQ(world.now(), TimePoint{3s});
}

TEST(SimExecutor, APausedStrandRunsWhatWasDueWhenItIsResumed) {
  SimWorld world;
  SimExecutor a(world), b(world);
  std::string ran;
  a.pause();
  a.post([&] { ran += "a"; });
  const auto dropped = a.after(1s, [&] { ran += "x"; });
  a.after(10s, [&] { ran += "c"; });
  b.post([&] { ran += "b"; });
  world.advance(5s);
  EXPECT_EQ(ran, "b");
  a.cancel(dropped);
  a.resume();
  world.settle();
  EXPECT_EQ(ran, "ba");
  world.advance(5s);
  EXPECT_EQ(ran, "bac");
}

TEST(SimExecutor, CancelledTimersAndDeadStrandsDoNotRun) {
  SimWorld world;
  SimExecutor a(world);
  int runs = 0;
  const auto timer = a.after(1s, [&] { ++runs; });
  a.cancel(timer);
  {
    SimExecutor dying(world);
    dying.after(1s, [&] { ++runs; });
  }
  world.advance(2s);
  EXPECT_EQ(runs, 0);
  EXPECT_TRUE(world.idle());
}

TEST(ThreadExecutor, RunsPostsInOrderOnItsOwnThread) {
  ThreadExecutor executor("test");
  EXPECT_FALSE(executor.is_current());
  std::promise<std::string> done;
  auto order = std::make_shared<std::string>();
  // The timer begins on the strand: begun here it could be due before a slow thread takes "a".
  executor.post([order] { *order += "a"; });
  executor.post([&executor, &done, order] {
    *order += "b";
    executor.after(1ms, [&executor, &done, order] {
      *order += executor.is_current() ? "c" : "?";
      done.set_value(*order);
    });
  });
  EXPECT_EQ(done.get_future().get(), "abc");
}

TEST(ThreadExecutor, StopDestroysWhatWaits) {
  auto token = std::make_shared<int>(0);
  ThreadExecutor executor("test");
  executor.after(1h, [token] {});
  executor.stop();
  EXPECT_EQ(token.use_count(), 1);
  executor.post([token] {});
  EXPECT_EQ(token.use_count(), 1);
}

TEST(Rng, TheSameSeedGivesTheSameRun) {
  SeededRng a(7), b(7), c(8);
  EXPECT_EQ(a.id(), b.id());
  EXPECT_NE(a.id(), c.id());
  for (int i = 0; i < 1000; ++i) EXPECT_LT(a.below(10), 10u);
}

TEST(Rng, IdsAre25DigitsAndStartWithALetter) {
  SystemRng rng;
  for (int i = 0; i < 100; ++i) {
    const std::string id = rng.id();
    EXPECT_EQ(id.size(), 25u);
    EXPECT_TRUE(id[0] >= 'a' && id[0] <= 'z') << id;
  }
}

}  // namespace
}  // namespace muster
