// What a session receives and sends, without one.
#include <gtest/gtest.h>

#include "tests/agent/session/session_fixture.h"

namespace muster::agent {
namespace {

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

}  // namespace
}  // namespace muster::agent
