// How a session ends: the goodbye, and to whom.
#include <gtest/gtest.h>

#include "tests/agent/session/session_fixture.h"

namespace muster::agent {
namespace {

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

}  // namespace
}  // namespace muster::agent
