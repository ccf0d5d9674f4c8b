// The log: sections 5.3 and 5.4.2 of the Raft paper, acknowledgements and the disk, flow control.
#include <limits>

#include "tests/raft/core/one_core.h"

namespace muster::raft {
namespace {

using ::testing::Each;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using RaftReplication = OneCore;

TEST_F(RaftReplication, AFollowerRefusesWhatDoesNotFollowItsLog_B12) {
  start(3, {.hard_state = {.term = 1, .vote = {}}, .snapshot = {}, .entries = log_of({1, 1})});
  const auto sent = step(append(2, 1, 3, 1, {data(4, 1)}));
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_TRUE(sent[0].reject);
  EXPECT_EQ(sent[0].prev_index, 3U);
  EXPECT_EQ(sent[0].index, 2U);
  EXPECT_EQ(sent[0].hint_term, 1U);
  // Entries that do not follow each other are no message at all.
  EXPECT_THAT(step(append(2, 1, 2, 1, {data(4, 1)})), IsEmpty());
}

TEST_F(RaftReplication, AnOldAppendDoesNotCutWhatCameAfterIt_B03) {
  start(3);
  step(append(2, 1, 0, 0, log_of({1, 1, 1})));
  const auto sent = step(append(2, 1, 0, 0, log_of({1})));
  EXPECT_EQ(core().log().last(), 3U);
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_EQ(sent[0].index, 1U);  // B04: no more than what the message covered
}

TEST_F(RaftReplication, AConflictReplacesTheEndOfTheLog) {
  start(3,
        {.hard_state = {.term = 2, .vote = {}}, .snapshot = {}, .entries = log_of({1, 1, 2, 2})});
  step(append(2, 3, 2, 1, {data(3, 3)}));
  EXPECT_EQ(core().log().last(), 3U);
  EXPECT_EQ(core().log().last_term(), 3U);
}

TEST_F(RaftReplication, AFollowerCommitsNoMoreThanTheMessageCovers_B04) {
  start(3, {.hard_state = {.term = 1, .vote = {}}, .snapshot = {}, .entries = log_of({1, 1, 1})});
  step(append(2, 2, 1, 1, {}, 3));
  EXPECT_EQ(core().commit(), 1U);
}

TEST_F(RaftReplication, AnAcknowledgementWaitsForTheDisk_B08) {
  held_ = true;
  start(3);
  EXPECT_THAT(step(append(2, 1, 0, 0, log_of({1, 1}))), IsEmpty());
  // The same again while it is being written: nothing new to store, and nothing to promise yet.
  EXPECT_THAT(step(append(2, 1, 0, 0, log_of({1, 1}))), IsEmpty());
  flush();
  const auto sent = messages();
  ASSERT_THAT(sent, SizeIs(2));
  EXPECT_EQ(sent[0].index, 2U);
  EXPECT_EQ(sent[1].index, 2U);
}

TEST_F(RaftReplication, ALateWordOfTheDiskIsNotTakenForWhatReplacedTheEntries_B09) {
  held_ = true;
  start(3);
  step(append(2, 1, 0, 0, log_of({1, 1, 1})));
  const uint64_t first = tokens_.back();
  step(append(3, 2, 1, 1, {data(2, 2), data(3, 2)}));
  core().written(now_, first);
  EXPECT_EQ(core().durable(), 1U);
  EXPECT_THAT(messages(), IsEmpty());  // and what was promised in term 1 is not sent any more
  flush();
  EXPECT_EQ(core().durable(), 3U);
}

TEST_F(RaftReplication, OnlyEntriesOfItsOwnTermAreCommittedByCounting_B01) {  // figure 8
  start(5, {.hard_state = {.term = 3, .vote = {}}, .snapshot = {}, .entries = log_of({1, 2})});
  lead();
  step(ack(2, core().term(), 2));
  step(ack(3, core().term(), 2));
  EXPECT_EQ(core().commit(), 0U);
  step(ack(2, core().term(), 3));
  step(ack(3, core().term(), 3));
  EXPECT_EQ(core().commit(), 3U);
}

TEST_F(RaftReplication, ARefusalCommitsNothing_B02) {
  start(3);
  lead();
  Message refusal = ack(2, core().term(), 1);
  refusal.reject = true;
  refusal.prev_index = 1;
  step(refusal);
  EXPECT_EQ(core().commit(), 0U);
}

TEST_F(RaftReplication, TheLeadersOwnDiskCountsLikeAnyOther) {
  held_ = true;
  start(3);
  elapse(2 * tuning_.election_min);
  core().tick(now_);
  messages();
  step(from(2, MessageKind::kPreVoteReply, 1));
  flush();
  messages();
  step(from(2, MessageKind::kVoteReply, 1));
  ASSERT_EQ(core().role(), Role::kLeader);
  flush();
  ASSERT_TRUE(core().propose(now_, "a"));
  messages();
  step(ack(2, 1, 2));
  EXPECT_LT(core().commit(), 2U);  // one disk of three
  step(ack(3, 1, 2));
  EXPECT_EQ(core().commit(), 2U);  // two others are a majority without ours
}

TEST_F(RaftReplication, HeartbeatsSayNoMoreIsCommittedThanTheReceiverHas_B45) {
  start(3);
  lead();
  ASSERT_TRUE(core().propose(now_, "a"));
  messages();
  step(ack(2, core().term(), 2));
  EXPECT_EQ(core().commit(), 2U);
  elapse(tuning_.heartbeat);
  core().tick(now_);
  for (const Message& message : only(messages(), MessageKind::kHeartbeat)) {
    EXPECT_EQ(message.commit, message.to == MemberId{2} ? 2U : 0U);
  }
}

TEST_F(RaftReplication, ADivergentTailCostsOneRoundATerm_B41) {  // rule 15
  // The follower has a long tail of terms 2 and 3 where the leader has one of term 4.
  std::vector<Term> theirs(50, 1);
  theirs.resize(100, 2);
  theirs.resize(200, 3);
  std::vector<Term> ours(50, 1);
  ours.resize(150, 4);
  start(3, {.hard_state = {.term = 4, .vote = {}}, .snapshot = {}, .entries = log_of(ours)});
  lead();
  SeededRng rng(3);
  Core follower(tuning_, {2},
                {.hard_state = {.term = 3, .vote = {}}, .snapshot = {}, .entries = log_of(theirs)},
                group(3), rng, now_);
  int rounds = 0;
  elapse(tuning_.heartbeat);
  core().tick(now_);
  std::vector<Message> to_follower = messages();
  while (core().progress({2})->match() < core().log().last()) {
    ASSERT_LT(++rounds, 12);
    std::vector<Message> back;
    for (Message& message : to_follower) {
      if (message.to == MemberId{2}) follower.step(now_, std::move(message));
    }
    while (follower.has_output()) {
      Output out = follower.take();
      for (const Write& write : out.writes) follower.written(now_, write.token);
      if (!out.apply.empty()) follower.applied(now_, out.apply.back().index);
      back.insert(back.end(), out.messages.begin(), out.messages.end());
    }
    to_follower.clear();
    for (Message& message : back) {
      for (Message& next : step(std::move(message))) to_follower.push_back(std::move(next));
    }
  }
  EXPECT_EQ(follower.log().last(), core().log().last());
}

// Its disk has lost what was synced. Each answer at once would be one more message on its way for
// ever.
TEST_F(RaftReplication, WhoRejectsWhatItAcknowledgedIsAskedAgainWithHeartbeatsAlone) {
  start(3);
  lead();
  ASSERT_TRUE(core().propose(now_, "a"));
  messages();
  step(ack(2, core().term(), 2));
  ASSERT_TRUE(core().propose(now_, "b"));
  messages();
  core().unreachable({2});
  Message rejection = from(2, MessageKind::kAppendReply, core().term());
  rejection.reject = true;
  rejection.prev_index = 2;
  rejection.index = 1;
  rejection.hint_term = core().term();
  for (int heartbeats = 1; heartbeats <= 4; ++heartbeats) {
    // One question for each heartbeat that it answers, whatever is repeated on the way.
    const auto asked =
        only(step(from(2, MessageKind::kHeartbeatReply, core().term())), MessageKind::kAppend);
    EXPECT_THAT(asked, SizeIs(1));
    EXPECT_THAT(step(rejection), IsEmpty());
    EXPECT_EQ(core().progress({2})->lost_acknowledged(), heartbeats >= 3);
  }
  // It was a late message after all.
  step(ack(2, core().term(), 2));
  EXPECT_FALSE(core().progress({2})->lost_acknowledged());
}

TEST_F(RaftReplication, AWindowOfMessagesAndBytesBoundsWhatIsSentAhead) {
  tuning_.window = {3, 1000};
  tuning_.append_bytes_max = 10;
  start(3);
  lead();
  step(ack(2, core().term(), 1));
  size_t sent = 0;
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(core().propose(now_, std::string(100, 'x')));
    for (const Message& m : messages()) sent += m.to == MemberId{2} && !m.entries.empty() ? 1 : 0;
  }
  EXPECT_EQ(sent, 3U);
  EXPECT_TRUE(core().progress({2})->paused(tuning_.window));
  // Acknowledged: the window moves on.
  EXPECT_THAT(only(step(ack(2, core().term(), 3)), MessageKind::kAppend), SizeIs(2));
}

TEST_F(RaftReplication, AFullWindowDoesNotKeepBackWhatIsCommitted) {  // rule 16
  tuning_.window = {1, 1000};
  start(3);
  lead();
  step(ack(2, core().term(), 1));
  step(ack(3, core().term(), 1));
  ASSERT_TRUE(core().propose(now_, "a"));
  ASSERT_TRUE(core().propose(now_, "b"));
  messages();
  step(ack(3, core().term(), 2));
  now_ = now_ + tuning_.commit_news;
  core().tick(now_);
  const auto sent = only(messages(), MessageKind::kAppend);
  const auto to_second =
      std::count_if(sent.begin(), sent.end(), [](const Message& m) { return m.to == MemberId{2}; });
  ASSERT_EQ(to_second, 1);
  for (const Message& message : sent) EXPECT_EQ(message.commit, 2U);
}

TEST_F(RaftReplication, ALostProbeIsSentAgainAfterAHeartbeat) {  // rule 17
  start(3);
  lead();
  EXPECT_THAT(
      only(step(from(2, MessageKind::kHeartbeatReply, core().term())), MessageKind::kAppend),
      SizeIs(1));
}

TEST_F(RaftReplication, WhatIsTooMuchIsRefusedAndNothingIsLost_B36) {  // rule 22
  tuning_.uncommitted_bytes_max = 100;
  tuning_.proposal_bytes_max = 500;
  start(3);
  lead();
  step(ack(2, core().term(), 1));
  EXPECT_EQ(core().propose(now_, std::string(501, 'x')).error().reason(), "too-large");
  EXPECT_TRUE(core().propose(now_, std::string(400, 'x')));  // one passes even so
  EXPECT_EQ(core().propose(now_, "x").error().reason(), "overloaded");
  messages();
  step(ack(2, core().term(), core().log().last()));
  EXPECT_EQ(core().uncommitted_bytes(), 0U);
  EXPECT_TRUE(core().propose(now_, "x"));
}

TEST_F(RaftReplication, AFollowerRefusesProposalsAndNamesTheLeader) {
  start(3);
  step(from(2, MessageKind::kHeartbeat, 1));
  const auto refused = core().propose(now_, "x");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().reason(), "not-leader");
}

TEST_F(RaftReplication, EntriesAreAppliedInOrderOneBatchAtATime) {
  tuning_.apply_bytes_max = 2;
  start(1);
  core().tick(now_);
  messages();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(core().propose(now_, "x"));
  std::vector<Index> applied;
  while (core().has_output()) {
    const Output out = take();
    for (const Entry& entry : out.apply) applied.push_back(entry.index);
  }
  EXPECT_THAT(applied, ::testing::ElementsAre(2, 3, 4, 5, 6));
}

TEST_F(RaftReplication, IndexesAtTheEndOfTheirRangeBreakNothing_B44) {
  constexpr Index kEnd = std::numeric_limits<Index>::max();
  start(3, {.hard_state = {1, {}}, .entries = log_of({1, 1})});
  for (const Index index : {kEnd, kEnd - 1}) {
    const auto answers = step(append(2, 1, index, 1, {}, kEnd));
    ASSERT_EQ(answers.size(), 1U);
    EXPECT_TRUE(answers[0].reject);
    EXPECT_LE(answers[0].index, 2U);
  }
  Message heartbeat = from(2, MessageKind::kHeartbeat, 1);
  heartbeat.commit = kEnd;
  step(heartbeat);
  EXPECT_LE(core().commit(), 2U);
  step(append(2, 1, 0, 0, log_of({1, 1}), kEnd));
  EXPECT_EQ(core().commit(), 2U);
  EXPECT_EQ(core().log().last(), 2U);

  lead();
  const Index last = core().log().last();
  Message refusal = ack(2, core().term(), kEnd);
  refusal.reject = true;
  refusal.prev_index = kEnd;
  refusal.hint_term = kEnd;
  step(refusal);
  step(ack(3, core().term(), kEnd));
  EXPECT_LE(core().commit(), last);
  EXPECT_LE(core().progress({3})->next(), kEnd);
  EXPECT_TRUE(core().propose(now_, "x"));
  messages();
}

}  // namespace
}  // namespace muster::raft
