#include "tests/sim/sim_cluster.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/sim/sim_seeds.h"
#include "tests/sim/sim_shrink.h"

namespace muster::sim {
namespace {

TEST(SimCluster, ManySeedsKeepTheRulesAndConverge) {
  uint64_t operations = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const auto outcome = run_cluster(seed);
    ASSERT_TRUE(outcome) << "seed " << seed << ": " << outcome.error().message();
    EXPECT_GT(outcome->commits, 100u) << "seed " << seed;
    operations += outcome->operations;
  }
  // Of single seeds some have no leader for most of the time.
  EXPECT_GT(operations, 40u * 30u);
}

TEST(SimCluster, TheSameSeedEndsInTheSameState) {
  for (const uint64_t seed : {7, 8, 9}) {
    const auto a = run_cluster(seed);
    const auto b = run_cluster(seed);
    ASSERT_TRUE(a && b);
    EXPECT_EQ(a->state_hash, b->state_hash);
    EXPECT_EQ(a->commits, b->commits);
    EXPECT_EQ(a->probes.counts(), b->probes.counts());
  }
}

TEST(Troubles, NamesReadBack) {
  const auto all = Troubles::parse(Troubles::all().names());
  ASSERT_TRUE(all);
  EXPECT_EQ(all->names(), Troubles::all().names());
  EXPECT_FALSE(Troubles::parse("reboot,flood"));
  EXPECT_EQ(Troubles::all().without(Troubles::first_ones()).names(),
            "manager-stops,disk-lost,roles,clocks,lossy-lanes,agent-midway,agent-frozen,slow-pulls,"
            "unhealthy,certificates,root-rotation,hours");
}

// Fails when there are reboots and there is time for one.
TEST(Shrink, FindsWhatAFailureNeeds) {
  const auto attempt = [](const ClusterOptions& options) -> std::optional<std::string> {
    const bool fails = options.troubles.has(Trouble::kReboot) && options.chaos >= 10s &&
                       options.hosts >= 2 && options.managers_max >= 3;
    return fails ? std::optional<std::string>("as expected") : std::nullopt;
  };
  ClusterOptions options;
  options.draw = false;
  const auto shrunk = shrink(5, options, attempt);
  ASSERT_TRUE(shrunk);
  EXPECT_EQ(shrunk->options.troubles.names(), "reboot");
  EXPECT_EQ(shrunk->options.hosts, 2);
  EXPECT_EQ(shrunk->options.services, 1);
  EXPECT_EQ(shrunk->options.managers_max, 3U);
  EXPECT_GE(shrunk->options.chaos, 10s);
  EXPECT_LT(shrunk->options.chaos, 10'250ms);
  EXPECT_EQ(shrunk->failure, "as expected");
  options.hosts = 1;
  EXPECT_FALSE(shrink(5, options, attempt));
}

TEST(Seeds, EveryProcessRunsItsShareAndFailuresAreNamed) {
  const auto run = [](uint64_t seed, Probes& probes) {
    probes.hit("a probe", seed);
    return seed == 6 ? internal_error("two\nlines") : ok_status();
  };
  SeedPlan plan{.start = 1, .seeds = 5, .jobs = 2};
  SeedTotals totals = run_seeds(plan, run);
  EXPECT_EQ(totals.seeds, 5U);
  EXPECT_TRUE(totals.failures.empty());
  EXPECT_EQ(totals.probes.counts().at("a probe"), 15U);
  plan.seeds = 6;
  totals = run_seeds(plan, run);
  ASSERT_EQ(totals.failures.size(), 1U);
  EXPECT_EQ(totals.failures.front(), "seed 6: two\nlines");
}

TEST(Seeds, AProcessThatEndsIsAFailure) {
  EXPECT_EQ(in_child([] { return std::string(); }), std::nullopt);
  EXPECT_EQ(in_child([] { return std::string("no"); }), "no");
  EXPECT_EQ(in_child([]() -> std::string { std::abort(); }), "the process ended");
}

}  // namespace
}  // namespace muster::sim
