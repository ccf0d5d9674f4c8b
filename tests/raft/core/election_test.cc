// Elections: sections 5.2 and 5.4.1 of the Raft paper, pre-votes, leases and votes on the disk.
#include "tests/raft/core/one_core.h"

namespace muster::raft {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

using RaftElection = OneCore;

TEST_F(RaftElection, AFollowerAsksBeforeItRaisesTheTerm) {
  start(3, {.hard_state = {.term = 4, .vote = {}}, .snapshot = {}, .entries = log_of({1, 4})});
  elapse(2 * tuning_.election_min);
  core().tick(now_);
  const auto sent = messages();
  ASSERT_THAT(sent, SizeIs(2));
  EXPECT_EQ(sent[0].kind, MessageKind::kPreVote);
  EXPECT_EQ(sent[0].term, 5U);
  EXPECT_EQ(sent[0].prev_index, 2U);
  EXPECT_EQ(sent[0].prev_term, 4U);
  EXPECT_EQ(core().term(), 4U);
  EXPECT_EQ(core().role(), Role::kPreCandidate);
}

TEST_F(RaftElection, TimeOutsLieBetweenOneAndTwoElectionMinima) {
  start(3);
  std::set<int64_t> seen;
  for (int i = 0; i < 100; ++i) {
    step(from(2, MessageKind::kHeartbeat, 1));
    const Duration left = core().next_deadline() - now_;
    EXPECT_GE(left, tuning_.election_min);
    EXPECT_LT(left, 2 * tuning_.election_min);
    seen.insert(left.count());
  }
  EXPECT_GT(seen.size(), 50U);
}

TEST_F(RaftElection, TheOnlyVoterLeadsWithoutWaitingButNotBeforeItsVoteIsOnTheDisk) {
  held_ = true;
  start(1);
  EXPECT_LE(core().next_deadline(), now_);
  core().tick(now_);
  messages();
  EXPECT_EQ(core().role(), Role::kCandidate);
  flush();
  EXPECT_EQ(core().role(), Role::kLeader);
}

TEST_F(RaftElection, AVoteLeavesOnlyWhenItIsOnTheDisk) {
  held_ = true;
  start(3);
  EXPECT_THAT(step(vote(2, 1, 0, 0)), IsEmpty());
  EXPECT_EQ(core().vote(), MemberId{2});
  flush();
  const auto sent = messages();
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_FALSE(sent[0].reject);
}

TEST_F(RaftElection, ARepeatedRequestOfTheSameCandidateIsGrantedAgain_B25) {
  start(3);
  EXPECT_FALSE(step(vote(2, 1, 0, 0)).at(0).reject);
  EXPECT_FALSE(step(vote(2, 1, 0, 0)).at(0).reject);
  EXPECT_TRUE(step(vote(3, 1, 9, 1)).at(0).reject);
}

TEST_F(RaftElection, OnlyAnUpToDateLogGetsAVote) {  // paper, 5.4.1
  start(3, {.hard_state = {.term = 3, .vote = {}}, .snapshot = {}, .entries = log_of({1, 2, 2})});
  struct Case {
    Index last;
    Term term;
    bool granted;
  };
  Term term = 4;
  for (const Case& c : {Case{3, 2, true}, Case{2, 2, false}, Case{4, 2, true}, Case{9, 1, false},
                        Case{1, 3, true}}) {
    EXPECT_EQ(!step(vote(2, term++, c.last, c.term)).at(0).reject, c.granted)
        << c.last << " of term " << c.term;
  }
}

TEST_F(RaftElection, WhoHearsALeaderIgnoresCandidatesAndKeepsItsTerm) {  // rule 4
  start(3);
  step(from(2, MessageKind::kHeartbeat, 1));
  elapse(tuning_.election_min - 1ms);
  EXPECT_THAT(step(vote(3, 2, 9, 1)), IsEmpty());
  EXPECT_THAT(step(vote(3, 2, 9, 1, true)), IsEmpty());
  EXPECT_EQ(core().term(), 1U);
  Message asked_to = vote(3, 2, 9, 1);
  asked_to.transfer = true;
  EXPECT_FALSE(step(asked_to).at(0).reject);
  EXPECT_EQ(core().term(), 2U);
}

TEST_F(RaftElection, APreVoteChangesNothingAndItsGrantCarriesTheAskedForTerm) {  // rule 7
  start(3);
  step(from(2, MessageKind::kHeartbeat, 1));
  elapse(tuning_.election_min);
  const auto granted = step(vote(3, 2, 0, 0, true));
  ASSERT_THAT(granted, SizeIs(1));
  EXPECT_FALSE(granted[0].reject);
  EXPECT_EQ(granted[0].term, 2U);
  EXPECT_EQ(core().term(), 1U);
  EXPECT_EQ(core().vote(), MemberId());
}

TEST_F(RaftElection, APreVoteOfALowerTermIsRefusedAloud_B21) {  // rule 6
  start(3, {.hard_state = {.term = 7, .vote = {}}, .snapshot = {}, .entries = {}});
  const auto sent = step(vote(3, 5, 9, 4, true));
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_TRUE(sent[0].reject);
  EXPECT_EQ(sent[0].term, 7U);
}

TEST_F(RaftElection, ALeaderOfALowerTermLearnsOfTheHigherOne) {  // rule 5
  start(3, {.hard_state = {.term = 7, .vote = {}}, .snapshot = {}, .entries = {}});
  for (const auto kind : {MessageKind::kHeartbeat, MessageKind::kAppend, MessageKind::kSnapshot}) {
    const auto sent = step(from(2, kind, 5));
    ASSERT_THAT(sent, SizeIs(1)) << to_string(kind);
    EXPECT_EQ(sent[0].kind, MessageKind::kAppendReply);
    EXPECT_EQ(sent[0].term, 7U);
  }
}

TEST_F(RaftElection, VotesOfAnEarlierRoundDoNotCount_B22) {
  start(5);
  elapse(2 * tuning_.election_min);
  core().tick(now_);
  messages();
  step(from(2, MessageKind::kPreVoteReply, 1));
  elapse(2 * tuning_.election_min);
  core().tick(now_);
  messages();
  step(from(3, MessageKind::kPreVoteReply, 1));
  EXPECT_EQ(core().role(), Role::kPreCandidate);
  EXPECT_EQ(core().leader(), MemberId());
  step(from(4, MessageKind::kPreVoteReply, 1));
  EXPECT_EQ(core().role(), Role::kCandidate);
}

TEST_F(RaftElection, AMajorityOfRefusalsEndsTheCandidacy) {
  start(3);
  elapse(2 * tuning_.election_min);
  core().tick(now_);
  messages();
  for (const uint64_t id : {2, 3}) {
    Message refusal = from(id, MessageKind::kPreVoteReply, 0);
    refusal.reject = true;
    step(refusal);
  }
  EXPECT_EQ(core().role(), Role::kFollower);
}

TEST_F(RaftElection, LearnersAndStrangersVoteWhenAskedButNeverCampaign_B30) {  // rule 8
  Members members = group(3);
  members.put(learner(1));
  core_ = std::make_unique<Core>(tuning_, kSelf, Restored{}, members, rng_, now_);
  EXPECT_FALSE(step(vote(2, 1, 0, 0)).at(0).reject);
  EXPECT_FALSE(step(vote(9, 2, 0, 0)).at(0).reject);
  elapse(10 * tuning_.election_min);
  core().tick(now_);
  EXPECT_THAT(messages(), IsEmpty());
  EXPECT_EQ(core().role(), Role::kFollower);
}

TEST_F(RaftElection, ALeaderWithoutAQuorumStepsDown_B24) {
  start(3);
  lead();
  const Term term = core().term();
  for (int i = 0; i < 25; ++i) {
    elapse(tuning_.heartbeat);
    core().tick(now_);
    messages();
  }
  EXPECT_EQ(core().role(), Role::kFollower);
  EXPECT_EQ(core().term(), term);
  EXPECT_FALSE(core().propose(now_, "x"));
}

TEST_F(RaftElection, SuspicionEndsOnlyOnesOwnLease) {
  start(3);
  step(from(2, MessageKind::kHeartbeat, 1));
  core().suspect_leader(now_);
  EXPECT_LE(core().next_deadline(), now_ + tuning_.suspicion_spread);
  EXPECT_FALSE(step(vote(3, 2, 0, 0, true)).at(0).reject);
  elapse(tuning_.suspicion_spread);
  core().tick(now_);
  EXPECT_THAT(only(messages(), MessageKind::kPreVote), SizeIs(2));
  EXPECT_EQ(core().term(), 1U);
}

TEST_F(RaftElection, AnyWordOfTheLeaderEndsASuspicion) {
  start(3);
  step(from(2, MessageKind::kHeartbeat, 1));
  core().suspect_leader(now_);
  step(from(2, MessageKind::kHeartbeat, 1));
  EXPECT_GE(core().next_deadline(), now_ + tuning_.election_min);
  EXPECT_THAT(step(vote(3, 2, 0, 0, true)), IsEmpty());
}

}  // namespace
}  // namespace muster::raft
