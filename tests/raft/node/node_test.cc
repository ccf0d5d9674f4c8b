// The driver in virtual time: real core, simulated disk and network.
#include "tests/raft/node/node_group.h"

namespace muster::raft {
namespace {

using testing::ElementsAre;

// ---------------------------------------------------------------- a group of one

TEST_F(NodeGroup, AFounderLeadsAfterTwoWritesAndNoTimeOut) {
  start(1, StartMode::kFound);
  EXPECT_EQ(await_leader(20ms), 1U);
  EXPECT_THAT(machine(1).trace, ElementsAre("lead"));
  const GroupView view = node(1).view();
  EXPECT_TRUE(view.leads);
  EXPECT_EQ(view.leader, id_of(1));
  EXPECT_EQ(view.commit, 1U) << "the founders are the first entry";
}

TEST_F(NodeGroup, ALoneVoterLeadsAtOnceAfterARestartAndHasEverything) {
  found(1);
  write("a");
  write("b");
  kill(1);
  restart(1);
  EXPECT_EQ(await_leader(20ms), 1U);
  EXPECT_THAT(machine(1).trace, ElementsAre("apply a", "apply b", "lead"));
}

TEST_F(NodeGroup, OwnProposalsAreAnsweredInTheOrderOfTheLogAndNeverApplied) {
  found(1);
  std::vector<std::shared_ptr<Answer>> answers;
  for (const char* text : {"a", "b", "c"}) answers.push_back(propose(1, text));
  for (const auto& answer : answers) EXPECT_EQ(outcome(answer), Outcome::kCommitted);
  EXPECT_LT(answers[0]->result->index, answers[1]->result->index);
  EXPECT_THAT(machine(1).trace, ElementsAre("lead", "committed a", "committed b", "committed c"));
}

TEST_F(NodeGroup, AProposalOfAnotherTermIsRejected) {
  found(1);
  std::optional<ProposeResult> result;
  node(1).propose(machine(1).leading + 1, "x", [&](ProposeResult r) { result = std::move(r); });
  EXPECT_FALSE(result) << "never from inside propose()";
  world.settle();
  ASSERT_TRUE(result);
  EXPECT_EQ(result->outcome, Outcome::kRejected);
  EXPECT_EQ(result->why.reason(), "not-leader");
}

TEST_F(NodeGroup, TooManyAndTooLargeProposalsAreRejected_B36) {
  options.proposals_max = 2;
  options.tuning.proposal_bytes_max = 10;
  found(1);
  member(1).weather.stuck = true;
  const auto first = propose(1, "a");
  const auto second = propose(1, "b");
  EXPECT_EQ(outcome(propose(1, "c")), Outcome::kRejected);
  member(1).weather.stuck = false;
  EXPECT_EQ(outcome(first), Outcome::kCommitted);
  EXPECT_EQ(outcome(second), Outcome::kCommitted);
  const auto large = propose(1, std::string(11, 'x'));
  EXPECT_EQ(outcome(large), Outcome::kRejected);
  EXPECT_EQ(large->result->why.reason(), "too-large");
  write("after");
}

// ---------------------------------------------------------------- several members

TEST_F(NodeGroup, FollowersApplyWhatTheLeaderCommits) {
  found(3);
  for (int i = 0; i < 20; ++i) write(fmt::format("{}", i));
  EXPECT_TRUE(await([&] { return all_equal(); }));
  EXPECT_EQ(machine(2).list.size(), 20U);
}

TEST_F(NodeGroup, AKilledLeaderIsReplacedWithinAFractionOfTheTimeOut) {
  found(3);
  write("a");
  kill(1);
  const TimePoint killed = world.now();
  ASSERT_NE(await_leader(), 0U);
  EXPECT_LT(world.now() - killed, Duration(300ms));
  write("b");
  restart(1);
  EXPECT_TRUE(await([&] { return all_equal(); }));
}

TEST_F(NodeGroup, LostLeadershipIsTheEndOfProposalsWhateverBecomesOfThem) {
  found(3);
  network.isolate(id_of(1));
  const auto lost = propose(1, "lost");
  EXPECT_EQ(outcome(lost, 3s), Outcome::kUnknown);
  EXPECT_EQ(machine(1).leading, 0U);
  write("kept");
  network.mend_all();
  EXPECT_TRUE(await([&] { return all_equal(); }));
  EXPECT_THAT(machine(1).list, ElementsAre("kept"));
  // The answer, the end, and then the other leader's entries.
  EXPECT_THAT(machine(1).trace, ElementsAre("lead", "unknown lost", "end", "apply kept"));
}

TEST_F(NodeGroup, AnUnknownProposalThatWasCommittedIsApplied) {
  found(3);
  // Entries arrive, acknowledgements do not come back.
  for (const uint64_t other : {2, 3}) network.cut(id_of(other), id_of(1));
  const auto proposal = propose(1, "survives");
  EXPECT_EQ(outcome(proposal, 3s), Outcome::kUnknown);
  ASSERT_TRUE(await([&] { return leader() != 0 && leader() != 1; }));
  network.mend_all();
  EXPECT_TRUE(await([&] { return all_equal(); }));
  EXPECT_THAT(machine(1).list, ElementsAre("survives"));
  EXPECT_THAT(machine(1).trace, ElementsAre("lead", "unknown survives", "end", "apply survives"));
}

TEST_F(NodeGroup, LeadingBeginsOnlyWhenEverythingOfBeforeIsApplied) {
  found(3);
  for (int i = 0; i < 50; ++i) write(fmt::format("{}", i));
  kill(1);
  const uint64_t next = await_leader();
  ASSERT_NE(next, 0U);
  EXPECT_EQ(machine(next).list.size(), 50U);
  EXPECT_EQ(machine(next).trace.back(), "lead");
}

TEST_F(NodeGroup, ADeadlineEndsAProposalThatGetsNoQuorum_B38) {
  found(1);
  member(1).weather.stuck = true;
  const auto proposal = propose(1, "a");
  const TimePoint asked = world.now();
  EXPECT_EQ(outcome(proposal), Outcome::kUnknown);
  EXPECT_LE(world.now() - asked, options.deadline + Duration(10ms));
  EXPECT_EQ(machine(1).leading, 0U);
  member(1).weather.stuck = false;
  EXPECT_EQ(await_leader(), 1U) << "again, when the disk answers";
  EXPECT_THAT(machine(1).trace, ElementsAre("lead", "unknown a", "end", "apply a", "lead"));
}

TEST_F(NodeGroup, ALeaderWhoseDiskDoesNotAnswerHandsOver_B37) {
  found(3);
  member(1).weather.stuck = true;
  const auto proposal = propose(1, "a");  // the others are a quorum
  EXPECT_EQ(outcome(proposal), Outcome::kCommitted);
  ASSERT_TRUE(await([&] { return leader() > 1; }, options.disk_silence_max + Duration(1s)));
  write("b");
  // It does not try to come back before its disk does.
  const Term term = node(2).view().term;
  world.advance(20s);
  EXPECT_EQ(node(2).view().term, term);
  member(1).weather.stuck = false;
  EXPECT_TRUE(await([&] { return all_equal(); }));
}

TEST_F(NodeGroup, ALeaderWhoseUserDoesNotAnswerHandsOver_B37) {
  found(3);
  member(1).life->user_strand.pause();
  const auto other_leads = [&] { return machine(2).leading != 0 || machine(3).leading != 0; };
  ASSERT_TRUE(await(other_leads, options.user_silence_max + Duration(2s)));
  member(1).life->user_strand.resume();
  EXPECT_TRUE(await([&] { return leader() > 1; }));
  write("b");
  EXPECT_TRUE(await([&] { return all_equal(); }));
}

TEST_F(NodeGroup, AMemberWhoseUserDoesNotAnswerDoesNotTakeOver) {
  found(3);
  member(3).life->user_strand.pause();
  world.advance(options.user_silence_max + Duration(2s));
  const Status refused = done([&](auto d) { node(1).transfer_leadership(id_of(3), std::move(d)); });
  EXPECT_EQ(refused.reason(), "transfer-failed");
  EXPECT_EQ(leader(), 1U);
  member(3).life->user_strand.resume();
  world.advance(100ms);
  EXPECT_TRUE(done([&](auto d) { node(1).transfer_leadership(id_of(3), std::move(d)); }).ok());
}

TEST_F(NodeGroup, TooManyReadsAreRejected) {
  options.proposals_max = 2;
  found(3);
  network.isolate(id_of(1));
  std::vector<std::string> reasons;
  for (int i = 0; i < 3; ++i) {
    node(1).read_barrier([&](const Result<Index>& r) { reasons.push_back(r.error().reason()); });
  }
  world.settle();
  EXPECT_THAT(reasons, ElementsAre("overloaded"));
  EXPECT_TRUE(await([&] { return reasons.size() == 3; }));
}

TEST_F(NodeGroup, AReadSaysWhatItWaitedFor) {
  options.user_silence_max = 60s;
  found(3);
  const auto read = [&](std::optional<Result<Index>>& answer) {
    node(1).read_barrier([&](Result<Index> r) { answer = std::move(r); });
  };
  // Committed, and the user does not get to it.
  (void)propose(1, "a");
  member(1).life->user_strand.pause();
  world.advance(50ms);
  std::optional<Result<Index>> late;
  member(1).life->raft_strand.post([&] { read(late); });
  world.advance(options.deadline + Duration(1s));
  member(1).life->user_strand.resume();
  ASSERT_TRUE(await([&] { return late.has_value(); }, 1s));
  ASSERT_FALSE(late->has_value());
  EXPECT_EQ(late->error().code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(late->error().message(), testing::HasSubstr("state"));
}

TEST_F(NodeGroup, OneBrokenLinkChangesNothingWhileTheLeaderLives) {
  found(3);
  const Term term = node(1).view().term;
  member(2).life->node.transport_events().vanished(id_of(1));
  world.advance(3s);
  EXPECT_EQ(node(1).view().term, term);
  EXPECT_EQ(leader(), 1U);
}

// ---------------------------------------------------------------- the group

TEST_F(NodeGroup, OnlyTheLeaderChangesTheGroup) {
  found(2);
  EXPECT_EQ(done([&](auto d) { node(2).remove(id_of(1), std::move(d)); }).reason(), "not-leader");
}

TEST_F(NodeGroup, RepeatingAChangeIsHarmless_B39) {
  found(2);
  const Member second = member(2).self;
  EXPECT_TRUE(done([&](auto d) { node(1).promote(second.id, std::move(d)); }).ok());
  EXPECT_TRUE(done([&](auto d) { node(1).add_learner(second, std::move(d)); }).ok());
  EXPECT_TRUE(node(1).view().find(second.id)->member.voter) << "it is no learner again";
  EXPECT_TRUE(done([&](auto d) { node(1).remove(id_of(9), std::move(d)); }).ok());
}

TEST_F(NodeGroup, TwoJoinsAtOnceEndInOrder_B39) {
  found(1);
  start(2, StartMode::kJoin, known_members());
  start(3, StartMode::kJoin, known_members());
  std::vector<Status> results;
  for (const uint64_t number : {2, 3}) {
    node(1).add_learner(member(number).self, [&](Status s) { results.push_back(std::move(s)); });
  }
  ASSERT_TRUE(await([&] { return results.size() == 2; }));
  EXPECT_EQ(results[0].reason(), "change-pending") << "refused at once";
  EXPECT_TRUE(results[1].ok());
  EXPECT_TRUE(done([&](auto d) { node(1).add_learner(member(3).self, std::move(d)); }).ok());
  EXPECT_TRUE(await([&] { return all_equal() && node(3).view().find(id_of(3)) != nullptr; }));
}

TEST_F(NodeGroup, ALearnerThatIsNotThereIsNotPromoted) {
  found(1);
  Member ghost{.id = id_of(9), .node_id = "ghost", .address = "192.0.2.9:2377"};
  EXPECT_TRUE(done([&](auto d) { node(1).add_learner(ghost, std::move(d)); }).ok());
  world.advance(3s);
  const Status status = done([&](auto d) { node(1).promote(ghost.id, std::move(d)); });
  EXPECT_EQ(status.reason(), "not-caught-up");
  write("still writing");
}

TEST_F(NodeGroup, ANewAddressIsTakenOver) {
  found(2);
  Member moved = member(2).self;
  moved.address = "192.0.2.222:2377";
  EXPECT_TRUE(done([&](auto d) { node(1).add_learner(moved, std::move(d)); }).ok());
  EXPECT_EQ(node(1).view().find(id_of(2))->member.address, moved.address);
  EXPECT_TRUE(node(1).view().find(id_of(2))->member.voter);
}

TEST_F(NodeGroup, ALeaderRemovesItselfAndIsToldSo) {
  found(3);
  EXPECT_TRUE(done([&](auto d) { node(1).remove(id_of(1), std::move(d)); }).ok());
  ASSERT_TRUE(await([&] { return leader() > 1; }));
  EXPECT_EQ(machine(1).removals, 1);
  EXPECT_EQ(node(leader()).view().members.size(), 2U);
}

TEST_F(NodeGroup, ARemovedFollowerIsToldOnce) {
  found(3);
  EXPECT_TRUE(done([&](auto d) { node(1).remove(id_of(3), std::move(d)); }).ok());
  node(3).transport_events().removed(id_of(1));
  node(3).transport_events().removed(id_of(1));
  world.advance(10s);
  EXPECT_EQ(machine(3).removals, 1);
  EXPECT_EQ(leader(), 1U);
}

// Member 2 led until a moment ago and did not hear that 3 was taken in.
TEST_F(NodeGroup, NobodyIsRemovedByTheWordOfAnotherThanItsLeader) {
  found(3);
  node(3).transport_events().removed(id_of(2));
  node(1).transport_events().removed(id_of(2));
  world.advance(1s);
  EXPECT_EQ(machine(3).removals + machine(1).removals, 0);
  EXPECT_EQ(leader(), 1U);
  // With no leader there is nobody who knows better.
  kill(1);
  kill(2);
  world.advance(10s);
  node(3).transport_events().removed(id_of(2));
  world.advance(1s);
  EXPECT_EQ(machine(3).removals, 1);
}

TEST_F(NodeGroup, AJoinerIsNotToldThatItWasRemovedByGroupsOfThePast) {
  found(3);
  for (int i = 0; i < 10; ++i) write(fmt::format("{}", i));
  start(4, StartMode::kJoin, known_members());
  EXPECT_TRUE(done([&](auto d) { node(1).add_learner(member(4).self, std::move(d)); }).ok());
  EXPECT_TRUE(await([&] { return all_equal(); }));
  EXPECT_EQ(machine(4).removals, 0);
}

TEST_F(NodeGroup, LeadershipIsHandedOverOnRequest) {
  found(3);
  EXPECT_TRUE(done([&](auto d) { node(1).transfer_leadership(id_of(3), std::move(d)); }).ok());
  ASSERT_TRUE(await([&] { return leader() == 3; }));
  write("a");
}

TEST_F(NodeGroup, HandingOverToADeadMemberFailsAndWritesGoOn_B29) {
  found(3);
  kill(3);
  const Status status = done([&](auto d) { node(1).transfer_leadership(id_of(3), std::move(d)); });
  EXPECT_EQ(status.reason(), "transfer-failed");
  write("a");
  EXPECT_EQ(leader(), 1U);
}

TEST_F(NodeGroup, AReadWaitsForWhatWasAcknowledgedAndForTheQuorum) {
  found(3);
  write("a");
  std::optional<Result<Index>> read;
  node(1).read_barrier([&](Result<Index> r) { read = std::move(r); });
  EXPECT_TRUE(await([&] { return read.has_value(); }));
  ASSERT_TRUE(read->has_value());
  EXPECT_GE(**read, machine(1).last);

  read.reset();
  network.isolate(id_of(1));
  node(1).read_barrier([&](Result<Index> r) { read = std::move(r); });
  EXPECT_TRUE(await([&] { return read.has_value(); }));
  EXPECT_EQ(read->error().reason(), "not-leader");

  read.reset();
  node(2).read_barrier([&](Result<Index> r) { read = std::move(r); });
  EXPECT_TRUE(await([&] { return read.has_value(); }));
}

TEST_F(NodeGroup, TheUserHearsOfChangesOfTheGroup) {
  found(2);
  const int before = machine(1).group_changes;
  kill(2);
  EXPECT_TRUE(await([&] { return machine(1).group_changes > before; }));
}

TEST_F(NodeGroup, TheGroupDecidesHowPatientItIs) {
  found(3);
  const Node::Settings patient{.heartbeat = 2s, .election_min = 20s};
  for (const uint64_t i : {1, 2, 3}) node(i).configure(patient);
  world.advance(5s);  // the deadlines of before are over
  const uint64_t leading = await_leader();
  ASSERT_NE(leading, 0U);
  const Term term = node(leading).view().term;
  network.isolate(id_of(leading));
  const TimePoint cut = world.now();
  EXPECT_TRUE(await(
      [&] {
        const uint64_t other = leading % 3 + 1;
        return node(other).view().term > term;
      },
      60s));
  EXPECT_GT(world.now() - cut, Duration(15s));
}

// ---------------------------------------------------------------- restarts and disasters

TEST_F(NodeGroup, TheWholeGroupRestartsWithItsTails_B43) {
  found(3);
  for (int i = 0; i < 10; ++i) write(fmt::format("{}", i));
  network.isolate(id_of(1));
  (void)propose(1, "only here");
  world.advance(10ms);
  for (const uint64_t number : {1, 2, 3}) kill(number);
  network.mend_all();
  for (const uint64_t number : {1, 2, 3}) restart(number);
  ASSERT_NE(await_leader(), 0U);
  write("after");
  EXPECT_TRUE(await([&] { return all_equal(); }));
  EXPECT_THAT(machine(1).list, testing::IsSupersetOf({"0", "9", "after"}));
  for (const uint64_t number : {1, 2, 3}) {
    EXPECT_FALSE(node(number).view().behind) << "also where a tail was replaced";
  }
}

TEST_F(NodeGroup, WhoWasRestartedIsBehindUntilItsStateIsWhatItWas) {
  found(3);
  for (int i = 0; i < 10; ++i) write(fmt::format("{}", i));
  ASSERT_TRUE(await([&] { return all_equal(); }));
  for (const uint64_t number : {1, 2, 3}) kill(number);
  for (const uint64_t number : {1, 2, 3}) restart(number);
  const auto behind = [&] {
    int count = 0;
    for (const uint64_t number : {1, 2, 3}) {
      const bool lacks = machine(number).list.size() < 10;
      EXPECT_EQ(node(number).view().behind, lacks) << number;
      count += lacks ? 1 : 0;
    }
    return count;
  };
  EXPECT_EQ(behind(), 3);
  EXPECT_TRUE(await([&] { return behind() == 0; }));
  // The others lead on meanwhile.
  kill(2);
  write("more");
  restart(2);
  EXPECT_TRUE(node(2).view().behind);
  EXPECT_TRUE(await([&] { return !node(2).view().behind && all_equal(); }));
}

TEST_F(NodeGroup, AcknowledgementsWaitForTheDisk_B08) {
  found(3);
  member(2).weather.stuck = true;
  member(3).weather.stuck = true;
  const auto proposal = propose(1, "a");
  world.advance(500ms);
  EXPECT_FALSE(proposal->result) << "nobody else has it on disk";
  kill(2);
  kill(3);
  for (const uint64_t number : {2, 3}) {
    EXPECT_EQ(member(number).image.log.last(), member(1).image.log.last() - 1);
  }
}

TEST_F(NodeGroup, ALateWordOfTheDiskConfirmsNothingThatWasReplaced_B09) {
  found(3);
  // The leader's own entries wait for its disk, and are replaced meanwhile.
  member(1).weather.stuck = true;
  network.isolate(id_of(1));
  (void)propose(1, "replaced");
  ASSERT_TRUE(await([&] { return leader() > 1; }));
  write("instead");
  network.mend_all();
  world.advance(1s);
  member(1).weather.stuck = false;
  EXPECT_TRUE(await([&] { return all_equal(); }));
  EXPECT_THAT(machine(1).list, ElementsAre("instead"));
}

TEST_F(NodeGroup, OneSurvivorGoesOnAloneWithEverything) {
  found(3);
  for (int i = 0; i < 10; ++i) write(fmt::format("{}", i));
  ASSERT_TRUE(await([&] { return all_equal(); }));
  for (const uint64_t number : {1, 2, 3}) kill(number);
  Restored restored = member(2).image.restored();
  const Write step = force_new_group(restored, member(2).self);
  ASSERT_TRUE(member(2).image.log.write(step));
  restart(2);
  EXPECT_EQ(await_leader(1s), 2U);
  EXPECT_EQ(machine(2).list.size(), 10U);
  EXPECT_EQ(node(2).view().members.size(), 1U);
  EXPECT_EQ(machine(2).removals, 0);
  write("alone");
  restart(1);
  world.advance(10s);
  EXPECT_EQ(leader(), 2U) << "a member of the old group does not disturb it";
  write("still");
}

}  // namespace
}  // namespace muster::raft
