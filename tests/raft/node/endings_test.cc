// How a member ends, by its own will or its disk's: everybody who waits is answered.
#include "tests/raft/node/node_group.h"

namespace muster::raft {
namespace {

using testing::ElementsAre;

TEST_F(NodeGroup, AFailedDiskAnswersUnknownAndEndsTheService) {
  found(1);
  member(1).weather.fails = true;
  const auto answer = propose(1, "a");
  EXPECT_EQ(outcome(answer), Outcome::kUnknown);
  ASSERT_TRUE(member(1).fatal);
  EXPECT_THAT(member(1).fatal->message(), testing::HasSubstr("injected"));
  EXPECT_THAT(machine(1).trace, ElementsAre("lead", "unknown a", "end"));
  EXPECT_EQ(outcome(propose(1, "b")), Outcome::kRejected);
}

TEST_F(NodeGroup, AnEntryThatCannotBeAppliedIsFatal) {
  found(2);
  const auto poison = propose(1, "poison");  // the leader has it from its transaction
  EXPECT_EQ(outcome(poison), Outcome::kCommitted);
  EXPECT_TRUE(await([&] { return member(2).fatal.has_value(); }));
  EXPECT_EQ(member(2).fatal->code(), StatusCode::kDataLoss);
}

TEST_F(NodeGroup, AnOrderlyStopHandsOverFirst) {
  found(3);
  write("a");
  const TimePoint asked = world.now();
  bool ended = false;
  member(1).life->user_strand.post([&] { node(1).stop([&] { ended = true; }); });
  ASSERT_TRUE(await([&] { return leader() > 1; }, 1s));
  EXPECT_LT(world.now() - asked, Duration(100ms));
  EXPECT_TRUE(await([&] { return ended; }, 1s));
  write("b");
}

TEST_F(NodeGroup, StoppingAnswersEverythingAndTellsNothingAfter_B40) {
  found(1);
  member(1).weather.stuck = true;
  const auto proposal = propose(1, "a");
  bool ended = false;
  member(1).life->user_strand.post([&] { node(1).stop([&] { ended = true; }); });
  EXPECT_TRUE(await([&] { return ended; }, 2s));
  EXPECT_TRUE(proposal->result) << "an answer before the end";
  const auto trace = machine(1).trace;
  world.advance(5s);
  EXPECT_EQ(machine(1).trace, trace);
  member(1).life.reset();
}

TEST_F(NodeGroup, StoppingAnswersReadsAndHandoversToo_B40) {
  options.transfer_max = 500ms;
  found(3);
  network.isolate(id_of(1));
  std::vector<std::string> order;
  member(1).life->user_strand.post([&] {
    node(1).read_barrier([&](const Result<Index>& r) {
      EXPECT_FALSE(r.has_value());
      order.push_back("read " + r.error().reason());
    });
    node(1).transfer_leadership(
        id_of(2), [&](const Status& s) { order.push_back("transfer " + s.reason()); });
    node(1).take_snapshot([&](const Status& s) { order.push_back("snapshot " + s.reason()); });
    node(1).stop([&] { order.push_back("stopped"); });
  });
  member(1).weather.stuck = true;
  EXPECT_TRUE(await([&] { return !order.empty() && order.back() == "stopped"; }, 3s));
  EXPECT_THAT(order, ElementsAre("read not-leader", "transfer not-leader", "snapshot not-leader",
                                 "stopped"));
}

TEST_F(NodeGroup, WhoAsksAMemberThatHasEndedIsAnswered) {
  found(3);
  member(1).weather.fails = true;
  (void)propose(1, "a");
  ASSERT_TRUE(await([&] { return member(1).fatal.has_value(); }));
  const Member third = member(3).self;
  const auto reason = [&](const std::function<void(Group::Done)>& call) {
    return done(call).reason();
  };
  EXPECT_EQ(reason([&](auto d) { node(1).add_learner(third, std::move(d)); }), "not-leader");
  EXPECT_EQ(reason([&](auto d) { node(1).promote(third.id, std::move(d)); }), "not-leader");
  EXPECT_EQ(reason([&](auto d) { node(1).remove(third.id, std::move(d)); }), "not-leader");
  EXPECT_EQ(reason([&](auto d) { node(1).transfer_leadership({}, std::move(d)); }), "not-leader");
  EXPECT_EQ(reason([&](auto d) { node(1).take_snapshot(std::move(d)); }), "not-leader");
  EXPECT_EQ(reason([&](auto d) {
              node(1).read_barrier([d = std::move(d)](Result<Index> r) mutable { d(r.error()); });
            }),
            "not-leader");
}

TEST_F(NodeGroup, AFailedDiskAnswersReadsAndHandoversToo) {
  found(3);
  network.isolate(id_of(1));
  std::vector<std::string> order;
  node(1).read_barrier(
      [&](const Result<Index>& r) { order.push_back(r ? "read" : "read " + r.error().reason()); });
  (void)propose(1, "a");
  node(1).transfer_leadership(id_of(2),
                              [&](const Status& s) { order.push_back("transfer " + s.reason()); });
  member(1).weather.fails = true;
  ASSERT_TRUE(await([&] { return member(1).fatal.has_value(); }, 500ms));
  world.settle();
  EXPECT_THAT(order, ElementsAre("read not-leader", "transfer not-leader"));
}

TEST_F(NodeGroup, ADiskThatFailsWhileStoppingEndsTheStop) {
  found(3);
  network.lose = [](const Message& message) { return message.kind == MessageKind::kTimeoutNow; };
  member(1).weather.stuck = true;
  const auto proposal = propose(1, "a");
  bool ended = false;
  member(1).life->user_strand.post([&] { node(1).stop([&] { ended = true; }); });
  world.settle();
  member(1).weather.stuck = false;
  member(1).weather.fails = true;
  ASSERT_TRUE(await([&] { return member(1).fatal.has_value(); }, 500ms));
  EXPECT_TRUE(await([&] { return ended; }, 500ms));
  EXPECT_TRUE(proposal->result);
  EXPECT_EQ(machine(1).trace.back(), "end");
}

TEST_F(NodeGroup, ALeadershipThatNobodyHeardOfHasNoEnd) {
  found(1);
  write("a");
  kill(1);
  restart(1);
  machine(1).on_apply = [&] { member(1).life->user_strand.pause(); };
  ASSERT_TRUE(await([&] { return node(1).view().leads; }));
  ASSERT_THAT(machine(1).trace, ElementsAre("apply a")) << "its user does not know yet";
  member(1).weather.fails = true;
  // A later term: something to write.
  node(1).transport_events().received({.kind = MessageKind::kVote,
                                       .from = id_of(9),
                                       .to = id_of(1),
                                       .term = node(1).view().term + 1,
                                       .transfer = true});
  ASSERT_TRUE(await([&] { return member(1).fatal.has_value(); }, 100ms));
  member(1).life->user_strand.resume();
  world.advance(20ms);
  EXPECT_THAT(machine(1).trace, ElementsAre("apply a"));
}

TEST_F(NodeGroup, AGoodbyeOfTheLeaderNeedsNoTimeOut) {
  found(3);
  network.lose = [](const Message& message) { return message.kind == MessageKind::kTimeoutNow; };
  const TimePoint asked = world.now();
  stop(1);
  ASSERT_NE(await_leader(), 0U);
  EXPECT_LT(world.now() - asked, options.transfer_max + Duration(300ms));
}

}  // namespace
}  // namespace muster::raft
