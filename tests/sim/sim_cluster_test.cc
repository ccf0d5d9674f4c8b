#include "tests/sim/sim_cluster.h"

#include <gtest/gtest.h>

namespace muster::sim {
namespace {

TEST(SimCluster, ManySeedsKeepTheRulesAndConverge) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const auto outcome = run_cluster(seed);
    ASSERT_TRUE(outcome) << "seed " << seed << ": " << outcome.error().message();
    EXPECT_GT(outcome->commits, 100u) << "seed " << seed;
    EXPECT_GT(outcome->operations, 20u) << "seed " << seed;
  }
}

// A payload removed under an outdated task on a paused node; start-first moves that were not
// counted.
TEST(SimCluster, SeedsThatOnceBrokeARule) {
  for (const uint64_t seed : {5088, 5386, 20071, 20345}) {
    const auto outcome = run_cluster(seed);
    EXPECT_TRUE(outcome) << "seed " << seed << ": " << outcome.error().message();
  }
}

TEST(SimCluster, TheSameSeedEndsInTheSameState) {
  const auto a = run_cluster(7);
  const auto b = run_cluster(7);
  ASSERT_TRUE(a && b);
  EXPECT_EQ(a->state_hash, b->state_hash);
  EXPECT_EQ(a->commits, b->commits);
}

}  // namespace
}  // namespace muster::sim
