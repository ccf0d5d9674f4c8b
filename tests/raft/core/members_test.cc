// Membership: one voter at a time, in effect when appended; snapshots; reads; handing over.
#include "tests/raft/core/one_core.h"

namespace muster::raft {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

class RaftMembers : public OneCore {
 protected:
  // Leads, and has committed an entry of its term.
  void lead_surely() {
    lead();
    for (const Member& member : core().members().list) {
      if (member.id != kSelf) step(ack(member.id.value, core().term(), core().log().last()));
    }
    ASSERT_TRUE(core().leads_surely());
  }
  // A learner that has everything, as of one round.
  void add_caught_up_learner(uint64_t id) {
    Members next = core().members();
    next.put(learner(id));
    ASSERT_TRUE(core().propose_members(now_, next));
    messages();
    step(ack(2, core().term(), core().log().last()));
    step(ack(id, core().term(), core().log().last()));
    step(ack(id, core().term(), core().log().last()));
    step(from(id, MessageKind::kHeartbeatReply, core().term()));
    ASSERT_TRUE(core().progress({id})->caught_up());
  }
  std::string change_error(const Members& next) {
    const auto change = core().propose_members(now_, next);
    return change ? "" : change.error().reason() + "|" + change.error().message();
  }
};

TEST_F(RaftMembers, NoChangeBeforeAnEntryOfTheOwnTermIsCommitted_B07) {
  start(3);
  lead();
  Members next = core().members();
  next.put(learner(4));
  EXPECT_EQ(change_error(next),
            "change-pending|this leader has not yet committed an entry of its term");
  step(ack(2, core().term(), core().log().last()));
  EXPECT_EQ(change_error(next), "");
}

TEST_F(RaftMembers, OneChangeAtATime) {
  start(3);
  lead_surely();
  Members next = core().members();
  next.put(learner(4));
  ASSERT_EQ(change_error(next), "");
  next.put(learner(5));
  EXPECT_EQ(change_error(next), "change-pending|another change of the group is under way");
}

TEST_F(RaftMembers, OneVoterAtATime) {
  start(5);
  lead_surely();
  Members next = core().members();
  next.remove({4});
  next.remove({5});
  EXPECT_EQ(change_error(next), "|only one voter can change at a time");
  next = {};
  next.put(learner(1));
  EXPECT_NE(change_error(next), "");
}

TEST_F(RaftMembers, ALearnerIsNotCountedAndNotPromotedBeforeItHasCaughtUp_B27_B30) {
  start(1);
  core().tick(now_);
  messages();
  Members next = core().members();
  next.put(learner(2));
  ASSERT_TRUE(core().propose_members(now_, next));
  messages();
  EXPECT_EQ(core().commit(), core().log().last());  // one voter is still the quorum
  Member promoted = learner(2);
  promoted.voter = true;
  next.put(promoted);
  EXPECT_EQ(change_error(next), "not-caught-up|member 2 has not caught up with the log");
  step(ack(2, core().term(), core().log().last()));
  step(from(2, MessageKind::kHeartbeatReply, core().term()));
  EXPECT_EQ(change_error(next), "");
  EXPECT_LT(core().commit(), core().log().last());  // from now on it takes both
}

TEST_F(RaftMembers, AChangeIsInEffectWhenAppendedAndGoneWhenCut_B05) {
  start(3, {.hard_state = {.term = 1, .vote = {}}, .snapshot = {}, .entries = log_of({1})});
  Members next = group(3);
  next.put(learner(4));
  const Entry change{2, 1, EntryKind::kMembers,
                     std::make_shared<const std::string>(encode_members(next))};
  step(append(2, 1, 1, 1, {change}));
  EXPECT_NE(core().members().find({4}), nullptr);
  step(append(3, 2, 1, 1, {data(2, 2)}));
  EXPECT_EQ(core().members().find({4}), nullptr);
  EXPECT_EQ(core().members().voters().size(), 3U);
}

TEST_F(RaftMembers, ALeaderThatIsTakenOutGoesWhenThatIsCommitted_B06) {
  start(3);
  lead_surely();
  Members next = core().members();
  next.remove(kSelf);
  ASSERT_TRUE(core().propose_members(now_, next));
  messages();
  EXPECT_EQ(core().role(), Role::kLeader);
  const Index last = core().log().last();
  step(ack(2, core().term(), last));
  EXPECT_EQ(core().role(), Role::kLeader);  // of the new group two are needed, and it is not in it
  const auto sent = step(ack(3, core().term(), last));
  EXPECT_EQ(core().role(), Role::kFollower);
  EXPECT_EQ(core().commit(), last);
  EXPECT_THAT(only(sent, MessageKind::kTimeoutNow), SizeIs(1));
}

TEST_F(RaftMembers, AMembershipEntryThatDoesNotParseIsNoMessage) {
  start(3);
  Entry broken{1, 1, EntryKind::kMembers, std::make_shared<const std::string>("nonsense")};
  EXPECT_THAT(step(append(2, 1, 0, 0, {broken})), IsEmpty());
  EXPECT_EQ(core().log().last(), 0U);
}

TEST_F(RaftMembers, TheFoundersAreTheFirstEntry) {
  start(1);
  core().tick(now_);
  messages();
  EXPECT_EQ(core().log().at(1).kind, EntryKind::kMembers);
  EXPECT_EQ(*decode_members(core().log().at(1).bytes()), group(1));
}

// ---------------------------------------------------------------- snapshots

SnapshotMark mark_at(Index index, Term term, const Members& members) {
  return {.index = index, .term = term, .members = members};
}

TEST_F(RaftMembers, ASnapshotReplacesALogThatDoesNotReachIt_B15) {
  held_ = true;
  start(3, {.hard_state = {.term = 1, .vote = {}}, .snapshot = {}, .entries = log_of({1, 1})});
  Message message = from(2, MessageKind::kSnapshot, 3);
  Members group_then = group(3);
  group_then.put(learner(8));
  message.snapshot = mark_at(40, 2, group_then);
  message.to = kSelf;
  core().step(now_, message);
  const Output out = take();
  ASSERT_TRUE(out.restore);
  EXPECT_EQ(out.restore->index, 40U);
  ASSERT_THAT(out.writes, SizeIs(1));
  EXPECT_TRUE(out.writes[0].install);
  EXPECT_THAT(out.messages, IsEmpty());
  EXPECT_NE(core().members().find({8}), nullptr);  // the group as of the snapshot
  EXPECT_EQ(core().log().first(), 41U);
  flush();
  const auto sent = messages();
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_EQ(sent[0].index, 40U);
}

TEST_F(RaftMembers, ARepeatedOrOlderSnapshotChangesNothing_B42) {
  start(3, {.hard_state = {.term = 2, .vote = {}},
            .snapshot = mark_at(40, 2, group(3)),
            .entries = {data(41, 2)}});
  for (const Index index : {Index{40}, Index{30}}) {
    Message message = from(2, MessageKind::kSnapshot, 3);
    message.snapshot = mark_at(index, 2, group(3));
    const auto sent = step(message);
    ASSERT_THAT(sent, SizeIs(1));
    EXPECT_EQ(sent[0].index, 40U);
    EXPECT_EQ(core().log().last(), 41U);
  }
}

TEST_F(RaftMembers, ASnapshotOfWhatTheLogHasOnlyCommits) {
  start(3, {.hard_state = {.term = 1, .vote = {}}, .snapshot = {}, .entries = log_of({1, 1, 1})});
  Message message = from(2, MessageKind::kSnapshot, 2);
  message.snapshot = mark_at(2, 1, group(3));
  step(message);
  EXPECT_EQ(core().commit(), 2U);
  EXPECT_EQ(core().log().last(), 3U);
}

TEST_F(RaftMembers, NobodyCampaignsWhileASnapshotIsBeingInstalled_B13) {  // rule 9
  held_ = true;
  start(3);
  Message message = from(2, MessageKind::kSnapshot, 2);
  message.snapshot = mark_at(10, 1, group(3));
  step(message);
  elapse(5 * tuning_.election_min);
  core().tick(now_);
  EXPECT_EQ(core().role(), Role::kFollower);
  flush();
  elapse(5 * tuning_.election_min);
  core().tick(now_);
  EXPECT_EQ(core().role(), Role::kPreCandidate);
}

TEST_F(RaftMembers, ARestartBeginsAtTheSnapshot_B14) {
  start(3, {.hard_state = {.term = 2, .vote = {}},
            .snapshot = mark_at(40, 2, group(3)),
            .entries = {data(41, 2), data(42, 2)}});
  EXPECT_EQ(core().commit(), 40U);
  EXPECT_EQ(core().applied_index(), 40U);
  EXPECT_EQ(core().log().first(), 41U);
  EXPECT_EQ(core().log().last(), 42U);
}

TEST_F(RaftMembers, AMemberBehindTheLogGetsASnapshotAndThenTheRest) {  // rule 18
  start(3);
  lead_surely();
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(core().propose(now_, "x"));
    messages();
    step(ack(2, core().term(), core().log().last()));
  }
  // The third has fallen silent; the log moves on without it.
  const Index last = core().log().last();
  core().compacted(mark_at(last, core().term(), group(3)), last);
  Message refusal = ack(3, core().term(), 0);
  refusal.reject = true;
  refusal.prev_index = core().progress({3})->next() - 1;
  auto sent = only(step(refusal), MessageKind::kSnapshot);
  if (sent.empty()) {
    refusal.prev_index = core().progress({3})->next() - 1;
    sent = only(step(refusal), MessageKind::kSnapshot);
  }
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_EQ(sent[0].snapshot.index, last);
  EXPECT_EQ(core().progress({3})->state(), Progress::State::kSnapshot);
  ASSERT_TRUE(core().propose(now_, "y"));
  messages();
  // Its acknowledgement was lost; what its heartbeats say lets the log go on.
  Message beat = from(3, MessageKind::kHeartbeatReply, core().term());
  beat.index = last;
  EXPECT_THAT(only(step(beat), MessageKind::kAppend), SizeIs(1));
}

TEST_F(RaftMembers, AFailedSnapshotIsSentAgainWhenTheMemberIsHeardOf) {
  start(3);
  lead_surely();
  const Index last = core().log().last();
  core().compacted(mark_at(last, core().term(), group(3)), last + 1);
  Members next = core().members();
  next.put(learner(4));
  ASSERT_TRUE(core().propose_members(now_, next));
  messages();
  Message refusal = ack(4, core().term(), 0);
  refusal.reject = true;
  refusal.prev_index = core().progress({4})->next() - 1;
  ASSERT_THAT(only(step(refusal), MessageKind::kSnapshot), SizeIs(1));
  core().snapshot_failed(now_, {4});
  EXPECT_THAT(messages(), IsEmpty());
  EXPECT_THAT(
      only(step(from(4, MessageKind::kHeartbeatReply, core().term())), MessageKind::kSnapshot),
      SizeIs(1));
}

// ---------------------------------------------------------------- reads

TEST_F(RaftMembers, AReadWaitsForAnEntryOfTheOwnTermAndForAQuorum_B17_B19) {
  start(3);
  lead();
  ASSERT_TRUE(core().read(now_));
  EXPECT_THAT(messages(), IsEmpty());
  const auto beats =
      only(step(ack(2, core().term(), core().log().last())), MessageKind::kHeartbeat);
  ASSERT_THAT(beats, SizeIs(2));
  EXPECT_THAT(reads_, IsEmpty());
  Message answer = from(3, MessageKind::kHeartbeatReply, core().term());
  answer.read_round = beats[0].read_round;
  step(answer);
  ASSERT_THAT(reads_, SizeIs(1));
  EXPECT_EQ(reads_[0].index, core().commit());
}

TEST_F(RaftMembers, AnOldHeartbeatAnswerConfirmsNoLaterRead_B18) {
  start(3);
  lead_surely();
  ASSERT_TRUE(core().read(now_));
  const auto first = only(messages(), MessageKind::kHeartbeat);
  Message answer = from(2, MessageKind::kHeartbeatReply, core().term());
  answer.read_round = first.at(0).read_round;
  step(answer);
  ASSERT_THAT(reads_, SizeIs(1));
  ASSERT_TRUE(core().read(now_));
  messages();
  step(answer);
  EXPECT_THAT(reads_, SizeIs(1));
}

TEST_F(RaftMembers, ReadsAreRefusedWhenLeadershipEnds) {
  start(3);
  lead_surely();
  ASSERT_TRUE(core().read(now_));
  messages();
  step(from(2, MessageKind::kHeartbeat, core().term() + 1));
  ASSERT_THAT(reads_, SizeIs(1));
  EXPECT_EQ(reads_[0].index, 0U);
}

TEST_F(RaftMembers, AReadUnderWayIsAnsweredWhenTheOtherVotersAreTakenOut) {
  start(2);
  lead_surely();
  const auto ticket = core().read(now_);
  ASSERT_TRUE(ticket);
  messages();
  ASSERT_THAT(reads_, IsEmpty());
  const auto later = core().read(now_);  // waits for the round
  ASSERT_TRUE(later);
  Members alone = core().members();
  alone.remove({2});
  ASSERT_TRUE(core().propose_members(now_, alone));
  messages();
  messages();
  ASSERT_THAT(reads_, SizeIs(2));
  EXPECT_EQ(reads_[0].ticket, *ticket);
  EXPECT_EQ(reads_[1].ticket, *later);
  EXPECT_GT(reads_[0].index, 0U);
}

// ---------------------------------------------------------------- handing over

TEST_F(RaftMembers, HandingOverWaitsForTheLogAndHoldsUpProposals) {
  start(3);
  lead_surely();
  ASSERT_TRUE(core().propose(now_, "x"));
  messages();
  ASSERT_TRUE(core().transfer_to(now_, {2}).ok());
  EXPECT_THAT(only(messages(), MessageKind::kTimeoutNow), IsEmpty());
  EXPECT_EQ(core().propose(now_, "y").error().reason(), "transferring");
  EXPECT_THAT(only(step(ack(2, core().term(), core().log().last())), MessageKind::kTimeoutNow),
              SizeIs(1));
}

TEST_F(RaftMembers, HandingOverWaitsForTheCommitUnlessItIsAskedForAtOnce) {
  for (const auto how : {Core::Handover::kCommitted, Core::Handover::kAtOnce}) {
    SCOPED_TRACE(static_cast<int>(how));
    held_ = false;
    tokens_.clear();
    start(3);
    lead_surely();
    held_ = true;
    ASSERT_TRUE(core().propose(now_, "x"));
    messages();
    // The target has all of it, and without this member's disk nobody else.
    step(ack(2, core().term(), core().log().last()));
    ASSERT_LT(core().commit(), core().log().last());
    ASSERT_TRUE(core().transfer_to(now_, {2}, how).ok());
    const bool at_once = how == Core::Handover::kAtOnce;
    EXPECT_THAT(only(messages(), MessageKind::kTimeoutNow), SizeIs(at_once ? 1 : 0));
    flush();
    EXPECT_EQ(core().commit(), core().log().last());
    EXPECT_THAT(only(messages(), MessageKind::kTimeoutNow), SizeIs(1));
  }
}

TEST_F(RaftMembers, HandingOverToADeadMemberEndsAfterAnElectionTimeOut_B29) {
  start(3);
  lead_surely();
  ASSERT_TRUE(core().propose(now_, "x"));
  messages();
  ASSERT_TRUE(core().transfer_to(now_, {3}).ok());
  for (Duration passed{0}; passed < tuning_.election_min; passed += tuning_.heartbeat) {
    elapse(tuning_.heartbeat);
    core().tick(now_);
    messages();
    step(from(2, MessageKind::kHeartbeatReply, core().term()));
  }
  EXPECT_FALSE(core().transferring());
  EXPECT_TRUE(core().propose(now_, "y"));
}

TEST_F(RaftMembers, WhoIsToldToTakeOverCampaignsAtOnceAndAgainstTheLease) {
  start(3);
  step(from(2, MessageKind::kHeartbeat, 1));
  const auto sent = step(from(2, MessageKind::kTimeoutNow, 1));
  const auto requests = only(sent, MessageKind::kVote);
  ASSERT_THAT(requests, SizeIs(2));
  EXPECT_TRUE(requests[0].transfer);
  EXPECT_EQ(requests[0].term, 2U);
}

}  // namespace
}  // namespace muster::raft
