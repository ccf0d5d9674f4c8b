#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "raft/transport/grpc/inbound.h"
#include "tests/raft/transport/test_group.h"

namespace muster::raft {
namespace {

TEST(Lanes, MessagesArriveWholeAndInOrder) {
  Pair group;
  std::vector<Message> sent;
  for (Index i = 1; i <= 500; ++i) {
    sent.push_back(append(group.a, group.b, i, i % 50 == 0 ? 200'000 : 100));
    group.a.send(sent.back());
  }
  ASSERT_TRUE(group.b.eventually([&] { return group.b.messages.size() == sent.size(); }));
  EXPECT_TRUE(group.b.locked([&] { return group.b.messages == sent; }));
  EXPECT_TRUE(group.a.locked([&] { return group.a.unreachables.empty(); }));
}

TEST(Lanes, TheLargestProposalGetsThrough) {
  Pair group;
  const Message big = append(group.a, group.b, 1, 2 << 20);
  group.a.send(big);
  EXPECT_TRUE(group.b.hears(big));
}

TEST(Lanes, HeartbeatsFlowWhileEntriesAreStuck) {
  Pair group;
  ASSERT_TRUE(group.connect());
  group.b.hold([](const Message& m) { return m.kind == MessageKind::kAppend; });
  for (Index i = 1; i <= 8; ++i) {
    group.a.send(append(group.a, group.b, i, 1 << 20));
  }
  ASSERT_TRUE(
      group.b.eventually([&] { return group.b.messages.back().kind == MessageKind::kAppend; }));
  for (uint64_t round = 1; round <= 20; ++round) {
    const Message beat = heartbeat(group.a, group.b, round);
    group.a.send(beat);
    ASSERT_TRUE(group.b.hears(beat));
  }
  EXPECT_EQ(group.b.locked([&] {
    return std::count_if(group.b.messages.begin(), group.b.messages.end(),
                         [](const Message& m) { return m.kind == MessageKind::kAppend; });
  }),
            1);
  group.b.release();
  EXPECT_TRUE(group.b.hears(append(group.a, group.b, 8, 1 << 20)));
}

TEST(Lanes, AFullQueueLosesTheNewestAndSaysSo) {
  Pair group([](GrpcTransportOptions& options) { options.lane.messages = 8; });
  ASSERT_TRUE(group.connect());
  group.b.hold([](const Message& m) { return m.kind == MessageKind::kAppend; });
  // Until gRPC's own buffers are full, too.
  Index last = 0;
  while (group.a.locked([&] { return group.a.unreachables[group.b.id()] == 0; })) {
    ASSERT_LT(last, 2000U) << "the queue is not bounded";
    group.a.send(append(group.a, group.b, ++last, 256 << 10));
    std::unique_lock lock(group.a.mutex());
    (void)group.a.wait_some(lock, [&] { return last < 20 || group.a.unreachables.size() > 0; });
  }
  group.b.release();
  const Message after = append(group.a, group.b, 5000);
  ASSERT_TRUE(group.b.hears(append(group.a, group.b, 1, 256 << 10)));
  // The lane goes on, in order.
  for (bool heard = false; !heard;) {
    group.a.send(after);
    std::unique_lock lock(group.b.mutex());
    heard = group.b.wait_some(lock, [&] { return group.b.messages.back() == after; });
  }
  Index before = 0;
  for (const Message& m : group.b.locked([&] { return group.b.messages; })) {
    if (m.kind != MessageKind::kAppend) continue;
    EXPECT_GE(m.prev_index + 1, before);
    before = m.prev_index + 1;
  }
}

TEST(Lanes, AMemberThatIsAwayIsUnreachableAndThenDialledUntilItIsThere) {
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1"});
  auto b = std::make_unique<TestMember>(issuer, 2, TestMember::Settings{.node_id = "n2"});
  Members members = members_of({&a, b.get()});
  b->link().reset(true);  // nobody listens there
  a.transport->set_members(members);
  a.send(heartbeat(a, *b));
  ASSERT_TRUE(a.eventually([&] { return a.unreachables[b->id()] > 0; }));
  EXPECT_EQ(a.locked([&] { return a.vanishes.size(); }), 0U) << "it was never there";
  // It comes back at another address.
  TcpProxy other(b->port());
  Member moved = b->member();
  moved.address = other.address();
  members.put(moved);
  a.transport->set_members(members);
  const Message beat = heartbeat(a, *b, 2);
  a.send(beat);
  EXPECT_TRUE(b->hears(beat));
}

// Hosts that had no time for handshakes gave up each of them early and began the next, for ever.
TEST(Lanes, AnAttemptMayTakeLongerTheMoreHaveFailed) {
  const auto tune = [](GrpcTransportOptions& options) {
    options.redial_max = options.redial_first;
    options.connect_first = 50ms;
    options.connect_max = kPatience;
  };
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1", .tune = tune});
  TestMember b(issuer, 2, {.node_id = "n2"});
  b.link().freeze();  // it accepts connections and says nothing
  a.transport->set_members(members_of({&a, &b}));
  std::map<Duration, int> attempts;
  ASSERT_TRUE(a.eventually([&] {
    attempts = a.attempts;
    return attempts[400ms] == 2;
  })) << "by both lanes";
  for (const Duration shorter : {50ms, 100ms, 200ms}) EXPECT_EQ(attempts[shorter], 2);
  b.link().freeze(false);
  const auto hears_more_than = [&](size_t count) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < end) {
      a.send(heartbeat(a, b));
      std::unique_lock lock(b.mutex());
      if (b.wait_some(lock, [&] { return b.messages.size() > count; })) return true;
    }
    return false;
  };
  ASSERT_TRUE(hears_more_than(0));
  // Once a lane was open, an attempt is as short as the first again. What is heard may be so before
  // the other side knows that it is open.
  for (int broken = 0; a.locked([&] { return a.attempts[50ms]; }) == 2; ++broken) {
    ASSERT_LT(broken, 50);
    b.link().reset(false);
    ASSERT_TRUE(hears_more_than(b.locked([&] { return b.messages.size(); })));
  }
}

// ------------------------------------------------------------ who is there

TEST(Identity, AnotherClusterIsToldSoAndLoggedOnce) {
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1", .cluster = "c2"});
  TestMember b(issuer, 2, {.node_id = "n2"});
  a.transport->set_members(members_of({&a, &b}));
  for (int i = 1; i <= 4; ++i) {
    // A failed attempt each.
    a.send(heartbeat(a, b));
    ASSERT_TRUE(a.eventually([&] { return a.unreachables[b.id()] >= i; }));
  }
  EXPECT_EQ(b.locked([&] { return b.messages.size(); }), 0U);
  const std::string why = "this member belongs to cluster c1, not c2";
  EXPECT_EQ(a.log->with("heartbeat lane to member 2 at " + b.address() + ": " + why), 1U);
  EXPECT_EQ(a.log->with(why), 2U) << "once for each lane";
  EXPECT_EQ(b.log->with(why), 1U);
}

TEST(Identity, SomebodyElseAtTheAddressIsToldSo) {
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1"});
  TestMember b(issuer, 2, {.node_id = "n2"});
  Members members = members_of({&a, &b});
  members.remove(b.id());
  members.put({{3}, "n2", b.address(), true, false});
  a.transport->set_members(members);
  Message m = heartbeat(a, b);
  m.to = {3};
  a.send(m);
  ASSERT_TRUE(a.eventually([&] { return a.unreachables[MemberId{3}] > 0; }));
  EXPECT_EQ(b.locked([&] { return b.messages.size(); }), 0U);
  EXPECT_EQ(b.log->with("this is member 2, not 3"), 1U);
}

TEST(Identity, AWorkersCertificateIsRefused) {
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1", .role = security::CertificateRole::kWorker});
  TestMember b(issuer, 2, {.node_id = "n2"});
  a.transport->set_members(members_of({&a, &b}));
  a.send(heartbeat(a, b));
  ASSERT_TRUE(a.eventually([&] { return a.unreachables[b.id()] > 0; }));
  EXPECT_EQ(b.locked([&] { return b.messages.size(); }), 0U);
  EXPECT_GT(a.log->with("node n1 is not a manager"), 0U);
}

TEST(Identity, AMemberMustShowTheCertificateOfItsNode) {
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1", .certified_as = "n9"});
  TestMember b(issuer, 2, {.node_id = "n2"});
  const Members members = members_of({&a, &b});
  a.transport->set_members(members);
  const Message first = heartbeat(a, b, 1);
  a.send(first);
  ASSERT_TRUE(b.hears(first)) << "while the list is not known, any manager may speak";
  // Its open lanes end by themselves, and it is let in no more.
  b.transport->set_members(members);
  ASSERT_TRUE(b.log->eventually("member 1 is node n1, not n9", 1));
  for (int i = 0; i < 3; ++i) {
    const int before = a.locked([&] { return a.unreachables[b.id()]; });
    bool refused = false;
    for (int tries = 0; !refused && tries < 1000; ++tries) {
      // What it sends before it hears of it may have come just before.
      a.send(heartbeat(a, b, i == 0 ? 2 : 3));
      std::unique_lock lock(a.mutex());
      refused = a.wait_some(lock, [&] { return a.unreachables[b.id()] > before; });
    }
    ASSERT_TRUE(refused) << i;
  }
  EXPECT_EQ(b.log->with("member 1 is node n1, not n9"), 1U);
  EXPECT_EQ(b.locked([&] {
    return std::count(b.messages.begin(), b.messages.end(), heartbeat(a, b, 3));
  }),
            0);
}

TEST(Identity, TheServerMustHaveTheCertificateOfTheMembersNode) {
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1"});
  TestMember b(issuer, 2, {.node_id = "n2"});
  Members members = members_of({&a, &b});
  Member other = b.member();
  other.node_id = "n7";
  members.put(other);
  a.transport->set_members(members);
  a.send(heartbeat(a, b));
  ASSERT_TRUE(a.eventually([&] { return a.unreachables[b.id()] > 0; }));
  EXPECT_GT(a.log->with("node n2 answers there, not n7"), 0U);
}

TEST(Identity, AManagerThatTheListDoesNotHaveIsHeardAndAnswered) {
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1"});
  TestMember b(issuer, 2, {.node_id = "n2"});
  TestMember c(issuer, 3, {.node_id = "n3"});
  // c leads and knows all; a is so far behind that it has not heard of c.
  a.transport->set_members(members_of({&a, &b}));
  c.transport->set_members(members_of({&a, &b, &c}));
  a.send(heartbeat(a, c, 7));
  ASSERT_TRUE(a.eventually([&] { return a.unreachables[c.id()] > 0; })) << "without an address";
  const Message beat = heartbeat(c, a);
  c.send(beat);
  ASSERT_TRUE(a.hears(beat));
  const Message reply = heartbeat(a, c, 8);
  a.send(reply);
  EXPECT_TRUE(c.hears(reply));
}

TEST(Identity, ARemovedMemberIsToldOnItsOpenLanesAndOnNewOnes) {
  Pair group;
  ASSERT_TRUE(group.connect());
  group.b.locked([&] { group.b.removed_ids = {group.a.id()}; });
  group.b.transport->set_members(members_of({&group.b}));
  ASSERT_TRUE(group.a.eventually([&] { return group.a.removals >= 2; })) << "both lanes";
  ASSERT_TRUE(group.a.eventually([&] { return group.a.removals >= 4; })) << "dialled again";
  const Message beat = heartbeat(group.a, group.b, 77);
  group.a.send(beat);
  ASSERT_TRUE(group.a.eventually([&] { return group.a.unreachables[group.b.id()] > 0; }));
  EXPECT_EQ(group.b.locked(
                [&] { return std::count(group.b.messages.begin(), group.b.messages.end(), beat); }),
            0);
  EXPECT_TRUE(group.a.locked([&] { return group.a.vanishes.empty(); }));
}

// Whatever the list says, which may be as old as it likes.
TEST(Identity, ARemovedNodeIsRefusedByEverybodyAndToldSo) {
  Pair group;
  ASSERT_TRUE(group.connect());
  group.b.locked([&] { group.b.removed_nodes = {"n1"}; });
  group.b.transport->judge_again();
  ASSERT_TRUE(group.a.eventually([&] { return group.a.removals >= 2; })) << "both lanes";
  ASSERT_TRUE(group.a.eventually([&] { return group.a.removals >= 4; })) << "dialled again";
  const Message beat = heartbeat(group.a, group.b, 77);
  group.a.send(beat);
  ASSERT_TRUE(group.a.eventually([&] { return group.a.unreachables[group.b.id()] > 0; }));
  EXPECT_EQ(group.b.locked(
                [&] { return std::count(group.b.messages.begin(), group.b.messages.end(), beat); }),
            0);
  EXPECT_EQ(group.b.log->with("node n1 was removed from the swarm"), 1U);

  // Nor as a member that nobody has heard of.
  TestMember other(group.issuer, 9, {.node_id = "n9", .certified_as = "n1"});
  other.transport->set_members(members_of({&other, &group.b}));
  EXPECT_TRUE(other.eventually([&] { return other.removals >= 2; }));
}

// Who was removed while others led has open lanes that no list is changed for.
TEST(Identity, ANewLeaderTellsWhoWasRemovedOnOpenLanes) {
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1"});
  TestMember b(issuer, 2, {.node_id = "n2"});
  a.transport->set_members(members_of({&a, &b}));
  a.send(heartbeat(a, b));
  a.send(append(a, b, 1));
  ASSERT_TRUE(b.hears(heartbeat(a, b)));
  ASSERT_TRUE(b.hears(append(a, b, 1)));
  b.locked([&] { b.removed_ids = {a.id()}; });
  b.transport->judge_again();
  EXPECT_TRUE(a.eventually([&] { return a.removals >= 2; }));
}

TEST(Identity, WhoIsOnlyNotListedIsCutOffAndMayComeAgain) {
  Pair group;
  ASSERT_TRUE(group.connect());
  group.b.transport->set_members(members_of({&group.b}));
  ASSERT_TRUE(group.a.eventually([&] { return group.a.unreachables[group.b.id()] > 0; }));
  ASSERT_TRUE(group.connect()) << "and is answered, too";
  EXPECT_EQ(group.a.locked([&] { return group.a.removals; }), 0);
}

// ------------------------------------------------------------ strangers

TEST(Strangers, AreDialledOnlyForAsLongAsTheyCall) {
  const Issuer issuer;
  const auto quick = [](GrpcTransportOptions& options) { options.redial_max = 50ms; };
  TestMember a(issuer, 1, {.node_id = "n1", .tune = quick});
  auto listed = std::make_unique<TestMember>(issuer, 2, TestMember::Settings{.node_id = "n2"});
  auto stranger = std::make_unique<TestMember>(issuer, 3, TestMember::Settings{.node_id = "n3"});
  a.transport->set_members(members_of({&a, listed.get()}));
  stranger->transport->set_members(members_of({&a, stranger.get()}));
  stranger->send(heartbeat(*stranger, a));
  ASSERT_TRUE(a.hears(heartbeat(*stranger, a)));
  const Message reply = heartbeat(a, *stranger, 8);
  a.send(reply);
  ASSERT_TRUE(stranger->hears(reply));
  const std::string theirs = stranger->address();
  const std::string known = listed->address();
  stranger.reset();
  listed.reset();
  // A message to somebody without lanes is lost at once.
  ASSERT_TRUE(a.eventually([&] { return a.goodbyes[MemberId{3}] > 0; }));
  while (!a.inbound()->address_of({3}).empty()) std::this_thread::yield();
  const auto after = [&](int dials) {
    const int from = a.locked([&] { return a.dials[known]; });
    EXPECT_TRUE(a.eventually([&] { return a.dials[known] >= from + dials; }));
    return a.locked([&] { return a.dials[theirs]; });
  };
  const int before = after(4);
  EXPECT_EQ(after(8), before);
}

// Calls that only stand there.
class IdleCall final : public InboundCall {
 public:
  void part(const std::optional<Notice>&, const grpc::Status&) override { ended = true; }
  void cancel() override { ended = true; }
  std::atomic<bool> ended = false;
};

struct Caller {
  Verdict come(TestMember& to, uint64_t id, const std::string& node_id) {
    security::Principal who;
    who.kind = security::Principal::Kind::kNode;
    who.manager = true;
    who.node_id = node_id;
    who.cluster_id = Issuer::cluster();
    return to.inbound()
        ->let_in({Issuer::cluster(), {id}, to.id(), "127.0.0.1:1"}, who, call)
        .verdict;
  }
  std::shared_ptr<IdleCall> call = std::make_shared<IdleCall>();
};

TEST(Strangers, ThatAreGoneKeepNobodyOut) {
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1"});
  std::vector<Caller> callers(100);
  for (uint64_t i = 0; i < callers.size(); ++i) {
    ASSERT_EQ(callers[i].come(a, 10 + i, fmt::format("s{}", i)), Verdict::kAccept) << i;
    a.inbound()->leave(callers[i].call);
  }
  // As many as that at once are no group.
  uint64_t in = 0;
  while (in < callers.size() &&
         callers[in].come(a, 10 + in, fmt::format("s{}", in)) == Verdict::kAccept) {
    ++in;
  }
  EXPECT_EQ(in, 32U);
  Caller leader;
  EXPECT_EQ(leader.come(a, 2, "n2"), Verdict::kRefused);
  a.inbound()->leave(callers[7].call);
  EXPECT_EQ(leader.come(a, 2, "n2"), Verdict::kAccept);
  EXPECT_EQ(a.inbound()->address_of({2}), "127.0.0.1:1");
}

TEST(Strangers, OneNodeHasOnlySoManyCallsWhoeverItSaysItIs) {
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1"});
  std::vector<Caller> callers(40);
  for (uint64_t i = 0; i < callers.size(); ++i) {
    ASSERT_EQ(callers[i].come(a, 10 + i, "s"), Verdict::kAccept);
  }
  for (uint64_t i = 0; i < callers.size(); ++i) {
    EXPECT_EQ(callers[i].call->ended, i < 32) << i;
    EXPECT_EQ(a.inbound()->address_of({10 + i}).empty(), i < 32) << i;
  }
}

TEST(Strangers, NobodyGivesWayToOneThatIsNotLetIn) {
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1"});
  std::vector<Caller> calls(8);
  for (Caller& call : calls) ASSERT_EQ(call.come(a, 10, "s"), Verdict::kAccept);
  std::vector<Caller> others(31);
  for (uint64_t i = 0; i < others.size(); ++i) {
    ASSERT_EQ(others[i].come(a, 20 + i, fmt::format("o{}", i)), Verdict::kAccept) << i;
  }
  Caller another;
  EXPECT_EQ(another.come(a, 99, "s"), Verdict::kRefused);
  for (const Caller& call : calls) EXPECT_FALSE(call.call->ended);
  // And it is still known.
  a.inbound()->cancel();
  for (const Caller& call : calls) EXPECT_TRUE(call.call->ended);
}

TEST(Strangers, OneTakesThePlaceOfAnotherOfTheSameNode) {
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1"});
  std::vector<Caller> calls(8), others(24);
  for (uint64_t i = 0; i < calls.size(); ++i) {
    ASSERT_EQ(calls[i].come(a, 10 + i, "s"), Verdict::kAccept) << i;
  }
  for (uint64_t i = 0; i < others.size(); ++i) {
    ASSERT_EQ(others[i].come(a, 20 + i, fmt::format("o{}", i)), Verdict::kAccept) << i;
  }
  Caller another;
  EXPECT_EQ(another.come(a, 99, "s"), Verdict::kAccept);
  EXPECT_TRUE(calls[0].call->ended);
  EXPECT_FALSE(calls[1].call->ended);
}

// ------------------------------------------------------------ ends of processes

TEST(Ends, AGoodbyeIsHeardByAllAndIsNoSuspicion) {
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1"});
  TestMember c(issuer, 3, {.node_id = "n3"});
  auto b = std::make_unique<TestMember>(issuer, 2, TestMember::Settings{.node_id = "n2"});
  const MemberId leaving = b->id();
  const Members members = members_of({&a, b.get(), &c});
  for (TestMember* member : {&a, b.get(), &c}) member->transport->set_members(members);
  // All lanes are in use.
  for (TestMember* member : {&a, &c}) {
    for (auto [from, to] : {std::pair{member, b.get()}, std::pair{b.get(), member}}) {
      from->send(heartbeat(*from, *to));
      from->send(append(*from, *to, 1));
      ASSERT_TRUE(to->hears(heartbeat(*from, *to)));
      ASSERT_TRUE(to->hears(append(*from, *to, 1)));
    }
  }
  const auto before = std::chrono::steady_clock::now();
  b->transport->stop();
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(15)) << "all heard it";
  b.reset();  // nobody listens there any more
  for (TestMember* member : {&a, &c}) {
    ASSERT_TRUE(member->eventually([&] { return member->goodbyes[leaving] > 0; }));
    // It is dialled again, in vain.
    Message m = heartbeat(*member, *member);
    m.to = leaving;
    member->send(m);
    ASSERT_TRUE(member->eventually([&] { return member->unreachables[leaving] > 0; }));
    EXPECT_TRUE(member->locked([&] { return member->vanishes.empty(); }));
    EXPECT_EQ(member->locked([&] { return member->goodbyes[leaving]; }), 1);
  }
}

TEST(Ends, AProcessThatIsGoneHasVanishedOnce) {
  Pair group;
  ASSERT_TRUE(group.connect());
  // Messages go before it is known here that the lane is open: then b would be heard of once more.
  ASSERT_TRUE(group.a.log->eventually("is open", 2));
  // As after kill -9: b's connections are reset, nobody listens, and none of its own come again,
  // for which this b, which lives, must find nobody either.
  group.a.link().reset(true);
  group.b.link().reset(true);
  ASSERT_TRUE(group.a.eventually([&] { return group.a.vanishes[group.b.id()] > 0; }));
  for (int i = 1; i <= 3; ++i) {
    const int before = group.a.locked([&] { return group.a.unreachables[group.b.id()]; });
    group.a.send(heartbeat(group.a, group.b));
    ASSERT_TRUE(group.a.eventually([&] { return group.a.unreachables[group.b.id()] > before; }));
  }
  EXPECT_EQ(group.a.locked([&] { return group.a.vanishes[group.b.id()]; }), 1);
  EXPECT_TRUE(group.a.locked([&] { return group.a.goodbyes.empty(); }));
}

TEST(Ends, ItsOwnStreamsToThisMemberAreEnoughToTell) {
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1"});
  TestMember b(issuer, 2, {.node_id = "n2"});
  // a has no lanes to b that could break: only b's to a.
  const Members members = members_of({&a, &b});
  b.transport->set_members(members);
  b.send(heartbeat(b, a));
  ASSERT_TRUE(a.hears(heartbeat(b, a)));
  b.link().reset(true);
  a.link().reset(true);
  EXPECT_TRUE(a.eventually([&] { return a.vanishes[b.id()] > 0; }));
}

TEST(Ends, LanesToItAreEnoughToTell) {
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1"});
  TestMember b(issuer, 2, {.node_id = "n2"});
  // b has no lanes to a.
  a.transport->set_members(members_of({&a, &b}));
  a.send(heartbeat(a, b));
  ASSERT_TRUE(b.hears(heartbeat(a, b)));
  // A lane of which nothing was heard yet tells nothing.
  ASSERT_TRUE(a.log->eventually("is open", 2));
  b.link().reset(true);
  EXPECT_TRUE(a.eventually([&] { return a.vanishes[b.id()] > 0; }));
}

TEST(Ends, AStrangerThatIsGoneIsTold) {
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1"});
  TestMember b(issuer, 2, {.node_id = "n2"});
  b.transport->set_members(members_of({&a, &b}));  // a knows nobody
  b.send(heartbeat(b, a));
  ASSERT_TRUE(a.hears(heartbeat(b, a)));
  b.link().reset(true);
  a.link().reset(true);
  EXPECT_TRUE(a.eventually([&] { return a.vanishes[b.id()] > 0; }));
}

// Of the two only a has lanes: its end goes out with them, b's comes back on them.
TEST(Ends, LanesOneWayCarryAGoodbyeBothWays) {
  for (const bool caller_ends : {true, false}) {
    const Issuer issuer;
    TestMember a(issuer, 1, {.node_id = "n1"});
    TestMember b(issuer, 2, {.node_id = "n2"});
    a.transport->set_members(members_of({&a, &b}));
    a.send(heartbeat(a, b));
    ASSERT_TRUE(b.hears(heartbeat(a, b)));
    TestMember& ends = caller_ends ? a : b;
    TestMember& stays = caller_ends ? b : a;
    ends.transport->stop();
    EXPECT_TRUE(stays.eventually([&] { return stays.goodbyes[ends.id()] > 0; })) << caller_ends;
    EXPECT_TRUE(stays.locked([&] { return stays.vanishes.empty(); }));
  }
}

TEST(Ends, ConnectionsThatBreakWhileTheProcessLivesAreNoSuspicion) {
  Pair group;
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(group.connect());
    // Every connection is made anew, with a new certificate.
    group.b.rotate_certificate();
    group.a.link().reset(false);
    group.b.link().reset(false);
    const Message beat = heartbeat(group.a, group.b, 50 + round);
    ASSERT_TRUE(group.a.eventually([&] { return group.a.unreachables[group.b.id()] > 2 * round; }));
  }
  ASSERT_TRUE(group.connect());
  for (TestMember* member : {&group.a, &group.b}) {
    EXPECT_TRUE(member->locked([&] { return member->vanishes.empty(); }));
    EXPECT_TRUE(member->locked([&] { return member->goodbyes.empty(); }));
  }
}

TEST(Ends, ALinkThatGoesSilentIsNoSuspicion) {
  Pair group;
  ASSERT_TRUE(group.connect());
  group.a.link().freeze();
  group.b.link().freeze();
  // Until gRPC has noticed, by its pings, on every lane.
  for (TestMember* member : {&group.a, &group.b}) {
    ASSERT_TRUE(member->eventually([&] {
      return !member->unreachables.empty() && member->unreachables.begin()->second >= 2;
    }));
  }
  group.a.link().freeze(false);
  group.b.link().freeze(false);
  ASSERT_TRUE(group.connect());
  for (TestMember* member : {&group.a, &group.b}) {
    EXPECT_TRUE(member->locked([&] { return member->vanishes.empty(); }));
  }
}

TEST(Ends, NothingIsToldAfterStop) {
  Pair group;
  ASSERT_TRUE(group.connect());
  group.a.transport->stop();
  const auto told = [&] {
    return group.a.locked([&] {
      return std::tuple(group.a.messages.size(), group.a.unreachables, group.a.goodbyes,
                        group.a.vanishes);
    });
  };
  const auto before = told();
  ASSERT_TRUE(group.b.eventually([&] { return group.b.goodbyes[group.a.id()] > 0; }));
  group.b.send(heartbeat(group.b, group.a, 99));
  group.a.send(heartbeat(group.a, group.b, 99));
  ASSERT_TRUE(group.b.eventually([&] { return group.b.unreachables[group.a.id()] > 0; }));
  EXPECT_EQ(told(), before);
}

}  // namespace
}  // namespace muster::raft
