#include "deploy/daemon/outside_watch.h"

#include <gtest/gtest.h>

namespace muster::daemon {
namespace {

using Verdict = OutsideWatch::Verdict;
constexpr Duration kPatience = OutsideWatch::kPatience;

TEST(OutsideWatch, WhoIsNeitherListedNorLedTwiceIsOutside) {
  OutsideWatch watch;
  TimePoint now;
  EXPECT_EQ(watch.heard(false, false, now), Verdict::kLook);
  EXPECT_TRUE(watch.look(false));
  EXPECT_EQ(watch.heard(false, false, now + kPatience), Verdict::kOutside);
  // The next life begins anew.
  EXPECT_EQ(watch.heard(false, false, now + kPatience), Verdict::kLook);
}

TEST(OutsideWatch, WhatIsHeardOnceOrTooSoonDoesNotCount) {
  OutsideWatch watch;
  const TimePoint now;
  EXPECT_EQ(watch.heard(false, false, now), Verdict::kLook);
  EXPECT_EQ(watch.heard(false, false, now + kPatience - 1ns), Verdict::kInside);
}

TEST(OutsideWatch, AListThatHasItOrALeaderEndsTheSuspicion) {
  for (const bool listed : {true, false}) {
    OutsideWatch watch;
    const TimePoint now;
    EXPECT_EQ(watch.heard(listed, !listed, now), Verdict::kInside);
    EXPECT_EQ(watch.heard(false, false, now), Verdict::kLook);
    EXPECT_EQ(watch.heard(listed, !listed, now + 1s), Verdict::kInside);
    EXPECT_FALSE(watch.look(false)) << "nothing is suspected";
    EXPECT_EQ(watch.heard(false, false, now + kPatience), Verdict::kLook);
    EXPECT_FALSE(watch.look(true)) << "it has found a leader";
    EXPECT_EQ(watch.heard(false, false, now + 2 * kPatience), Verdict::kLook);
  }
}

}  // namespace
}  // namespace muster::daemon
