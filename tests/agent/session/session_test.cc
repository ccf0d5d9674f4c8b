#include "agent/session/session.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <algorithm>
#include <set>
#include <sstream>
#include <utility>
#include <vector>

#include "base/sim_executor.h"

namespace muster::agent {
namespace {

v1::FeedUpdate tasks_step(uint64_t base, uint64_t version, bool complete, bool last = true) {
  v1::FeedUpdate step;
  step.mutable_feed()->set_kind(v1::FeedId::TASKS);
  step.set_base_version(base);
  step.set_version(version);
  step.set_complete(complete);
  step.set_last(last);
  return step;
}

v1::TaskStatusUpdate running(const std::string& task) {
  v1::TaskStatusUpdate update;
  update.set_task_id(task);
  update.mutable_status()->set_state(v1::TASK_RUNNING);
  return update;
}

TEST(FeedAssembler, JoinsPartsUntilTheLast) {
  FeedAssembler assembler;
  v1::FeedUpdate part = tasks_step(0, 7, true, false);
  part.add_removed_task_ids("a");
  part.set_network("xy");
  EXPECT_FALSE(assembler.add(part)->has_value());
  part = tasks_step(0, 7, true, true);
  part.add_removed_task_ids("b");
  part.set_network("z");
  const auto whole = assembler.add(part);
  ASSERT_TRUE(whole && whole->has_value());
  EXPECT_EQ((*whole)->removed_task_ids_size(), 2);
  EXPECT_EQ((*whole)->network(), "xyz");
}

TEST(FeedAssembler, RefusesAnIncrementThatDoesNotFollow) {
  FeedAssembler assembler;
  EXPECT_FALSE(assembler.add(tasks_step(0, 5, false)));  // before anything complete
  ASSERT_TRUE(assembler.add(tasks_step(0, 5, true)));
  ASSERT_TRUE(assembler.add(tasks_step(5, 6, false)));
  EXPECT_FALSE(assembler.add(tasks_step(5, 7, false)));
}

TEST(FeedAssembler, FeedsHaveVersionsOfTheirOwn) {
  FeedAssembler assembler;
  ASSERT_TRUE(assembler.add(tasks_step(0, 5, true)));
  v1::FeedUpdate network = tasks_step(0, 9, true);
  network.mutable_feed()->set_kind(v1::FeedId::NETWORK);
  network.mutable_feed()->set_network_id("n1");
  ASSERT_TRUE(assembler.add(network));
  EXPECT_TRUE(assembler.add(tasks_step(5, 6, false)));
}

TEST(ReportQueue, TheLastStateOfATaskWinsAndOneBatchIsUnderWay) {
  ReportQueue queue;
  queue.add(running("a"));
  const auto first = queue.next();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->updates_size(), 1);
  queue.add(running("a"));
  queue.add(running("b"));
  EXPECT_FALSE(queue.next());
  queue.acknowledged(first->sequence());
  EXPECT_EQ(queue.next()->updates_size(), 2);
}

TEST(ReportQueue, WhatWasUnderWayIsSentAgainUnlessNewer) {
  ReportQueue queue;
  queue.add(running("a"));
  queue.add(running("b"));
  ASSERT_TRUE(queue.next());
  v1::TaskStatusUpdate newer = running("a");
  newer.mutable_status()->set_state(v1::TASK_FAILED);
  queue.add(newer);
  queue.reset();
  const auto again = queue.next();
  ASSERT_EQ(again->updates_size(), 2);
  EXPECT_EQ(again->updates(0).status().state(), v1::TASK_FAILED);
}

// A manager that the test plays by hand.
class FakeLinks final : public LinkFactory {
 public:
  struct Link final : ManagerLink {
    explicit Link(FakeLinks& owner) : owner(owner) {}
    ~Link() override { owner.live = nullptr; }
    void send(const v1::AgentMessage& message) override { owner.sent.push_back(message); }
    void close_after_writes() override { owner.closing = true; }
    FakeLinks& owner;
  };
  std::unique_ptr<ManagerLink> open(const std::string& address, LinkEvents e) override {
    events = std::move(e);
    ++opened;
    asked.push_back(address);
    auto link = std::make_unique<Link>(*this);
    live = link.get();
    return link;
  }
  void end(v1::SessionEnd::Reason reason, const std::vector<std::string>& managers = {}) {
    v1::ManagerMessage message;
    message.mutable_end()->set_reason(reason);
    message.mutable_end()->set_message("ended");
    for (const auto& address : managers) message.mutable_end()->add_manager_addrs(address);
    events.received(message);
  }
  void welcome(const std::vector<std::string>& managers = {}) {
    v1::ManagerMessage message;
    message.mutable_welcome()->set_session_id("s1");
    for (const auto& address : managers) message.mutable_welcome()->add_manager_addrs(address);
    message.mutable_welcome()->set_heartbeat_period_ns(Duration(1s).count());
    events.received(message);
  }
  int count(v1::AgentMessage::MessageCase kind) const {
    int n = 0;
    for (const auto& message : sent) n += message.message_case() == kind ? 1 : 0;
    return n;
  }

  LinkEvents events;
  Link* live = nullptr;
  int opened = 0;
  std::vector<std::string> asked;
  bool closing = false;
  std::vector<v1::AgentMessage> sent;
};

class RecordingSink final : public FeedSink {
 public:
  void apply(const v1::FeedUpdate& step) override { steps.push_back(step); }
  void node_removed(const std::string& why) override { removed = why; }
  void certificate_outdated(const std::string& why) override { outdated.push_back(why); }
  void identity_shared(const std::string& why) override { shared = why; }
  void no_session(const std::string& why) override { alone.push_back(why); }
  void managers_known(const std::vector<std::string>& addresses) override { managers = addresses; }
  std::vector<v1::FeedUpdate> steps;
  std::string removed;
  std::string shared;
  std::vector<std::string> outdated;
  std::vector<std::string> alone;
  std::vector<std::string> managers;
};

class SessionTest : public ::testing::Test {
 protected:
  explicit SessionTest(std::vector<std::string> managers = {"a:1"})
      : session_({strand_, links_, sink_, rng_, null_log()}, {}, managers) {}

  SimWorld world_;
  SimExecutor strand_{world_};
  FakeLinks links_;
  RecordingSink sink_;
  SeededRng rng_{1};
  Session session_;
};

class ManyManagers : public SessionTest {
 protected:
  ManyManagers() : SessionTest({"a:1", "b:1", "c:1"}) {}
  void SetUp() override { session_.start(); }
  // Of all that there are but one.
  bool other_than(const std::string& address) const {
    return !links_.asked.empty() && links_.asked.back() != address;
  }
};

TEST_F(SessionTest, ReportsWaitForTheWelcomeAndForTheAcknowledgement) {
  session_.start();
  session_.report(running("a"));
  EXPECT_EQ(links_.count(v1::AgentMessage::kStatuses), 0);
  links_.welcome();
  EXPECT_EQ(links_.count(v1::AgentMessage::kStatuses), 1);
  session_.report(running("b"));
  EXPECT_EQ(links_.count(v1::AgentMessage::kStatuses), 1);
  v1::ManagerMessage ack;
  ack.mutable_status_ack()->set_sequence(1);
  links_.events.received(ack);
  EXPECT_EQ(links_.count(v1::AgentMessage::kStatuses), 2);
}

TEST_F(SessionTest, WhatANodeIsFoundToBeWhileItsHelloIsUnderWayIsToldAfterTheWelcome) {
  session_.start();
  v1::NodeDescription description;
  description.add_limitations("port 80/tcp is taken by another program of this host");
  session_.describe(description);
  EXPECT_EQ(links_.count(v1::AgentMessage::kDescription), 0);
  links_.welcome();
  ASSERT_EQ(links_.count(v1::AgentMessage::kDescription), 1);
  EXPECT_EQ(links_.sent.back().description().limitations_size(), 1);
  // The next hello has it.
  links_.events.closed(unavailable("gone"));
  world_.advance(100ms);
  links_.welcome();
  EXPECT_EQ(links_.count(v1::AgentMessage::kDescription), 1);
}

TEST_F(SessionTest, WhatIsCarriedOutWhileAHelloIsUnderWayIsAcknowledgedAfterTheWelcome) {
  v1::FeedId feed;
  feed.set_kind(v1::FeedId::NETWORK);
  feed.set_network_id("n1");
  session_.applied(feed, 6);
  session_.start();
  EXPECT_EQ(links_.sent.back().hello().applied_size(), 1);
  session_.applied(feed, 7);
  v1::FeedId left = feed;
  left.set_network_id("n2");
  session_.applied(left, 7);
  session_.forgotten(left);
  EXPECT_EQ(links_.count(v1::AgentMessage::kAck), 0);
  links_.welcome();
  ASSERT_EQ(links_.count(v1::AgentMessage::kAck), 1);
  EXPECT_EQ(links_.sent.back().ack().version(), 7u);
  // The next hello has it.
  links_.events.closed(unavailable("gone"));
  world_.advance(100ms);
  links_.welcome();
  EXPECT_EQ(links_.count(v1::AgentMessage::kAck), 1);
}

TEST_F(SessionTest, ABrokenLinkIsReopenedAndUnacknowledgedReportsAreRepeated) {
  session_.start();
  links_.welcome();
  session_.report(running("a"));
  links_.events.closed(unavailable("gone"));
  EXPECT_FALSE(session_.established());
  world_.advance(100ms);
  EXPECT_EQ(links_.opened, 2);
  links_.welcome();
  EXPECT_EQ(links_.count(v1::AgentMessage::kStatuses), 2);
}

TEST_F(SessionTest, BackoffGrowsToItsCapWhileNobodyAnswers) {
  session_.start();
  for (int i = 0; i < 200; ++i) {
    if (links_.live != nullptr) links_.events.closed(unavailable("refused"));
    world_.advance(1s);
  }
  EXPECT_GT(links_.opened, 200 / 8);
  EXPECT_LT(links_.opened, 200 / 4 + 12);
}

TEST_F(SessionTest, ThatNobodyServesIsSaidAfterAWhileAndTakenBack) {
  session_.start();
  const auto refuse_for = [&](Duration time) {
    for (const TimePoint end = world_.now() + time; world_.now() < end; world_.advance(100ms)) {
      if (links_.live != nullptr) links_.events.closed(unavailable("refused"));
    }
  };
  refuse_for(Session::kAloneAfter - 100ms);
  EXPECT_TRUE(sink_.alone.empty());
  refuse_for(10s);
  ASSERT_FALSE(sink_.alone.empty());
  EXPECT_EQ(sink_.alone.back(), "a:1: refused");
  const auto serve = [&] {
    for (links_.asked.clear(); links_.asked.empty();) world_.advance(100ms);
    links_.welcome();
  };
  serve();
  EXPECT_EQ(sink_.alone.back(), "");
  // A session that ends and begins is no news.
  sink_.alone.clear();
  links_.events.closed(unavailable("reset"));
  serve();
  EXPECT_TRUE(sink_.alone.empty());
}

TEST_F(SessionTest, ASilentManagerIsGivenUp) {
  session_.start();
  links_.welcome();
  world_.advance(7s);
  EXPECT_GE(links_.opened, 2);
}

TEST_F(SessionTest, FeedsAreAppliedAndAcknowledged) {
  session_.start();
  links_.welcome();
  v1::ManagerMessage message;
  *message.mutable_feed() = tasks_step(0, 4, true);
  message.mutable_feed()->mutable_feed()->set_kind(v1::FeedId::SECRETS);
  links_.events.received(message);
  ASSERT_EQ(sink_.steps.size(), 1u);
  EXPECT_EQ(links_.sent.back().ack().version(), 4u);
}

TEST_F(SessionTest, ANetworkIsAcknowledgedOnlyWhenItIsInForce) {
  session_.start();
  links_.welcome();
  v1::ManagerMessage message;
  v1::FeedUpdate& step = *message.mutable_feed();
  step = tasks_step(0, 4, true);
  step.mutable_feed()->set_kind(v1::FeedId::NETWORK);
  step.mutable_feed()->set_network_id("n1");
  links_.events.received(message);
  ASSERT_EQ(sink_.steps.size(), 1u);
  EXPECT_EQ(links_.count(v1::AgentMessage::kAck), 0);
  session_.applied(step.feed(), 4);
  ASSERT_EQ(links_.count(v1::AgentMessage::kAck), 1);
  EXPECT_EQ(links_.sent.back().ack().feed().network_id(), "n1");
  EXPECT_EQ(links_.sent.back().ack().version(), 4u);
  // The next manager is told of what is in force, also of what came so far only after the session
  // had ended; not of what is not.
  message.mutable_feed()->set_complete(false);
  message.mutable_feed()->set_base_version(4);
  message.mutable_feed()->set_version(5);
  links_.events.received(message);
  links_.events.closed(unavailable("gone"));
  const auto applied = [&] {
    for (links_.sent.clear(); links_.sent.empty();) world_.advance(10ms);
    std::vector<uint64_t> out;
    for (const auto& ack : links_.sent.back().hello().applied()) out.push_back(ack.version());
    return out;
  };
  EXPECT_EQ(applied(), std::vector<uint64_t>{4});
  session_.applied(step.feed(), 5);  // there is no welcome yet
  EXPECT_EQ(links_.count(v1::AgentMessage::kAck), 0);
  links_.events.closed(unavailable("gone"));
  EXPECT_EQ(applied(), std::vector<uint64_t>{5});
  session_.forgotten(step.feed());
  links_.events.closed(unavailable("gone"));
  EXPECT_TRUE(applied().empty());
}

TEST_F(SessionTest, ARemovedNodeDoesNotComeBack) {
  session_.start();
  links_.welcome();
  v1::ManagerMessage message;
  message.mutable_end()->set_reason(v1::SessionEnd::NODE_REMOVED);
  message.mutable_end()->set_message("removed");
  links_.events.received(message);
  links_.events.closed(unavailable("closed"));
  world_.advance(1min);
  EXPECT_EQ(sink_.removed, "removed");
  EXPECT_EQ(links_.opened, 1);
}

TEST_F(SessionTest, StopSaysGoodbyeAndEndsWithinASecond) {
  session_.start();
  links_.welcome();
  bool done = false;
  session_.stop(v1::Goodbye::RESTART, [&] { done = true; });
  EXPECT_EQ(links_.count(v1::AgentMessage::kGoodbye), 1);
  EXPECT_TRUE(links_.closing);
  EXPECT_FALSE(done);
  world_.advance(1s);
  EXPECT_TRUE(done);
}

TEST_F(SessionTest, StoppedAgainItHasNothingMoreToSay) {
  session_.start();
  links_.welcome();
  int done = 0;
  session_.stop(v1::Goodbye::LEAVE, [&] { ++done; });
  world_.advance(1s);
  ASSERT_EQ(done, 1);
  session_.stop(v1::Goodbye::RESTART, [&] { ++done; });
  world_.advance(1s);
  EXPECT_EQ(done, 2);
  EXPECT_EQ(links_.count(v1::AgentMessage::kGoodbye), 1);
}

// The next leader waits with what drains for nodes that have not come to it yet.
TEST_F(ManyManagers, WhoStopsWhileTheLeaderChangesSaysGoodbyeToTheNextOne) {
  links_.welcome();
  links_.end(v1::SessionEnd::NOT_LEADER);
  bool done = false;
  session_.stop(v1::Goodbye::RESTART, [&] { done = true; });
  ASSERT_EQ(links_.opened, 2) << "at once";
  // The one that was not asked yet: who declined a moment ago is no leader.
  std::string leader;
  for (const char* each : {"a:1", "b:1", "c:1"}) {
    if (std::count(links_.asked.begin(), links_.asked.end(), each) == 0) leader = each;
  }
  links_.end(v1::SessionEnd::NOT_LEADER, {leader});
  world_.advance(10ms);
  ASSERT_EQ(links_.opened, 3);
  EXPECT_EQ(links_.asked.back(), leader);
  EXPECT_EQ(links_.count(v1::AgentMessage::kGoodbye), 0);
  EXPECT_FALSE(done);
  links_.welcome();
  EXPECT_EQ(links_.count(v1::AgentMessage::kGoodbye), 1);
  EXPECT_TRUE(links_.closing);
  v1::ManagerMessage feed;
  *feed.mutable_feed() = tasks_step(0, 5, true);
  links_.events.received(feed);
  EXPECT_TRUE(sink_.steps.empty()) << "nothing is begun any more";
  links_.events.closed(unavailable("closed"));
  EXPECT_TRUE(done);
  world_.advance(10s);
  EXPECT_EQ(links_.opened, 3);
}

TEST_F(ManyManagers, OneThatFindsNoLeaderToSayGoodbyeToStopsAllTheSame) {
  links_.welcome();
  links_.events.closed(unavailable("reset"));
  bool done = false;
  session_.stop(v1::Goodbye::RESTART, [&] { done = true; });
  for (int i = 0; i < 9; ++i) {
    links_.events.closed(unavailable("reset"));
    world_.advance(100ms);
  }
  EXPECT_FALSE(done);
  world_.advance(100ms);
  EXPECT_TRUE(done);
  const int opened = links_.opened;
  world_.advance(10s);
  EXPECT_EQ(links_.opened, opened);
}

TEST_F(ManyManagers, OneThatTheManagersDoNotWantHasNoGoodbyeToSay) {
  links_.welcome();
  links_.end(v1::SessionEnd::NOT_LEADER);
  bool done = false;
  session_.stop(v1::Goodbye::RESTART, [&] { done = true; });
  links_.end(v1::SessionEnd::NODE_REMOVED);
  EXPECT_TRUE(done);
  EXPECT_EQ(sink_.removed, "");
}

TEST_F(ManyManagers, WhoHasLongBeenAloneStopsAtOnce) {
  links_.welcome();
  links_.events.closed(unavailable("reset"));
  for (int i = 0; i < 12; ++i) {
    links_.events.closed(unavailable("reset"));
    world_.advance(100ms);
  }
  bool done = false;
  session_.stop(v1::Goodbye::RESTART, [&] { done = true; });
  EXPECT_TRUE(done);
}

TEST_F(ManyManagers, AnotherOneIsFoundWithinASecondOfALoss) {
  links_.welcome();
  const std::string first = links_.asked.back();
  links_.events.closed(unavailable("reset"));
  world_.advance(300ms);
  EXPECT_EQ(links_.opened, 2);
  EXPECT_TRUE(other_than(first));
  // That one does not answer at all: the third gets its turn a second later.
  const std::string second = links_.asked.back();
  world_.advance(1050ms);
  EXPECT_EQ(links_.opened, 3);
  EXPECT_TRUE(other_than(first) && other_than(second));
}

TEST_F(ManyManagers, EachRefusalLeadsToTheNextAtOnce) {
  for (int i = 0; i < 2; ++i) {
    links_.events.closed(unavailable("refused"));
    world_.advance(0ms);
  }
  EXPECT_EQ(links_.opened, 3);
  EXPECT_EQ(std::set(links_.asked.begin(), links_.asked.end()).size(), 3u);
}

TEST_F(ManyManagers, OneThatIsGoneIsAskedLessAndLess) {
  // Somebody always answers; "a:1" never does.
  int asked_in_vain = 0;
  for (int i = 0; i < 600; ++i) {
    if (links_.asked.back() == "a:1") {
      ++asked_in_vain;
      links_.events.closed(unavailable("refused"));
    } else {
      links_.welcome();
      links_.events.closed(unavailable("reset"));
    }
    world_.advance(1s);
  }
  EXPECT_GT(asked_in_vain, 20);
  EXPECT_LT(asked_in_vain, 250);
}

TEST_F(ManyManagers, WhoeverDoesNotLeadIsLeftForTheLeaderAtOnce) {
  links_.end(v1::SessionEnd::NOT_LEADER, {"leader:1", "b:1"});
  world_.advance(0ms);
  EXPECT_EQ(links_.asked.back(), "leader:1");
  EXPECT_EQ(sink_.managers.size(), 4u);
}

TEST_F(ManyManagers, TwoThatNameEachOtherAreNotAskedWithoutPause) {
  for (int i = 0; i < 100; ++i) {
    const std::string other = links_.asked.back() == "a:1" ? "b:1" : "a:1";
    links_.end(v1::SessionEnd::NOT_LEADER, {other});
    world_.advance(10ms);
  }
  EXPECT_LT(links_.opened, 30);
}

TEST_F(ManyManagers, OneThatAnswersIsAskedAgainInAnEighthOfTheTimeNobodyLed) {
  // "a:1" answers, the others are dark.
  for (const int outage_ms : {2000, 8000, 24'000, 120'000}) {
    SCOPED_TRACE(outage_ms);
    for (int i = 0; i < outage_ms || links_.asked.back() == "a:1"; ++i) {
      if (links_.asked.back() == "a:1") links_.end(v1::SessionEnd::NOT_LEADER);
      world_.advance(1ms);
    }
    // It leads at last.
    int waited = 0;
    for (; links_.asked.back() != "a:1" && waited < 20'000; ++waited) world_.advance(1ms);
    EXPECT_LE(waited, std::clamp(outage_ms / 8, 300, 5000) + 1050)
        << "ms, with the patience for one that is dark";
    links_.welcome();
    links_.events.closed(unavailable("reset"));
  }
}

// How soon who leads at last is asked: by itself, and when the others name it.
TEST_F(ManyManagers, WhoLeadsAgainIsFoundTheSoonerTheShorterNobodyDid) {
  for (const bool named : {true, false}) {
    for (const int outage_ms : {500, 2000, 8000, 24'000, 120'000}) {
      SCOPED_TRACE(fmt::format("{} ms, named: {}", outage_ms, named));
      for (int i = 0; i < outage_ms || links_.asked.back() == "a:1"; ++i) {
        links_.end(v1::SessionEnd::NOT_LEADER);
        world_.advance(1ms);
      }
      int waited = 0;
      for (; links_.asked.back() != "a:1" && waited < 60'000; ++waited) {
        links_.end(v1::SessionEnd::NOT_LEADER,
                   named ? std::vector<std::string>{"a:1"} : std::vector<std::string>{});
        world_.advance(1ms);
      }
      const int all_once = std::clamp(outage_ms / 8, 300, 5000);
      EXPECT_LE(waited, named ? all_once * 3 / 2 : all_once * 3);
      links_.welcome();
      links_.events.closed(unavailable("reset"));
    }
  }
}

TEST_F(ManyManagers, WhileNobodyLeadsTheyAreAskedInTurnsLessAndLess) {
  const auto asked_in = [&](int seconds) {
    const int before = links_.opened;
    for (int i = 0; i < seconds * 100; ++i) {
      links_.end(v1::SessionEnd::NOT_LEADER);
      world_.advance(10ms);
    }
    return links_.opened - before;
  };
  const int at_first = asked_in(2);
  EXPECT_GE(at_first, 7);
  EXPECT_LE(at_first, 25);
  asked_in(60);
  const int later = asked_in(60);
  EXPECT_GE(later, 60 / 5);
  EXPECT_LE(later, 25);
  // A manager that nobody knew is news: it is as it was in the beginning.
  for (int i = 0; i < 10'000 && links_.asked.back() != "d:1"; ++i) {
    links_.end(v1::SessionEnd::NOT_LEADER, {"d:1"});
    world_.advance(1ms);
  }
  EXPECT_GE(asked_in(10), 12);
}

// As many lines as there are managers, however long nobody leads; and again after a session.
TEST(SessionLog, AManagerWithoutASessionIsSaidOnce) {
  std::ostringstream text;
  const Log log = std::make_shared<spdlog::logger>(
      "session", std::make_shared<spdlog::sinks::ostream_sink_st>(text));
  SimWorld world;
  SimExecutor strand(world);
  FakeLinks links;
  RecordingSink sink;
  SeededRng rng(1);
  Session session({strand, links, sink, rng, log}, {}, {"a:1", "b:1", "c:1"});
  session.start();
  const auto lines = [&] {
    for (int i = 0; i < 30'000; ++i) {
      links.end(v1::SessionEnd::NOT_LEADER);
      world.advance(1ms);
    }
    const std::string all = std::exchange(text, std::ostringstream()).str();
    size_t count = 0;
    for (size_t at = all.find("no session with"); at != std::string::npos;
         at = all.find("no session with", at + 1)) {
      ++count;
    }
    return count;
  };
  EXPECT_EQ(lines(), 3U);
  EXPECT_EQ(lines(), 0U);
  links.asked.clear();
  while (links.asked.empty()) world.advance(1ms);
  links.events.closed(Status(StatusCode::kUnauthenticated, "its certificate has ended"));
  EXPECT_EQ(lines(), 1U) << "another reason is said, too";
  links.asked.clear();
  while (links.asked.empty()) world.advance(1ms);
  links.welcome();
  links.events.closed(unavailable("reset"));
  EXPECT_EQ(lines(), 3U);
}

TEST_F(ManyManagers, TheLeaderIsAskedAtOnceHoweverOftenItDidNotAnswer) {
  int opened = 0;
  for (int i = 0; i < 6000 || links_.opened == opened || links_.asked.back() != "a:1"; ++i) {
    if (std::exchange(opened, links_.opened) != links_.opened) {
      links_.events.closed(unavailable("refused"));
    }
    world_.advance(10ms);
  }
  opened = links_.opened;
  links_.end(v1::SessionEnd::NOT_LEADER, {"b:1", "c:1"});
  world_.advance(0ms);
  EXPECT_EQ(links_.opened, opened + 1);
  EXPECT_EQ(links_.asked.back(), "b:1");
}

TEST_F(ManyManagers, SessionsThatEndTogetherMoveOneAfterTheOther) {
  for (const auto reason : {v1::SessionEnd::NOT_LEADER, v1::SessionEnd::SHUTTING_DOWN}) {
    std::set<int64_t> moments;
    for (int i = 0; i < 20; ++i) {
      links_.welcome();
      const int opened = links_.opened;
      const TimePoint ended = world_.now();
      links_.end(reason, {i % 2 == 0 ? "d:1" : "e:1"});
      while (links_.opened == opened) world_.advance(1ms);
      EXPECT_EQ(links_.asked.back(), i % 2 == 0 ? "d:1" : "e:1");
      EXPECT_LE(world_.now() - ended, 300ms);
      moments.insert((world_.now() - ended) / 1ms);
    }
    EXPECT_GT(moments.size(), 10u);
  }
}

TEST_F(ManyManagers, TheListIsWhatManagersSay) {
  const std::string first = links_.asked.back();
  links_.welcome({"d:1", "e:1"});
  // The one in use stays: it is reached by an address that managers may not know.
  EXPECT_EQ(std::set(sink_.managers.begin(), sink_.managers.end()),
            (std::set<std::string>{first, "d:1", "e:1"}));
  v1::ManagerMessage message;
  *message.mutable_feed() = tasks_step(0, 1, true);
  message.mutable_feed()->mutable_feed()->set_kind(v1::FeedId::CLUSTER);
  message.mutable_feed()->mutable_cluster()->add_manager_addrs("f:1");
  links_.events.received(message);
  EXPECT_EQ(std::set(sink_.managers.begin(), sink_.managers.end()),
            (std::set<std::string>{first, "f:1"}));
  links_.events.closed(unavailable("reset"));
  world_.advance(300ms);
  EXPECT_EQ(links_.asked.back(), "f:1");
}

TEST_F(ManyManagers, AChangedRoleAsksForACertificateAndGoesOn) {
  links_.welcome();
  links_.end(v1::SessionEnd::ROLE_CHANGED);
  EXPECT_EQ(sink_.outdated.size(), 1u);
  session_.renew();
  world_.advance(0ms);
  EXPECT_EQ(links_.opened, 2);
  links_.events.closed(Status(StatusCode::kUnauthenticated, "expired"));
  EXPECT_EQ(sink_.outdated.size(), 2u);
  world_.advance(1s);
  EXPECT_GE(links_.opened, 3);
}

TEST_F(ManyManagers, TwoWithOneIdentityDoNotFightForTheSession) {
  for (int i = 0; i < 60; ++i) {
    if (links_.live != nullptr) {
      links_.welcome();
      links_.end(v1::SessionEnd::REPLACED);
    }
    world_.advance(1s);
  }
  EXPECT_LE(links_.opened, 7);
  EXPECT_FALSE(sink_.shared.empty());
}

TEST_F(ManyManagers, OneThatIsRefusedForAnotherHostSaysSoAndComesSeldom) {
  for (int i = 0; i < 90; ++i) {
    if (links_.live != nullptr) links_.end(v1::SessionEnd::REPLACED);
    world_.advance(1s);
  }
  EXPECT_LE(links_.opened, 4);
  EXPECT_FALSE(sink_.shared.empty());
  for (const int before = links_.opened; links_.opened == before;) world_.advance(1s);
  links_.welcome();
  EXPECT_TRUE(sink_.shared.empty()) << "it has the session";
}

TEST_F(ManyManagers, OnlyItsOwnSessionIsGoneOnWith) {
  links_.welcome();
  session_.renew();
  world_.advance(0ms);
  EXPECT_EQ(links_.sent.back().hello().session_id(), "s1");
  links_.welcome();
  links_.end(v1::SessionEnd::REPLACED);
  world_.advance(10500ms);
  ASSERT_EQ(links_.opened, 3);
  EXPECT_EQ(links_.sent.back().hello().session_id(), "");
}

TEST(ManagerList, OrderDiffersFromNodeToNode) {
  std::set<std::string> first;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SeededRng rng(seed);
    first.insert(ManagerList({"a", "b", "c"}, rng).next({})->address);
  }
  EXPECT_EQ(first.size(), 3u);
}

TEST(ManagerList, BackoffDoublesToItsCapAndIsForgottenWithSuccess) {
  SeededRng rng(1);
  ManagerList list({"a"}, rng);
  Duration cap = ManagerList::kBackoffMin;
  for (int i = 0; i < 12; ++i) {
    list.failed("a", {}, rng);
    const Duration wait = list.next({})->not_before.since_start;
    EXPECT_GE(wait, cap / 2);
    EXPECT_LE(wait, cap);
    cap = std::min(cap * 2, ManagerList::kBackoffMax);
  }
  list.succeeded("a");
  EXPECT_EQ(list.next({})->not_before, TimePoint{});
}

TEST(ManagerList, OneThatDeclinedIsAskedSoonerWhenItIsSaidToLead) {
  SeededRng rng(1);
  ManagerList list({"a", "b", "c"}, rng);
  TimePoint now;
  for (int i = 0; i < 20; ++i) {
    now = now + 10s;
    for (const char* address : {"a", "b", "c"}) list.declined(address, now, rng);
  }
  EXPECT_GE(list.next(now)->not_before - now, ManagerList::kDeclinedMax * 3 / 2);
  EXPECT_FALSE(list.prefer({"b"}));
  EXPECT_EQ(list.next(now)->address, "b");
  EXPECT_EQ(list.next(now)->not_before - now, ManagerList::kDeclinedMax / 2);
}

TEST(ManagerList, ReplacingKeepsWhatIsKnownOfThoseThatStay) {
  SeededRng rng(1);
  ManagerList list({"a", "b"}, rng);
  list.failed("a", {}, rng);
  EXPECT_TRUE(list.replace({"a", "c", "c", ""}, {}, rng));
  EXPECT_EQ(list.size(), 2u);
  EXPECT_EQ(list.failures("a"), 1);
  EXPECT_FALSE(list.replace({"c", "a"}, {}, rng));
}

}  // namespace
}  // namespace muster::agent
