#include "deploy/daemon/join_key.h"

#include <gtest/gtest.h>

namespace muster::daemon {
namespace {

const Status kRemoved(StatusCode::kPermissionDenied, "node x was removed", "node-removed");

TEST(JoinKeyTest, AJoinThatNobodyAnsweredIsAskedAgainWithItsKey) {
  JoinKey keys;
  const std::string first = *keys.take("token");
  EXPECT_FALSE(keys.ended(unavailable("no answer in time")));
  EXPECT_EQ(*keys.take("token"), first);
  EXPECT_FALSE(keys.ended(Status(StatusCode::kDeadlineExceeded, "no answer in time")));
  EXPECT_EQ(*keys.take("token"), first);
  EXPECT_FALSE(keys.ended(ok_status()));
  EXPECT_NE(*keys.take("token"), first);  // it joins another time, as another node
}

// A node has the role of the token that it was made by.
TEST(JoinKeyTest, AnotherTokenIsForAnotherNode) {
  JoinKey keys;
  const std::string first = *keys.take("of a worker");
  EXPECT_FALSE(keys.ended(unavailable("no answer in time")));
  EXPECT_NE(*keys.take("of a manager"), first);
}

TEST(JoinKeyTest, WhatIsRefusedIsAskedForWithAnotherKey) {
  JoinKey keys;
  const std::string first = *keys.take("token");
  EXPECT_FALSE(keys.ended(invalid_argument("a valid join token is necessary")));
  EXPECT_NE(*keys.take("token"), first);
}

TEST(JoinKeyTest, ANodeThatWasRemovedMeanwhileIsMadeAnew) {
  JoinKey keys;
  const std::string first = *keys.take("token");
  EXPECT_FALSE(keys.ended(unavailable("no answer in time")));
  EXPECT_EQ(*keys.take("token"), first);
  EXPECT_TRUE(keys.ended(kRemoved));
  EXPECT_NE(*keys.take("token"), first);
  EXPECT_FALSE(keys.ended(kRemoved));  // that of a new key is none that can be mended so
}

}  // namespace
}  // namespace muster::daemon
