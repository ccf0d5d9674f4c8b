#include "tests/sim/sim_manager.h"

#include <gtest/gtest.h>

namespace muster::sim {
namespace {

TEST(SimManager, ManySeedsKeepTheRulesAndConverge) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const auto outcome = run_manager(seed);
    ASSERT_TRUE(outcome) << "seed " << seed << ": " << outcome.error().message();
    EXPECT_GT(outcome->commits, 100u);
  }
}

TEST(SimManager, TheSameSeedEndsInTheSameState) {
  for (uint64_t seed : {7, 8}) {
    const auto a = run_manager(seed);
    const auto b = run_manager(seed);
    ASSERT_TRUE(a && b);
    EXPECT_EQ(a->state_hash, b->state_hash);
  }
}

}  // namespace
}  // namespace muster::sim
