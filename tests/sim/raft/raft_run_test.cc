#include "tests/sim/raft/raft_run.h"

#include <gtest/gtest.h>

#include "tests/sim/raft/raft_world.h"

namespace muster::sim {
namespace {

TEST(RaftRun, EqualSeedsGiveEqualRuns) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const auto first = run_raft(seed);
    const auto second = run_raft(seed);
    ASSERT_TRUE(first && second) << (first ? second : first).error().message();
    EXPECT_EQ(first->trace, second->trace) << seed;
  }
}

TEST(RaftRun, SeedsThatOnceBrokeARule) {
  // A snapshot that the log had left behind when it arrived (B16); a lost acknowledgement of one;
  // a snapshot of a log that did not say who founded the group (B15).
  for (const uint64_t seed : {65, 242, 319, 587, 7300, 9176, 11576}) {
    const auto outcome = run_raft(seed);
    EXPECT_TRUE(outcome) << seed << ": " << outcome.error().message();
  }
}

// A member that hears the others but is not heard by the leader, and one that is heard but hears
// nobody: neither raises terms for ever (L2; B23, B24).
TEST(RaftWorld, OneWayLinksDoNotRaiseTermsWithoutEnd) {
  for (const bool deaf : {false, true}) {
    RaftWorld world(5);
    world.found(3);
    const MemberId leader = world.await_leader();
    const MemberId other{leader.value % 3 + 1};
    for (const MemberId id : world.ids()) {
      if (id == other) continue;
      if (deaf) {
        world.cut(id, other);
      } else {
        world.cut(other, id);
      }
    }
    const raft::Term before = world.core(leader).term();
    world.run_for(60s);
    EXPECT_EQ(world.broken(), "");
    EXPECT_EQ(world.leader(), leader);
    EXPECT_EQ(world.core(leader).term(), before);
    world.mend_all();
    world.run_for(10s);
    EXPECT_EQ(world.leader(), leader);
    EXPECT_EQ(world.core(leader).term(), before);
  }
}

// One broken link between the leader and a follower that a third member still reaches (the shape of
// a six-hour outage elsewhere): the leader stays, and so does its term.
TEST(RaftWorld, OneBrokenLinkChangesNoTerm) {
  RaftWorld world(6);
  world.found(3);
  const MemberId leader = world.await_leader();
  const MemberId other{leader.value % 3 + 1};
  world.cut(leader, other);
  world.cut(other, leader);
  world.suspect(other);
  const raft::Term before = world.core(leader).term();
  for (int i = 0; i < 100; ++i) {
    world.run_for(500ms);
    ASSERT_TRUE(world.propose(leader, fmt::format("p{}", i)));
  }
  EXPECT_EQ(world.broken(), "");
  EXPECT_EQ(world.core(leader).term(), before);
  EXPECT_GE(world.acknowledged(), 99U);  // the last may be under way
}

// All followers lose the leader's process: they agree on another at once.
TEST(RaftWorld, SuspectsElectWithinAFractionOfTheTimeOut) {
  RaftWorld world(7);
  world.found(3);
  const MemberId leader = world.await_leader();
  world.crash(leader);
  const TimePoint crashed = world.now();
  world.run_for(10ms);  // what it had sent arrives; then its streams end
  for (const MemberId id : world.running()) world.suspect(id);
  ASSERT_TRUE(world.run_until([&] { return world.leader().has_value(); }, 1s));
  EXPECT_LT(world.now() - crashed, 200ms);
}

TEST(RaftWorld, ALeaderThatIsPausedGivesNoStaleRead_B18) {
  RaftWorld world(8);
  world.found(3);
  const MemberId first = world.await_leader();
  world.pause(first);
  ASSERT_TRUE(world.run_until(
      [&] { return world.leader() && world.core(*world.leader()).leads_surely(); }, 20s));
  ASSERT_TRUE(world.propose(*world.leader(), "news"));
  world.run_for(1s);
  world.read(first);
  world.resume(first);
  world.run_for(5s);
  EXPECT_EQ(world.broken(), "");
}

// No id is used again: who asks for such a change is not stopped by the core, but seen.
TEST(RaftWorld, ARemovedMemberThatIsAddedAgainIsSeen_B26) {
  RaftWorld world(9);
  world.found(3);
  const MemberId leader = world.await_leader();
  const MemberId other{leader.value % 3 + 1};
  Members without = world.core(leader).members();
  without.remove(other);
  ASSERT_TRUE(world.change_members(leader, without));
  world.run_for(1s);
  ASSERT_EQ(world.broken(), "");
  without.put(world.describe(other, false));
  ASSERT_TRUE(world.change_members(leader, without));
  world.run_for(1s);
  EXPECT_NE(world.broken().find("was removed and is a member again (R12)"), std::string::npos)
      << world.broken();
}

}  // namespace
}  // namespace muster::sim
