// Members whose disks are full.
#include "tests/raft/node/node_group.h"

namespace muster::raft {
namespace {

using testing::ElementsAre;

TEST_F(NodeGroup, AFullDiskRejectsChangesAndTheLeaderStays) {
  found(1);
  const auto stuck = propose(1, "a");
  member(1).weather.full = true;  // before it was written
  const auto refused = propose(1, "c");
  EXPECT_EQ(outcome(refused), Outcome::kRejected);
  EXPECT_EQ(refused->result->why.reason(), "disk-full");
  EXPECT_NE(machine(1).leading, 0U);
  EXPECT_FALSE(stuck->result);
  member(1).weather.full = false;
  EXPECT_EQ(outcome(stuck), Outcome::kCommitted);
  write("d");
}

TEST_F(NodeGroup, AFullFollowerVotes) {
  found(3);
  write("a");
  ASSERT_TRUE(await([&] { return all_equal(); }));
  member(3).weather.full = true;
  write("b");
  world.advance(2s);
  EXPECT_THAT(machine(3).list, ElementsAre("a"));
  const Term term = node(2).view().term;
  kill(1);
  const auto elected = [&] {
    return node(2).view().leader == id_of(2) && node(2).view().term > term;
  };
  ASSERT_TRUE(await(elected)) << "with the vote of the full one";
  EXPECT_EQ(member(3).image.log.hard_state.vote, id_of(2));
  member(3).weather.full = false;
  ASSERT_EQ(await_leader(), 2U);
  write("c");
  EXPECT_TRUE(await([&] { return all_equal(); }));
  EXPECT_THAT(machine(3).list, ElementsAre("a", "b", "c"));
}

TEST_F(NodeGroup, AFullFollowerConfirmsWhatItHas) {
  found(3);
  kill(2);
  network.cut(id_of(3), id_of(1));  // it hears, and is not heard
  const auto proposal = propose(1, "a");
  world.advance(50ms);
  EXPECT_FALSE(proposal->result);
  member(3).weather.full = true;
  network.mend_all();
  EXPECT_EQ(outcome(proposal, 2s), Outcome::kCommitted);
}

// Of a leader that does not know yet what it has; nothing that is sent fits.
TEST_F(NodeGroup, AFullFollowerLearnsWhatIsCommittedOfWhatItHas) {
  found(3);
  write("a");
  ASSERT_TRUE(await([&] { return all_equal(); }));
  network.lose = [&](const Message& m) { return m.to == id_of(3) && m.entries.empty(); };
  const auto has = member(3).image.log.last();
  write("b");
  ASSERT_TRUE(await([&] { return member(3).image.log.last() == has + 1; }));
  network.isolate(id_of(3));
  member(3).weather.full = true;
  for (const char* text : {"c", "d", "e"}) write(text);
  ASSERT_TRUE(done([&](auto d) { node(1).transfer_leadership(id_of(2), std::move(d)); }).ok());
  EXPECT_THAT(machine(3).list, ElementsAre("a"));
  uint64_t sent = 0;
  network.watch = [&](const Message& m) { sent += m.to == id_of(3) ? m.entries.size() : 0; };
  network.lose = nullptr;
  network.mend_all();
  EXPECT_TRUE(await([&] { return machine(3).list.size() == 2; }, 2s));
  EXPECT_THAT(machine(3).list, ElementsAre("a", "b"));
  sent = 0;
  world.advance(1s);
  EXPECT_LE(sent, 6 * 11) << "a try with every heartbeat";
  member(3).weather.full = false;
  EXPECT_TRUE(await([&] { return all_equal(); }));
}

TEST_F(NodeGroup, WhatWaitsForRoomDoesNotHoldUpWhatCameBefore) {
  found(3);
  // Accepted while there was room; then others took all of it.
  member(3).weather.stuck = true;
  write("a");
  world.advance(50ms);
  write("b");
  member(3).weather.full = true;
  member(3).weather.stuck = false;
  const Index had = node(1).view().commit;
  EXPECT_TRUE(await([&] { return member(3).image.log.last() == had - 1; }));
  world.advance(5s);
  EXPECT_EQ(member(3).image.log.last(), had - 1);
  member(3).weather.full = false;
  EXPECT_TRUE(await([&] { return all_equal(); }));
}

TEST_F(NodeGroup, ALeaderWithAFullDiskHandsOverAndCanBeRemoved) {
  found(3);
  member(1).weather.full = true;
  ASSERT_TRUE(await([&] { return leader() > 1; }, 3s));
  write("a");
  const uint64_t now_leads = leader();
  EXPECT_TRUE(done([&](auto d) { node(now_leads).remove(id_of(1), std::move(d)); }).ok());
}

}  // namespace
}  // namespace muster::raft
