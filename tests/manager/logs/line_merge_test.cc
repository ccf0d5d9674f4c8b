#include "manager/logs/line_merge.h"

#include <gtest/gtest.h>

#include <string>

namespace muster::manager::logs {
namespace {

constexpr TimePoint kStart{};

v1::LogLine line(int64_t time_ns, const std::string& text) {
  v1::LogLine out;
  out.set_time_ns(time_ns);
  out.set_line(text);
  return out;
}

std::string take(LineMerge& merge, TimePoint now) {
  std::string out;
  for (const auto& taken : merge.take(now, 1 << 20)) out += taken.line();
  return out;
}

TEST(LineMergeTest, ThePastWaitsForEveryNode) {
  LineMerge merge;
  merge.open("n1");
  merge.open("n2");
  merge.add("n1", line(1, "a"), kStart);
  merge.add("n1", line(3, "c"), kStart);
  EXPECT_EQ(take(merge, kStart + 1h), "");
  EXPECT_FALSE(merge.wake_at().has_value());
  merge.add("n2", line(2, "b"), kStart);
  // n2 may still have something before c.
  EXPECT_EQ(take(merge, kStart + 1h), "ab");
  merge.close("n2");
  EXPECT_EQ(take(merge, kStart + 1h), "c");
  EXPECT_TRUE(merge.empty());
}

TEST(LineMergeTest, ThePresentWaitsForTheWindowOnly) {
  LineMerge merge;
  for (const char* node : {"n1", "n2"}) {
    merge.open(node);
    merge.set_current(node);
  }
  merge.add("n1", line(10, "late"), kStart);
  EXPECT_EQ(take(merge, kStart), "");
  ASSERT_TRUE(merge.wake_at().has_value());
  EXPECT_EQ(*merge.wake_at(), kStart + LineMerge::kWindow);
  merge.add("n2", line(9, "early "), kStart + 100ms);
  // Both have said something: nothing earlier than the earlier one can come. The later one waits
  // for what n2 says next.
  EXPECT_EQ(take(merge, kStart + 100ms), "early ");
  EXPECT_EQ(take(merge, kStart + LineMerge::kWindow - 1ns), "");
  EXPECT_EQ(take(merge, kStart + LineMerge::kWindow), "late");
}

TEST(LineMergeTest, ASingleNodeWaitsForNobody) {
  LineMerge merge;
  merge.open("n1");
  merge.set_current("n1");
  merge.add("n1", line(1, "a"), kStart);
  EXPECT_EQ(take(merge, kStart), "a");
}

TEST(LineMergeTest, WhatIsOpenedAgainGoesOn) {
  LineMerge merge;
  merge.open("n1");
  merge.open("n2");
  merge.set_current("n1");
  merge.close("n2");
  merge.add("n1", line(1, "a"), kStart);
  EXPECT_EQ(take(merge, kStart), "a");
  merge.open("n2");
  merge.add("n1", line(5, "c"), kStart);
  EXPECT_EQ(take(merge, kStart + 1h), "");
  merge.add("n2", line(4, "b"), kStart);
  merge.set_current("n2");
  EXPECT_EQ(take(merge, kStart + 1h), "bc");
}

TEST(LineMergeTest, RoomIsWhatLimitsANode) {
  LineMerge merge;
  merge.open("n1");
  merge.open("n2");
  EXPECT_TRUE(merge.has_room("n1"));
  merge.add("n1", line(1, std::string(LineMerge::kLowWaterBytes, 'x')), kStart);
  EXPECT_FALSE(merge.has_room("n1"));
  EXPECT_TRUE(merge.has_room("n2"));
  merge.close("n2");
  take(merge, kStart);
  EXPECT_TRUE(merge.has_room("n1"));
}

TEST(LineMergeTest, TakesNoMoreThanAsked) {
  LineMerge merge;
  merge.open("n1");
  for (int i = 0; i < 10; ++i) merge.add("n1", line(i, std::string(1000, 'x')), kStart);
  EXPECT_EQ(merge.take(kStart, 2500).size(), 3U);
  EXPECT_EQ(merge.take(kStart, 1 << 20).size(), 7U);
}

}  // namespace
}  // namespace muster::manager::logs
