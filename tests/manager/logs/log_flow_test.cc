#include "manager/logs/log_flow.h"

#include <gtest/gtest.h>

#include <string>

namespace muster::manager::logs {
namespace {

constexpr TimePoint kStart{};
constexpr WallTime kWall{1'000'000'000'000};

v1::LogLine line(const std::string& task, int64_t time_ns, const std::string& text) {
  v1::LogLine out;
  out.set_task_id(task);
  out.set_time_ns(time_ns);
  out.set_line(text);
  return out;
}

v1::LogPublish lines(std::vector<v1::LogLine> all, bool current = false, bool end = false) {
  v1::LogPublish out;
  for (auto& one : all) *out.add_lines() = std::move(one);
  out.set_current(current || end);
  out.set_end(end);
  return out;
}

// What a client sees: lines, then what is missing.
std::string text(const v1::ServiceLogsResponse& response) {
  std::string out;
  for (const auto& one : response.lines()) out += one.line();
  for (const auto& missing : response.missing()) {
    out += "[" + missing.hostname() + ": " + missing.reason() + "]";
  }
  return out;
}

class LogFlowTest : public ::testing::Test {
 protected:
  LogFlowTest() {
    view_.tasks = {{"t1", "n1", true, false}, {"t2", "n2", true, false}};
    view_.nodes["n1"] = {"host1", false, ""};
    view_.nodes["n2"] = {"host2", false, ""};
  }
  LogFlow flow(bool follow, std::optional<int64_t> tail = std::nullopt) {
    v1::ServiceLogsRequest request;
    request.set_follow(follow);
    if (tail) request.set_tail(*tail);
    return LogFlow("sub", request, {{"s1"}, {}}, kStart, kWall);
  }
  std::string take(LogFlow& flow, TimePoint now) { return text(flow.take(now, 1 << 20)); }

  FlowView view_;
};

TEST_F(LogFlowTest, AsksEveryNodeAndEndsWhenAllHaveEnded) {
  LogFlow flow = this->flow(false, 5);
  EXPECT_FALSE(flow.finished());
  flow.look(view_, kStart);
  const auto asks = flow.take_asks();
  ASSERT_EQ(asks.size(), 2U);
  EXPECT_EQ(asks[0].node_id, "n1");
  EXPECT_EQ(asks[0].subscription.id(), "sub");
  EXPECT_EQ(asks[0].subscription.service_ids(0), "s1");
  EXPECT_EQ(asks[0].subscription.task_ids(0), "t1");
  EXPECT_EQ(asks[0].subscription.tail(), 5);
  EXPECT_FALSE(asks[0].subscription.follow());
  EXPECT_TRUE(flow.opened("n1", kStart));
  EXPECT_TRUE(flow.opened("n2", kStart));
  EXPECT_FALSE(flow.opened("n3", kStart));
  flow.received("n1", lines({line("t1", 2, "b"), line("t1", 3, "c")}, true, true), kStart);
  EXPECT_EQ(take(flow, kStart), "");
  flow.received("n2", lines({line("t2", 1, "a")}, true, true), kStart);
  EXPECT_FALSE(flow.finished());
  EXPECT_EQ(take(flow, kStart), "abc");
  EXPECT_TRUE(flow.finished());
}

TEST_F(LogFlowTest, ANodeSpeaksForItsOwnTasksAlone) {
  LogFlow flow = this->flow(true);
  flow.look(view_, kStart);
  ASSERT_TRUE(flow.opened("n1", kStart));
  ASSERT_TRUE(flow.opened("n2", kStart));
  v1::LogPublish published =
      lines({line("t1", 1, "a"), line("t2", 2, "forged"), line("t9", 3, "unheard of")}, true);
  published.add_tasks()->set_task_id("t2");
  flow.received("n1", std::move(published), kStart);
  flow.received("n2", lines({line("t2", 2, "b")}, true), kStart);
  const auto answer = flow.take(kStart + 1s, 1 << 20);
  EXPECT_EQ(text(answer), "ab");
  EXPECT_EQ(answer.tasks_size(), 0);
  // What a task has left may still come when the task itself was collected.
  view_.tasks.erase(view_.tasks.begin());
  flow.look(view_, kStart + 1s);
  flow.received("n1", lines({line("t1", 4, "c"), line("t2", 5, "forged")}, true), kStart + 1s);
  EXPECT_EQ(take(flow, kStart + 3s), "c");
}

TEST_F(LogFlowTest, ADownNodeIsMissingAtOnce) {
  view_.nodes["n2"] = {"host2", true, "heartbeat failure"};
  LogFlow flow = this->flow(false);
  flow.look(view_, kStart);
  EXPECT_EQ(flow.take_asks().size(), 1U);
  const auto answer = flow.take(kStart, 1 << 20);
  ASSERT_EQ(answer.missing_size(), 1);
  EXPECT_EQ(answer.missing(0).node_id(), "n2");
  EXPECT_EQ(answer.missing(0).task_ids(0), "t2");
  EXPECT_EQ(answer.missing(0).reason(), "the node is down: heartbeat failure");
  flow.opened("n1", kStart);
  flow.received("n1", lines({line("t1", 2, "b")}, true, true), kStart);
  EXPECT_EQ(take(flow, kStart), "b");
  EXPECT_TRUE(flow.finished());
}

TEST_F(LogFlowTest, ANodeThatDoesNotAnswerIsAskedAgainAndGivenUp) {
  LogFlow flow = this->flow(false);
  flow.look(view_, kStart);
  flow.take_asks();
  flow.opened("n1", kStart);
  flow.received("n1", lines({line("t1", 2, "b")}, true, true), kStart);
  TimePoint now = kStart;
  int asked = 0;
  while (now < kStart + LogFlow::kSilenceMax) {
    ASSERT_TRUE(flow.wake_at(true).has_value());
    now = *flow.wake_at(true);
    flow.tick(now);
    asked += static_cast<int>(flow.take_asks().size());
    if (now < kStart + LogFlow::kSilenceMax) {
      EXPECT_EQ(take(flow, now), "");
    }
  }
  EXPECT_EQ(now, kStart + LogFlow::kSilenceMax);
  EXPECT_EQ(asked, 9);
  EXPECT_EQ(take(flow, now), "b[host2: the node did not answer within 10s]");
  EXPECT_EQ(flow.take_cancels(), std::vector<std::string>{"n2"});
  EXPECT_TRUE(flow.finished());
  EXPECT_FALSE(flow.opened("n2", now));
}

TEST_F(LogFlowTest, ASignOfLifePutsTheEndOff) {
  LogFlow flow = this->flow(false);
  flow.look(view_, kStart);
  flow.opened("n1", kStart);
  flow.opened("n2", kStart);
  flow.received("n2", lines({}, false, true), kStart);
  flow.received("n1", {}, kStart + 9s);
  flow.tick(kStart + 18s);
  EXPECT_EQ(take(flow, kStart + 18s), "");
  flow.tick(kStart + 19s);
  EXPECT_EQ(take(flow, kStart + 19s), "[host1: the node has been silent for 10s]");
  EXPECT_TRUE(flow.finished());
}

TEST_F(LogFlowTest, ASlowClientMakesNoNodeSilent) {
  LogFlow flow = this->flow(false);
  flow.look(view_, kStart);
  flow.opened("n1", kStart);
  flow.opened("n2", kStart);
  flow.received("n2", lines({}, false, true), kStart);
  EXPECT_TRUE(flow.wants_more("n1"));
  flow.received("n1", lines({line("t1", 1, std::string(LineMerge::kLowWaterBytes, 'x'))}), kStart);
  EXPECT_FALSE(flow.wants_more("n1"));
  // Nobody takes anything for an hour, and nothing is due meanwhile.
  EXPECT_FALSE(flow.wake_at(false).has_value());
  flow.tick(kStart + 1h);
  EXPECT_EQ(take(flow, kStart + 1h).size(), LineMerge::kLowWaterBytes);
  EXPECT_TRUE(flow.wants_more("n1"));
  flow.received("n1", lines({line("t1", 2, "end")}, true, true), kStart + 1h + 5s);
  EXPECT_EQ(take(flow, kStart + 1h + 5s), "end");
  EXPECT_TRUE(flow.finished());
}

TEST_F(LogFlowTest, AStreamThatBreaksIsResumedWithoutLossOrRepetition) {
  LogFlow flow = this->flow(true, 10);
  view_.tasks = {{"t1", "n1", true, false}, {"t9", "n1", true, false}};
  flow.look(view_, kStart);
  flow.take_asks();
  flow.opened("n1", kStart);
  flow.received(
      "n1",
      lines({line("t1", 5, "a"), line("t9", 6, "b"), line("t1", 7, "c"), line("t1", 7, "d")}, true),
      kStart);
  EXPECT_EQ(take(flow, kStart), "abcd");
  flow.closed("n1", kStart + 1s);
  flow.tick(kStart + 2s);
  const auto asks = flow.take_asks();
  ASSERT_EQ(asks.size(), 1U);
  EXPECT_EQ(asks[0].subscription.since_ns(), 6);
  EXPECT_FALSE(asks[0].subscription.has_tail());
  EXPECT_TRUE(flow.opened("n1", kStart + 2s));
  flow.received("n1",
                lines({line("t9", 6, "b"), line("t1", 7, "c"), line("t1", 7, "d"),
                       line("t1", 7, "e"), line("t9", 8, "f"), line("t1", 9, "g")},
                      true),
                kStart + 2s);
  EXPECT_EQ(take(flow, kStart + 2s), "efg");
}

TEST_F(LogFlowTest, FollowingOutlivesTheLossOfANode) {
  LogFlow flow = this->flow(true);
  flow.look(view_, kStart);
  flow.take_asks();
  for (const char* node : {"n1", "n2"}) {
    flow.opened(node, kStart);
    flow.received(node, lines({}, true), kStart);
  }
  view_.nodes["n2"].down = true;
  view_.nodes["n2"].why = "left";
  flow.look(view_, kStart + 1s);
  EXPECT_EQ(take(flow, kStart + 1s), "[host2: the node is down: left]");
  flow.received("n1", lines({line("t1", 5, "a")}, true), kStart + 2s);
  EXPECT_EQ(take(flow, kStart + 2s), "a");
  EXPECT_FALSE(flow.finished());
  // It comes back and is asked for what it wrote since.
  view_.nodes["n2"].down = false;
  flow.look(view_, kStart + 1min);
  const auto asks = flow.take_asks();
  ASSERT_EQ(asks.size(), 1U);
  EXPECT_EQ(asks[0].node_id, "n2");
  EXPECT_TRUE(flow.opened("n2", kStart + 1min));
}

TEST_F(LogFlowTest, NewNodesAreAskedAndDoNotHoldUpTheOthers) {
  LogFlow flow = this->flow(true, 0);
  flow.look(view_, kStart);
  flow.take_asks();
  for (const char* node : {"n1", "n2"}) {
    flow.opened(node, kStart);
    flow.received(node, lines({}, true), kStart);
  }
  view_.tasks.push_back({"t3", "n3", false, false});
  view_.nodes["n3"] = {"host3", false, ""};
  flow.look(view_, kStart + 1s);
  const auto asks = flow.take_asks();
  ASSERT_EQ(asks.size(), 1U);
  EXPECT_EQ(asks[0].node_id, "n3");
  EXPECT_EQ(asks[0].subscription.task_ids_size(), 0);  // its service says enough
  flow.received("n1", lines({line("t1", 5, "a")}, true), kStart + 1s);
  EXPECT_EQ(take(flow, kStart + 1s + LineMerge::kWindow), "a");
}

TEST_F(LogFlowTest, TheEndOfTheServiceEndsTheFollowing) {
  LogFlow flow = this->flow(true);
  flow.look(view_, kStart);
  flow.take_asks();
  for (const char* node : {"n1", "n2"}) {
    flow.opened(node, kStart);
    flow.received(node, lines({}, true), kStart);
  }
  FlowView gone;
  gone.gone = true;
  flow.look(gone, kStart + 1s);
  const auto asks = flow.take_asks();
  ASSERT_EQ(asks.size(), 2U);
  EXPECT_EQ(asks[0].subscription.id(), "sub");
  EXPECT_FALSE(asks[0].subscription.follow());
  flow.received("n1", lines({line("t1", 5, "bye")}, true, true), kStart + 1s);
  flow.received("n2", lines({}, true, true), kStart + 1s);
  EXPECT_EQ(take(flow, kStart + 1s), "bye");
  EXPECT_TRUE(flow.finished());
}

TEST_F(LogFlowTest, ASingleTaskIsFollowedToItsEnd) {
  v1::ServiceLogsRequest request;
  request.set_follow(true);
  LogFlow flow("sub", request, {{}, {"t1"}}, kStart, kWall);
  view_.tasks = {{"t1", "", false, false}};  // not placed yet
  flow.look(view_, kStart);
  EXPECT_TRUE(flow.take_asks().empty());
  EXPECT_FALSE(flow.finished());
  view_.tasks = {{"t1", "n1", false, false}};
  flow.look(view_, kStart + 1s);
  const auto asks = flow.take_asks();
  ASSERT_EQ(asks.size(), 1U);
  EXPECT_EQ(asks[0].subscription.task_ids(0), "t1");
  flow.opened("n1", kStart + 1s);
  view_.tasks = {{"t1", "n1", true, true}};
  flow.look(view_, kStart + 2s);
  EXPECT_FALSE(flow.finished());
  flow.received("n1", lines({line("t1", 5, "a")}, true, true), kStart + 2s);
  EXPECT_EQ(take(flow, kStart + 2s), "a");
  EXPECT_TRUE(flow.finished());
}

TEST_F(LogFlowTest, UntilEndsTheFollowing) {
  v1::ServiceLogsRequest request;
  request.set_follow(true);
  request.set_until_ns(kWall.unix_ns + Duration(5s).count());
  LogFlow flow("sub", request, {{"s1"}, {}}, kStart, kWall);
  view_.tasks = {{"t1", "n1", true, false}};
  flow.look(view_, kStart);
  flow.take_asks();
  flow.opened("n1", kStart);
  flow.received("n1", lines({}, true), kStart);
  EXPECT_EQ(*flow.wake_at(true), kStart + 5s);
  flow.tick(kStart + 5s);
  ASSERT_EQ(flow.take_asks().size(), 1U);
  flow.received("n1", lines({}, true, true), kStart + 5s);
  EXPECT_TRUE(flow.finished());
}

TEST_F(LogFlowTest, WhatANodeCannotReadIsPassedOn) {
  LogFlow flow = this->flow(false);
  view_.tasks = {{"t1", "n1", true, false}};
  flow.look(view_, kStart);
  flow.opened("n1", kStart);
  v1::LogPublish message;
  v1::MissingLogs& missing = *message.add_missing();
  missing.add_task_ids("t1");
  missing.set_reason("configured logging driver does not support reading");
  message.set_end(true);
  flow.received("n1", message, kStart);
  EXPECT_EQ(take(flow, kStart), "[host1: configured logging driver does not support reading]");
  EXPECT_TRUE(flow.finished());
}

TEST_F(LogFlowTest, AServiceThatNeverRanHasNothingToShow) {
  LogFlow flow = this->flow(false);
  view_.tasks = {{"t1", "", false, false}, {"t2", "n2", false, true}};
  flow.look(view_, kStart);
  EXPECT_TRUE(flow.take_asks().empty());
  EXPECT_TRUE(flow.finished());
}

}  // namespace
}  // namespace muster::manager::logs
