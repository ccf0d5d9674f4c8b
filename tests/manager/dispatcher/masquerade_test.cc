#include "manager/dispatcher/masquerade.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "base/sim_executor.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::dispatcher {
namespace {

constexpr int kMost = static_cast<int>(Masquerade::kNodesMax);

class MasqueradeTest : public ::testing::Test {
 protected:
  void SetUp() override { store_.lead(1); }
  void write(const std::function<Status(store::Transaction&)>& body) {
    Status outcome(StatusCode::kUnknown, "never committed");
    store_.update(body, [&](const store::Commit& commit) { outcome = commit.status; });
    world_.settle();
    ASSERT_TRUE(outcome.ok()) << outcome.message();
  }
  static v1::Node node(int i) {
    v1::Node out;
    out.set_id("n" + std::to_string(i));
    return out;
  }
  void create(int first, int last) {
    write([&](store::Transaction& tx) -> Status {
      for (int i = first; i <= last; ++i) MUSTER_TRY(tx.create(node(i)));
      return ok_status();
    });
  }
  bool wanted() { return masquerade_.wanted(store_.snapshot()); }

  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer log_{strand_};
  store::Store store_{strand_, &log_, null_log()};
  Masquerade masquerade_;
  int flips_ = 0;
  store::Store::Subscription subscription_ = store_.watch(
      [this](const store::CommitEvent& event) { flips_ += masquerade_.follow(event); });
};

TEST_F(MasqueradeTest, BeginsAndEndsWithTheSizeOfTheCluster) {
  create(1, kMost);
  EXPECT_FALSE(wanted());
  create(kMost + 1, kMost + 1);
  EXPECT_EQ(flips_, 1);
  EXPECT_TRUE(wanted());
  write([](store::Transaction& tx) { return tx.remove<v1::Node>("n7"); });
  EXPECT_EQ(flips_, 2);
  EXPECT_FALSE(wanted());
  // What was not followed is counted.
  masquerade_.forget();
  create(kMost + 2, kMost + 9);
  EXPECT_TRUE(wanted());
}

TEST_F(MasqueradeTest, BeginsWithANodeWhoseKernelLosesAnswers) {
  create(1, 2);
  EXPECT_FALSE(wanted());
  const auto say = [&](const std::string& limitation) {
    write([&](store::Transaction& tx) {
      v1::Node changed = *tx.view().get<v1::Node>("n2");
      changed.mutable_description()->clear_limitations();
      changed.mutable_description()->add_limitations(limitation);
      return tx.update(changed);
    });
  };
  say("no init program found");
  EXPECT_FALSE(wanted());
  say("this kernel has no br_netfilter: published ports lead here in the nodes' names");
  EXPECT_EQ(flips_, 1);
  EXPECT_TRUE(wanted());
  say("something else");
  EXPECT_EQ(flips_, 2);
  EXPECT_FALSE(wanted());
}

}  // namespace
}  // namespace muster::manager::dispatcher
