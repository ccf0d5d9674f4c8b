#include "base/time.h"

#include <gtest/gtest.h>

namespace muster {
namespace {

TEST(Duration, ParsesGoSyntax) {
  const std::pair<const char*, Duration> cases[] = {
      {"0", 0s},        {"5s", 5s},     {"1h30m", 90min},         {"1.5s", 1500ms},
      {"500ms", 500ms}, {"-2m", -2min}, {"1h0m0.5s", 1h + 500ms}, {"10us", 10us},
      {"7ns", 7ns},     {"+3s", 3s}};
  for (const auto& [text, expected] : cases) {
    const auto parsed = parse_duration(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(*parsed, expected) << text;
  }
}

TEST(Duration, RefusesWhatGoRefuses) {
  for (const char* text : {"", "5", "s", "5 s", "1d", "abc", "-", "1h5", "99999999999h"}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
}

TEST(Duration, PrintsTheShortestExactForm) {
  const std::pair<Duration, const char*> cases[] = {
      {0s, "0s"},         {90s, "1m30s"}, {1500ms, "1.5s"},         {500ms, "500ms"},
      {90min, "1h30m0s"}, {7ns, "7ns"},   {1500ns, "1.5\xc2\xb5s"}, {-2min, "-2m0s"}};
  for (const auto& [duration, expected] : cases) EXPECT_EQ(format_duration(duration), expected);
}

TEST(WallTime, SurvivesRfc3339) {
  for (const char* text : {"2026-11-24T03:31:52.000000001Z", "1999-12-31T23:59:59.999999999Z"}) {
    const auto parsed = parse_rfc3339(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(format_rfc3339(*parsed), text);
  }
  EXPECT_EQ(*parse_rfc3339("2026-11-24T05:31:52+02:00"), *parse_rfc3339("2026-11-24T03:31:52Z"));
  for (const char* text : {"", "2026-11-24", "2026-13-01T00:00:00Z", "2026-11-24T03:31:52",
                           "2026-11-24T03:31:52Zx", "2026-11-24T03:31:52.Z"}) {
    EXPECT_FALSE(parse_rfc3339(text)) << text;
  }
}

TEST(HumanDuration, IsCoarseAsInDockersTables) {
  EXPECT_EQ(human_duration(0s), "Less than a second");
  EXPECT_EQ(human_duration(45s), "45 seconds");
  EXPECT_EQ(human_duration(61s), "About a minute");
  EXPECT_EQ(human_duration(46min), "46 minutes");
  EXPECT_EQ(human_duration(3h), "3 hours");
  EXPECT_EQ(human_duration(24h * 3), "3 days");
}

}  // namespace
}  // namespace muster
