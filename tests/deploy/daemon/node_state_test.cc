#include "deploy/daemon/node_state.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>

namespace muster::daemon {
namespace {

class NodeStateFile : public ::testing::Test {
 protected:
  NodeStateFile() {
    char path[] = "/tmp/muster-node-state-XXXXXX";
    dir_ = mkdtemp(path);
  }
  ~NodeStateFile() override { std::filesystem::remove_all(dir_); }
  std::filesystem::path dir_;
};

TEST_F(NodeStateFile, AFreshOneIsOutsideOfASwarm) {
  const auto state = load_node_state(dir_);
  ASSERT_TRUE(state);
  EXPECT_EQ(state->instance_id.size(), 8u);
  EXPECT_FALSE(state->membership);
  EXPECT_EQ(load_node_state(dir_)->instance_id, state->instance_id);
}

TEST_F(NodeStateFile, WhatANodeKnowsOfItsSwarmComesBack) {
  NodeState state = *load_node_state(dir_);
  Membership membership;
  membership.node_id = "n1";
  membership.cluster_id = "c1";
  membership.listen_addr = "0.0.0.0:2377";
  membership.advertise_addr = "10.0.0.1:2377";
  membership.data_path_addr = "10.1.0.1";
  membership.data_path_port = 5000;
  membership.managers = {"10.0.0.1:2377", "10.0.0.2:2377"};
  membership.member_id = 0xfedcba9876543210;  // more than a signed number holds
  membership.log_begun = true;
  membership.removed = true;
  state.membership = membership;
  ASSERT_TRUE(save_node_state(dir_, state).ok());
  const auto back = load_node_state(dir_);
  ASSERT_TRUE(back && back->membership);
  EXPECT_EQ(back->membership->data_path_addr, "10.1.0.1");
  EXPECT_EQ(back->membership->data_path_port, 5000u);
  EXPECT_EQ(back->membership->managers, membership.managers);
  EXPECT_EQ(back->membership->member_id, membership.member_id);
  EXPECT_TRUE(back->membership->log_begun);
  EXPECT_TRUE(back->membership->removed);
}

TEST_F(NodeStateFile, DamageIsNotTakenForAFreshStart) {
  for (const char* text :
       {"", "{", "{}", R"({"version":1})",
        R"({"version":1,"instance_id":"abcdefgh","membership":{"member_id":"xyz"}})"}) {
    std::ofstream(dir_ / "node.json") << text;
    const auto state = load_node_state(dir_);
    ASSERT_FALSE(state) << text;
    EXPECT_EQ(state.error().code(), StatusCode::kDataLoss) << text;
  }
  std::ofstream(dir_ / "node.json") << R"({"version":2,"instance_id":"abcdefgh"})";
  EXPECT_EQ(load_node_state(dir_).error().code(), StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace muster::daemon
