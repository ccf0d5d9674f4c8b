#include "manager/dispatcher/liveness.h"

#include <gtest/gtest.h>

namespace muster::manager::dispatcher {
namespace {

constexpr TimePoint kStart{100s};
const LivenessPolicy kPolicy{};
using Verdict = Liveness::Verdict;

Liveness heard_at(TimePoint t) {
  Liveness liveness;
  liveness.heard(kPolicy, t);
  return liveness;
}

TEST(Liveness, ThreeMissedHeartbeatsCallForAProbe) {
  const Liveness node = heard_at(kStart);
  EXPECT_EQ(node.judge(kStart + 2999ms), Verdict::kAlive);
  EXPECT_EQ(node.judge(kStart + 3s), Verdict::kProbe);
}

TEST(Liveness, AHostThatDoesNotAnswerIsDownAfterFive) {
  Liveness node = heard_at(kStart);
  EXPECT_EQ(node.on_probe(kPolicy, ProbeResult::kUnreachable, kStart + 4s), Verdict::kAlive);
  EXPECT_EQ(node.deadline(), kStart + 5s);
  EXPECT_EQ(node.judge(kStart + 4999ms), Verdict::kAlive);
  EXPECT_EQ(node.judge(kStart + 5s), Verdict::kDown);
  EXPECT_EQ(node.why_down(), "heartbeat failure: the host does not answer");
}

TEST(Liveness, AProbeThatTakesLongerDecidesAtOnce) {
  Liveness node = heard_at(kStart);
  EXPECT_EQ(node.on_probe(kPolicy, ProbeResult::kUnreachable, kStart + 5s), Verdict::kDown);
}

TEST(Liveness, AListenerThatIsSilentInItsSessionIsDownAfterFive) {
  Liveness node = heard_at(kStart);
  EXPECT_EQ(node.on_probe(kPolicy, ProbeResult::kAccepted, kStart + 3s), Verdict::kAlive);
  EXPECT_EQ(node.judge(kStart + 5s), Verdict::kDown);
  EXPECT_EQ(node.why_down(), "heartbeat failure: the agent is silent");
}

TEST(Liveness, AHeartbeatAfterTheProbeBeginsAnew) {
  Liveness node = heard_at(kStart);
  EXPECT_EQ(node.on_probe(kPolicy, ProbeResult::kUnreachable, kStart + 4s), Verdict::kAlive);
  node.heard(kPolicy, kStart + 4s);
  EXPECT_EQ(node.judge(kStart + 5s), Verdict::kAlive);
  EXPECT_EQ(node.judge(kStart + 7s), Verdict::kProbe);
}

TEST(Liveness, AProbeNeverBeginsBeforeAHeartbeatIsDue) {
  LivenessPolicy strict = kPolicy;
  strict.misses = 1;
  Liveness node;
  node.heard(strict, kStart);
  EXPECT_EQ(node.judge(kStart + 999ms), Verdict::kAlive);
  EXPECT_EQ(node.judge(kStart + 1s), Verdict::kProbe);
  EXPECT_EQ(node.on_probe(strict, ProbeResult::kUnreachable, kStart + 1s), Verdict::kDown);
}

TEST(Liveness, ARefusingHostGetsTheVanishedGraceOnce) {
  Liveness node = heard_at(kStart);
  node.disconnected(kStart + 1s);
  EXPECT_EQ(node.on_probe(kPolicy, ProbeResult::kRefused, kStart + 5s), Verdict::kAlive);
  EXPECT_EQ(node.deadline(), kStart + 31s);
  EXPECT_EQ(node.judge(kStart + 31s), Verdict::kDown);
  EXPECT_EQ(node.why_down(), "the agent did not come back in time");
}

TEST(Liveness, AHeartbeatDuringTheProbeWins) {
  Liveness node = heard_at(kStart);
  node.heard(kPolicy, kStart + 6s);
  EXPECT_EQ(node.on_probe(kPolicy, ProbeResult::kUnreachable, kStart + 7s), Verdict::kAlive);
}

TEST(Liveness, AnAnnouncedRestartGetsAMinuteAndNoMore) {
  Liveness node = heard_at(kStart);
  node.restarting(kPolicy, kStart);
  node.disconnected(kStart);
  EXPECT_EQ(node.judge(kStart + 59s), Verdict::kAlive);
  EXPECT_EQ(node.judge(kStart + 60s), Verdict::kDown);
}

TEST(Liveness, AnAnnouncedRestartGetsNoLessThanASilentNode) {
  LivenessPolicy slow = kPolicy;
  slow.period = 30s;
  Liveness node;
  node.heard(slow, kStart);
  node.restarting(slow, kStart);
  EXPECT_EQ(node.judge(kStart + 149s), Verdict::kAlive);
  EXPECT_EQ(node.judge(kStart + 150s), Verdict::kDown);
}

TEST(Liveness, ANewLeaderWaitsTwice) {
  const Liveness node = Liveness::unheard(kPolicy, kStart);
  EXPECT_EQ(node.judge(kStart + 7s), Verdict::kAlive);
  EXPECT_EQ(node.judge(kStart + 8s), Verdict::kProbe);
}

}  // namespace
}  // namespace muster::manager::dispatcher
