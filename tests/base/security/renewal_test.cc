#include "base/security/renewal.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace muster::security {
namespace {

constexpr WallTime kMade{1'790'000'000'000'000'000};

CertificateFacts lasting(Duration validity) {
  return {{"n1", CertificateRole::kWorker, "c1"}, kMade - kBackdate, kMade + validity};
}

TEST(Renewal, IsDueAtARandomPointOfTheThirdFifthOrTheFourth) {
  SeededRng rng(7);
  for (const Duration validity : {Duration(1h), Duration(24h * 90)}) {
    const CertificateFacts certificate = lasting(validity);
    Duration least = validity;
    Duration most = 0s;
    for (int i = 0; i < 1000; ++i) {
      const Duration at = renewal_due(certificate, rng) - kMade;
      least = std::min(least, at);
      most = std::max(most, at);
    }
    EXPECT_GE(least, validity / 2);
    EXPECT_LT(least, validity / 100 * 52);
    EXPECT_LE(most, validity / 10 * 8);
    EXPECT_GT(most, validity / 100 * 78);
  }
}

TEST(Renewal, FailuresBackOffToAnHourButNeverPastTheEnd) {
  SeededRng rng(7);
  const CertificateFacts certificate = lasting(24h * 90);
  struct Case {
    unsigned failures;
    Duration left;
    Duration most;
  };
  const Case cases[] = {
      {1, 24h * 30, 5s},  {2, 24h * 30, 10s},   {5, 24h * 30, 80s},
      {20, 24h * 30, 1h}, {1000, 24h * 30, 1h}, {20, 1h, 225s},
      {20, 16s, 5s},      {20, -1h, 5s},        {0, 24h * 30, 5s},
  };
  for (const Case& c : cases) {
    for (int i = 0; i < 100; ++i) {
      const Duration delay =
          renewal_retry(certificate, certificate.not_after - c.left, c.failures, rng);
      EXPECT_LE(delay, c.most) << c.failures;
      EXPECT_GE(delay, c.most / 5 * 4) << c.failures;
    }
  }
}

TEST(Renewal, OfAllNodesAtOnceIsSpread) {
  SeededRng rng(7);
  for (int i = 0; i < 100; ++i) {
    EXPECT_LT(renewal_spread(3, rng), 90ms + 1ns);
    EXPECT_LE(renewal_spread(10'000, rng), 60s);
    EXPECT_GE(renewal_spread(10'000, rng), 0s);
  }
  EXPECT_EQ(renewal_spread(0, rng), 0s);
}

TEST(Renewal, ACertificateOutOfItsTimeSaysWhatToDo) {
  const CertificateFacts certificate = lasting(24h);
  EXPECT_TRUE(check_validity(certificate, kMade).ok());
  EXPECT_TRUE(check_validity(certificate, certificate.not_before).ok());
  EXPECT_EQ(check_validity(certificate, certificate.not_before - 1s).reason(), "clock-skew");
  const Status late = check_validity(certificate, certificate.not_after);
  EXPECT_EQ(late.reason(), "certificate-expired");
  EXPECT_NE(late.message().find("leave the swarm and join it again"), std::string::npos);
}

}  // namespace
}  // namespace muster::security
