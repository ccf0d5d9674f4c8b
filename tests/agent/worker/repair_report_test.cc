#include "agent/worker/repair_report.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/sim_executor.h"

namespace muster::agent {
namespace {

class RepairReportTest : public testing::Test {
 protected:
  SimWorld world_;
  SimExecutor strand_{world_};
  std::vector<v1::NetworkRepairs> told_;
  RepairReport report_{strand_, [this](const v1::NetworkRepairs& r) { told_.push_back(r); }};
};

TEST_F(RepairReportTest, TheFirstIsToldAtOnce) {
  report_.add({"br0 was down", "a neighbour was gone"});
  ASSERT_EQ(told_.size(), 1u);
  EXPECT_EQ(told_[0].differences(), 2u);
  ASSERT_EQ(told_[0].last_size(), 2);
  EXPECT_EQ(told_[0].last(1), "a neighbour was gone");
  EXPECT_EQ(told_[0].at_ns(), world_.wall_now().unix_ns);
}

TEST_F(RepairReportTest, NothingFoundIsNotTold) {
  report_.add({});
  world_.advance(2 * RepairReport::kBetween);
  EXPECT_TRUE(told_.empty());
}

TEST_F(RepairReportTest, ThoseThatFollowAreToldTogetherAMinuteLater) {
  report_.add({"first"});
  for (int i = 0; i < 5; ++i) {
    world_.advance(10s);
    report_.add({"again"});
  }
  EXPECT_EQ(told_.size(), 1u);
  world_.advance(10s);
  ASSERT_EQ(told_.size(), 2u);
  EXPECT_EQ(told_[1].differences(), 6u);
  // Nothing came for a minute: the next is told at once again.
  world_.advance(RepairReport::kBetween);
  EXPECT_EQ(told_.size(), 2u);
  report_.add({"later"});
  ASSERT_EQ(told_.size(), 3u);
  EXPECT_EQ(told_[2].differences(), 7u);
}

TEST_F(RepairReportTest, TheNewestSentencesAreKept) {
  std::vector<std::string> found;
  for (size_t i = 0; i < 2 * RepairReport::kLast; ++i) found.push_back(std::to_string(i));
  report_.add(found);
  ASSERT_EQ(told_.size(), 1u);
  EXPECT_EQ(told_[0].differences(), found.size());
  ASSERT_EQ(told_[0].last_size(), static_cast<int>(RepairReport::kLast));
  EXPECT_EQ(told_[0].last(0), std::to_string(RepairReport::kLast));
  EXPECT_EQ(told_[0].last(RepairReport::kLast - 1), found.back());
}

}  // namespace
}  // namespace muster::agent
