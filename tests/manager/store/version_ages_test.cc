#include "manager/store/version_ages.h"

#include <gtest/gtest.h>

#include <vector>

namespace muster::manager::store {
namespace {

constexpr TimePoint at(Duration since) {
  return TimePoint{since};
}

TEST(VersionAges, AVersionIsOldOnceItWasSeenLongAgo) {
  struct Step {
    Duration at;
    uint64_t saw;  // 0: nothing
    uint64_t long_there;
    const char* what;
  };
  const Step steps[] = {
      {0min, 10, 0, "what was there at the beginning is as young as it"},
      {30s, 20, 0, "not looked at"},
      {1min, 30, 0, "looked at"},
      {59min, 40, 0, ""},
      {59min + 30s, 50, 0, "too soon after the last look"},
      {60min, 0, 10, "the first look is an hour ago"},
      {60min + 59s, 0, 10, "20 may have come after the first look"},
      {61min, 60, 30, ""},
      {2h - 1min - 1s, 0, 30, ""},
      {2h - 1min, 0, 40, ""},
      {2h, 0, 40, "50 was not looked at"},
      {2h + 1min, 0, 60, ""},
      {100h, 0, 60, "nothing was written since"},
      {100h, 70, 60, "that has just come"},
      {101h, 0, 70, ""},
  };
  VersionAges ages(1h, 1min);
  for (const Step& step : steps) {
    if (step.saw != 0) ages.saw(at(step.at), step.saw);
    EXPECT_EQ(ages.there_for_long(at(step.at)), step.long_there)
        << format_duration(step.at) << " " << step.what;
  }
}

TEST(VersionAges, NothingIsOldWhereNothingWasSeen) {
  VersionAges ages(1h, 1min);
  EXPECT_EQ(ages.there_for_long(at(1000h)), 0U);
}

}  // namespace
}  // namespace muster::manager::store
