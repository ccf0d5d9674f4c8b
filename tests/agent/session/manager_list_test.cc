#include "agent/session/manager_list.h"

#include <gtest/gtest.h>

namespace muster::agent {
namespace {

TEST(ManagerList, OrderDiffersFromNodeToNode) {
  std::set<std::string> first;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SeededRng rng(seed);
    first.insert(ManagerList({"a", "b", "c"}, rng).next({})->address);
  }
  EXPECT_EQ(first.size(), 3u);
}

TEST(ManagerList, BackoffDoublesToItsCapAndIsForgottenWithSuccess) {
  SeededRng rng(1);
  ManagerList list({"a"}, rng);
  Duration cap = ManagerList::kBackoffMin;
  for (int i = 0; i < 12; ++i) {
    list.failed("a", {}, rng);
    const Duration wait = list.next({})->not_before.since_start;
    EXPECT_GE(wait, cap / 2);
    EXPECT_LE(wait, cap);
    cap = std::min(cap * 2, ManagerList::kBackoffMax);
  }
  list.succeeded("a");
  EXPECT_EQ(list.next({})->not_before, TimePoint{});
}

TEST(ManagerList, OneThatDeclinedIsAskedSoonerWhenItIsSaidToLead) {
  SeededRng rng(1);
  ManagerList list({"a", "b", "c"}, rng);
  TimePoint now;
  for (int i = 0; i < 20; ++i) {
    now = now + 10s;
    for (const char* address : {"a", "b", "c"}) list.declined(address, now, rng);
  }
  EXPECT_GE(list.next(now)->not_before - now, ManagerList::kDeclinedMax * 3 / 2);
  EXPECT_FALSE(list.prefer({"b"}));
  EXPECT_EQ(list.next(now)->address, "b");
  EXPECT_EQ(list.next(now)->not_before - now, ManagerList::kDeclinedMax / 2);
}

TEST(ManagerList, ReplacingKeepsWhatIsKnownOfThoseThatStay) {
  SeededRng rng(1);
  ManagerList list({"a", "b"}, rng);
  list.failed("a", {}, rng);
  EXPECT_TRUE(list.replace({"a", "c", "c", ""}, {}, rng));
  EXPECT_EQ(list.size(), 2u);
  EXPECT_EQ(list.failures("a"), 1);
  EXPECT_FALSE(list.replace({"c", "a"}, {}, rng));
}

}  // namespace
}  // namespace muster::agent
