#include "manager/dispatcher/parts.h"

#include <gtest/gtest.h>

#include <string>

namespace muster::manager::dispatcher {
namespace {

v1::FeedUpdate read(const Bytes& bytes) {
  v1::ManagerMessage message;
  EXPECT_TRUE(message.ParseFromString(*bytes));
  return message.feed();
}

TEST(Parts, ASmallStepIsOneMessage) {
  v1::FeedUpdate step;
  step.set_version(3);
  const auto parts = cut_into_parts(step);
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_TRUE(read(parts[0]).last());
  EXPECT_EQ(read(parts[0]).version(), 3u);
}

TEST(Parts, ALargeStepIsCutWithoutLossAndRevisionsComeFirst) {
  v1::FeedUpdate step;
  step.set_version(3);
  step.set_complete(true);
  for (int i = 0; i < 100; ++i) {
    step.add_tasks()->mutable_task()->set_name(std::string(100, 'x'));
    step.add_removed_task_ids("gone" + std::to_string(i));
  }
  step.add_revisions()->set_service_name("web");
  const auto parts = cut_into_parts(step, 1000);
  EXPECT_GT(parts.size(), 10u);
  v1::FeedUpdate joined;
  for (size_t i = 0; i < parts.size(); ++i) {
    EXPECT_LE(parts[i]->size(), 1100u);
    const v1::FeedUpdate part = read(parts[i]);
    EXPECT_EQ(part.last(), i + 1 == parts.size());
    EXPECT_TRUE(part.complete());
    joined.MergeFrom(part);
  }
  EXPECT_EQ(read(parts[0]).revisions_size(), 1);
  EXPECT_EQ(joined.tasks_size(), 100);
  EXPECT_EQ(joined.removed_task_ids_size(), 100);
}

TEST(Parts, NetworkBytesAreCutByPosition) {
  v1::FeedUpdate step;
  std::string network;
  for (int i = 0; i < 5000; ++i) network += static_cast<char>('a' + i % 26);
  step.set_network(network);
  std::string joined;
  for (const Bytes& part : cut_into_parts(step, 1000)) joined += read(part).network();
  EXPECT_EQ(joined, network);
}

}  // namespace
}  // namespace muster::manager::dispatcher
