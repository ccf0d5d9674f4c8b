#include "agent/session/session.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <algorithm>
#include <set>
#include <sstream>
#include <utility>
#include <vector>

#include "tests/agent/session/session_fixture.h"

namespace muster::agent {
namespace {

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

TEST_F(SessionTest, AManagerThatIsSlowIsGivenMoreTimeEachTime) {
  session_.start();
  std::vector<int64_t> asked_at;
  for (int second = 0; second < 120; ++second) {
    if (std::cmp_less(asked_at.size(), links_.opened)) asked_at.push_back(second);
    world_.advance(1s);
  }
  // After 5, 10 and 20 s, and every 20 from then on; between them the backoff.
  ASSERT_GE(asked_at.size(), 4u);
  EXPECT_LE(asked_at.size(), 7u);
  EXPECT_GE(asked_at[2] - asked_at[1], 10);
  EXPECT_GE(asked_at[3] - asked_at[2], 20);
  EXPECT_LE(asked_at[3] - asked_at[2], 26);
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

}  // namespace
}  // namespace muster::agent
