// Faults that other implementations had and that need a whole group to show; those of one member
// are in tests/raft/core, the table of all is in docs/reliability.md.
#include "tests/raft/node/node_group.h"

namespace muster::raft {
namespace {

using testing::ElementsAre;

// Leaders that are cut off one after the other, each with something that only it has.
TEST_F(NodeGroup, WhatIsCommittedIsNeverRolledBack_B11) {
  found(5);
  std::vector<std::string> committed;
  for (int round = 0; round < 12; ++round) {
    const uint64_t old = await_leader();
    ASSERT_NE(old, 0U);
    write(fmt::format("kept {}", round));
    committed.push_back(fmt::format("kept {}", round));
    network.isolate(id_of(old));
    const auto lost = propose(old, fmt::format("alone {}", round));
    // Some of the others stay behind too; those that are left have all that was acknowledged.
    const uint64_t also = 1 + rng.below(5);
    if (also != old) network.isolate(id_of(also));
    ASSERT_TRUE(await([&] {
      return std::any_of(members.begin(), members.end(), [&](const auto& one) {
        return one.first.value != old && one.second->life->machine.leading != 0;
      });
    }));
    network.mend_all();
    EXPECT_EQ(outcome(lost), Outcome::kUnknown);
    ASSERT_TRUE(await([&] { return leader() != 0 && all_equal(); }));
    for (const auto& [id, one] : members) {
      std::vector<std::string> kept;
      std::copy_if(one->life->machine.list.begin(), one->life->machine.list.end(),
                   std::back_inserter(kept),
                   [](const std::string& text) { return text.starts_with("kept"); });
      ASSERT_EQ(kept, committed) << "at member " << id.value << " in round " << round;
    }
  }
}

// There are no reads by clocks: having heard of a majority a moment ago says nothing.
TEST_F(NodeGroup, AReadIsNotAnsweredWithoutAMajorityHoweverRecent_B20) {
  found(3);
  write("a");
  const auto read = [&](uint64_t at) {
    auto answer = std::make_shared<std::optional<Result<Index>>>();
    node(at).read_barrier([answer](Result<Index> r) { *answer = std::move(r); });
    return answer;
  };
  const auto good = read(1);
  ASSERT_TRUE(await([&] { return good->has_value(); }));
  ASSERT_TRUE((*good)->has_value());
  network.isolate(id_of(1));
  const auto alone = read(1);  // within its lease, if it had one
  ASSERT_TRUE(await([&] { return leader() > 1 || alone->has_value(); }));
  ASSERT_TRUE(await([&] { return alone->has_value(); }));
  EXPECT_FALSE((*alone)->has_value());
}

// It has forgotten its votes, so it is nobody's earlier self: another id, and no vote before it
// has caught up.
TEST_F(NodeGroup, WhoComesBackWithAnEmptyDiskIsSomebodyElse_B26) {
  found(3);
  write("a");
  kill(3);
  members.erase(id_of(3));
  start(4, StartMode::kJoin, known_members());
  // What is meant for its earlier self it does not take for its own.
  std::vector<MessageKind> said;
  network.watch = [&](const Message& m) {
    if (m.from == id_of(4) || m.from == id_of(3)) said.push_back(m.kind);
  };
  node(4).transport_events().received({.kind = MessageKind::kVote,
                                       .from = id_of(2),
                                       .to = id_of(3),
                                       .term = node(1).view().term + 1,
                                       .transfer = true});
  world.advance(3s);
  EXPECT_THAT(said, ElementsAre());
  ASSERT_TRUE(done([&](auto d) { node(1).remove(id_of(3), std::move(d)); }).ok());
  ASSERT_TRUE(done([&](auto d) { node(1).add_learner(member(4).self, std::move(d)); }).ok());
  // With a vote of its own, 2 would not be stopped by its silence.
  network.isolate(id_of(2));
  const auto stuck = propose(1, "b");
  world.advance(500ms);
  EXPECT_FALSE(stuck->result) << "a learner does not count";
  network.mend_all();
  ASSERT_TRUE(await([&] {
    const GroupView view = node(1).view();
    const MemberView* fresh = view.find(id_of(4));
    return leader() == 1 && fresh != nullptr && fresh->caught_up;
  }));
  EXPECT_TRUE(done([&](auto d) { node(1).promote(id_of(4), std::move(d)); }).ok());
  EXPECT_TRUE(await([&] { return all_equal(); }));
}

// Groups count, and addresses are known, from when they are appended on: an entry that only the
// new member could commit reaches it.
TEST_F(NodeGroup, AMemberIsReachedBeforeItsEntryIsCommitted_B28) {
  found(2);
  network.isolate(id_of(2));
  start(3, StartMode::kJoin);  // and knows nobody
  std::optional<Status> added;
  node(1).add_learner(Member{member(3).self}, [&](Status s) { added = std::move(s); });
  ASSERT_TRUE(await([&] { return member(3).image.log.last() == node(1).view().commit + 1; }, 1s));
  EXPECT_FALSE(added);
  network.mend_all();
  EXPECT_TRUE(await([&] { return added.has_value(); }));
  EXPECT_TRUE(added->ok());
  EXPECT_TRUE(await([&] { return all_equal(); }));
}

// One has read the log entry by entry, one came back from its own snapshot, one got the leader's.
TEST_F(NodeGroup, TheWayAMemberTookMakesNoDifferenceToItsState_B32) {
  options.snapshot_entries = 10;
  options.trailing_entries = 3;
  found(3);
  for (int i = 0; i < 15; ++i) write(fmt::format("{}", i));
  ASSERT_TRUE(await([&] { return member(2).image.log.snapshot.index > 0; }));
  kill(2);
  restart(2);
  kill(3);
  for (int i = 15; i < 60; ++i) write(fmt::format("{}", i));
  restart(3);
  ASSERT_TRUE(await([&] { return all_equal(); }));
  EXPECT_EQ(machine(1).list.size(), 60U);
  EXPECT_THAT(machine(1).trace, testing::Not(testing::Contains(testing::HasSubstr("restored"))));
  for (const uint64_t number : {2, 3}) {
    EXPECT_THAT(machine(number).trace, testing::Contains(testing::HasSubstr("restored")));
  }
  // And all of them go on from there.
  kill(1);
  write("after");
  EXPECT_TRUE(await([&] { return all_equal(); }));
}

}  // namespace
}  // namespace muster::raft
