#include "manager/leader/leader_parts.h"

#include <gtest/gtest.h>

#include "base/sim_executor.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::leader {
namespace {

class LeaderPartsTest : public testing::Test {
 protected:
  void add(const char* name) {
    parts_.add(name, make_part([this, name] { log_ += std::string("+") + name + state(); },
                               [this, name] { log_ += std::string("-") + name + state(); }));
  }
  std::string state() const { return store_.leading() ? "" : "?"; }

  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer proposer_{strand_};
  store::Store store_{strand_, &proposer_, null_log()};
  LeaderParts parts_{store_, null_log()};
  std::string log_;
};

TEST_F(LeaderPartsTest, StartInOrderAndStopInReverseWhileTheStoreLeads) {
  add("a");
  add("b");
  parts_.end_leading();
  parts_.lead(1);
  EXPECT_TRUE(store_.leading());
  parts_.lead(1);
  EXPECT_EQ(log_, "+a+b");
  parts_.end_leading();
  parts_.end_leading();
  EXPECT_EQ(log_, "+a+b-b-a");
  EXPECT_FALSE(store_.leading());
  EXPECT_EQ(parts_.term(), 0u);
}

TEST_F(LeaderPartsTest, ATermThatFollowsAnotherEndsIt) {
  add("a");
  parts_.lead(1);
  parts_.lead(3);
  EXPECT_EQ(log_, "+a-a+a");
  EXPECT_EQ(parts_.term(), 3u);
}

TEST_F(LeaderPartsTest, ATermThatTheStoreGaveUpBeginsAnew) {
  add("a");
  parts_.lead(1);
  store_.end_leading();  // as it does when it cannot know what became of a change
  parts_.lead(1);
  EXPECT_EQ(log_, "+a-a?+a");
  EXPECT_TRUE(store_.leading());
}

}  // namespace
}  // namespace muster::manager::leader
