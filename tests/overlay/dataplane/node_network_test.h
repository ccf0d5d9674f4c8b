#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/overlay/dataplane/sandbox.h"

namespace muster::overlay::testing {

// A host with the network of one node.
class NodeNetworkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(box_.ok()) << box_.error();
    net_ = box_.make_network();
    ASSERT_NE(net_, nullptr) << box_.error();
  }
  // The path of the container's namespace.
  std::string attach(const ContainerNetworkRequest& r) {
    const auto path = net_->attach(r);
    EXPECT_TRUE(path) << path.error().message();
    return path ? *path : "";
  }

  Sandbox box_;
  std::unique_ptr<NodeNetwork> net_;
};

}  // namespace muster::overlay::testing
