#include "deploy/daemon/grpc_log.h"

#include <gtest/gtest.h>

namespace muster::daemon {
namespace {

TEST(GrpcLog, ComplaintsAreOneLineAMinute) {
  constexpr int64_t kSecond = 1'000'000'000;
  ComplaintCount count;
  EXPECT_EQ(count.add(5 * kSecond), 1U) << "the first is told at once";
  EXPECT_EQ(count.add(6 * kSecond), std::nullopt);
  EXPECT_EQ(count.add(65 * kSecond - 1), std::nullopt);
  EXPECT_EQ(count.add(65 * kSecond), 3U) << "those in between are counted";
  EXPECT_EQ(count.add(66 * kSecond), std::nullopt);
  EXPECT_EQ(count.add(1000 * kSecond), 2U);
}

}  // namespace
}  // namespace muster::daemon
