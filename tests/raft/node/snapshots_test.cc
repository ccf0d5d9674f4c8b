// Snapshots that are taken, sent and loaded.
#include "tests/raft/node/node_group.h"

namespace muster::raft {
namespace {

class Snapshots : public NodeGroup {
 protected:
  Snapshots() {
    options.snapshot_entries = 10;
    options.trailing_entries = 3;
  }
};

TEST_F(Snapshots, AreTakenAndTheLogBeginsLater) {
  found(1);
  for (int i = 0; i < 50; ++i) write(fmt::format("{}", i));
  EXPECT_TRUE(await([&] { return member(1).image.log.snapshot.index >= 40; }));
  EXPECT_GT(member(1).image.log.base_index, 30U);
  kill(1);
  restart(1);
  EXPECT_EQ(await_leader(), 1U);
  EXPECT_EQ(machine(1).list.size(), 50U);
}

TEST_F(Snapshots, BySizeToo) {
  options.snapshot_entries = 10'000;
  options.snapshot_bytes = 1'000;
  found(1);
  for (int i = 0; i < 5; ++i) write(std::string(300, 'x'));
  EXPECT_TRUE(await([&] { return member(1).image.log.snapshot.index > 0; }));
}

TEST_F(Snapshots, AreTakenAsOftenAsTheGroupSays) {
  options.snapshot_entries = 10'000;
  found(1);
  for (int i = 0; i < 30; ++i) write(fmt::format("{}", i));
  node(1).configure({.snapshot_entries = 20, .trailing_entries = 5});
  write("more");
  EXPECT_TRUE(await([&] { return member(1).image.log.snapshot.index > 20; }));
  EXPECT_GT(member(1).image.log.base_index, 20U);
}

TEST_F(Snapshots, AreTakenAsOftenAsTheGroupSaidBeforeARestart) {
  options.snapshot_entries = 10'000;
  found(1);
  write("first");
  std::optional<Status> taken;
  node(1).take_snapshot([&](Status s) { taken = std::move(s); });
  EXPECT_TRUE(await([&] { return taken.has_value(); }));
  const Index before = member(1).image.log.snapshot.index;
  ASSERT_GT(before, 0U);
  in_snapshots = Node::Settings{.snapshot_entries = 20};
  kill(1);
  restart(1);
  for (int i = 0; i < 25; ++i) write(fmt::format("{}", i));
  EXPECT_TRUE(await([&] { return member(1).image.log.snapshot.index > before; }));
}

TEST_F(Snapshots, AreTakenAsOftenAsTheOptionsSayWhatTheGroupLeavesOpen) {
  found(1);
  node(1).configure({.heartbeat = 200ms, .snapshot_entries = 10'000});
  for (int i = 0; i < 30; ++i) write(fmt::format("{}", i));
  EXPECT_EQ(member(1).image.log.snapshot.index, 0U);
  node(1).configure({.heartbeat = 200ms});
  write("more");
  EXPECT_TRUE(await([&] { return member(1).image.log.snapshot.index > 0; }));
  EXPECT_GT(member(1).image.log.base_index, 20U);
}

TEST_F(Snapshots, AreTakenByALeaderWhoseDiskIsTheSlowest) {
  found(3);
  member(1).weather.write_min = member(1).weather.write_max = 50ms;
  for (int i = 0; i < 300; ++i) write(fmt::format("{}", i));
  EXPECT_GT(member(1).image.log.snapshot.index, 30U) << "although it always waits for the disk";
}

TEST_F(Snapshots, ThatAreLoadingDoNotHoldUpAStop) {
  found(3);
  kill(3);
  for (int i = 0; i < 60; ++i) write(fmt::format("{}", i));
  restart(3);
  bool ended = false;
  std::optional<Result<Index>> read;
  machine(3).on_chunk = [&] {
    member(3).life->user_strand.post([&] {
      node(3).read_barrier([&](Result<Index> r) { read = std::move(r); });
      node(3).stop([&] { ended = true; });
    });
  };
  EXPECT_TRUE(await([&] { return ended; }));
  EXPECT_TRUE(read.has_value());
  EXPECT_EQ(machine(3).trace, std::vector<std::string>()) << "nothing was finished";
}

TEST_F(Snapshots, ThatAreNotLoadedToTheEndAreFollowedByNothing) {
  found(3);
  kill(3);
  for (int i = 0; i < 60; ++i) write(fmt::format("{}", i));
  restart(3);
  machine(3).on_chunk = [&] { member(3).life->user_strand.pause(); };
  ASSERT_TRUE(await([&] { return !machine(3).loading.empty(); }));
  write("behind it");
  ASSERT_TRUE(await([&] { return node(3).view().commit == node(1).view().commit; }));
  bool ended = false;
  member(3).life->user_strand.post([&] { node(3).stop([&] { ended = true; }); });
  member(3).life->user_strand.resume();
  EXPECT_TRUE(await([&] { return ended; }));
  EXPECT_EQ(machine(3).trace, std::vector<std::string>());
  EXPECT_FALSE(member(3).fatal);
}

TEST_F(Snapshots, ThatAreLoadingDoNotHoldUpAnswersWhenTheDiskFails) {
  found(3);
  kill(3);
  for (int i = 0; i < 60; ++i) write(fmt::format("{}", i));
  restart(3);
  bool ended = false;
  machine(3).on_chunk = [&] { member(3).weather.fails = true; };
  ASSERT_TRUE(await([&] { return member(3).fatal.has_value(); }));
  member(3).life->user_strand.post([&] { node(3).stop([&] { ended = true; }); });
  EXPECT_TRUE(await([&] { return ended; }, 1s));
}

TEST_F(Snapshots, BringALateMemberUpAndTheLogGoesOnAfterThem) {
  found(3);
  kill(3);
  for (int i = 0; i < 60; ++i) write(fmt::format("{}", i));
  restart(3);
  EXPECT_TRUE(await([&] { return all_equal(); }));
  EXPECT_THAT(machine(3).trace, testing::Contains(testing::HasSubstr("restored")));
  write("after");
  EXPECT_TRUE(await([&] { return all_equal(); }));
  // And it is on its disk.
  kill(3);
  restart(3);
  EXPECT_TRUE(await([&] { return all_equal(); }));
}

TEST_F(Snapshots, AJoinerGetsOneToo) {
  found(1);
  for (int i = 0; i < 60; ++i) write(fmt::format("{}", i));
  start(2, StartMode::kJoin, known_members());
  EXPECT_TRUE(done([&](auto d) { node(1).add_learner(member(2).self, std::move(d)); }).ok());
  EXPECT_TRUE(await([&] { return all_equal(); }));
  EXPECT_TRUE(await([&] { return node(1).view().find(id_of(2))->caught_up; }));
}

TEST_F(Snapshots, ArriveTwiceWithoutHarm_B42) {
  found(3);
  kill(3);
  for (int i = 0; i < 60; ++i) write(fmt::format("{}", i));
  network.weather().doubled_permille = 1000;
  restart(3);
  EXPECT_TRUE(await([&] { return all_equal(); }));
  Message repeated{.kind = MessageKind::kSnapshot,
                   .from = id_of(1),
                   .to = id_of(3),
                   .term = node(1).view().term,
                   .snapshot = member(1).image.log.snapshot};
  const Index applied = node(3).view().applied;
  node(3).transport_events().received(repeated);
  world.advance(1s);
  EXPECT_GE(node(3).view().applied, applied);
  EXPECT_TRUE(all_equal());
}

TEST_F(Snapshots, ThatAreInterruptedAreSentAgain) {
  found(3);
  kill(3);
  for (int i = 0; i < 60; ++i) write(fmt::format("{}", i));
  restart(3);
  // Cut while it is under way, again and again.
  for (int i = 0; i < 5; ++i) {
    world.advance(20ms);
    network.isolate(id_of(3));
    world.advance(200ms);
    network.mend_all();
  }
  EXPECT_TRUE(await([&] { return all_equal(); }));
}

TEST_F(Snapshots, AreTakenOnRequest) {
  options.snapshot_entries = 10'000;
  found(1);
  write("a");
  std::optional<Status> taken;
  node(1).take_snapshot([&](Status s) { taken = std::move(s); });
  EXPECT_TRUE(await([&] { return taken.has_value(); }));
  EXPECT_TRUE(taken->ok());
  EXPECT_GT(member(1).image.log.snapshot.index, 1U);
  taken.reset();
  node(1).take_snapshot([&](Status s) { taken = std::move(s); });
  EXPECT_TRUE(await([&] { return taken.has_value(); }));
  EXPECT_TRUE(taken->ok()) << "there is nothing new";
}

}  // namespace
}  // namespace muster::raft
