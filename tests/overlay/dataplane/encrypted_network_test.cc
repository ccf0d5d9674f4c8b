// What a node does with encrypted networks that its kernel can or cannot encrypt.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "overlay/dataplane/esp/esp_probe.h"
#include "overlay/dataplane/esp/esp_tunnels.h"
#include "overlay/dataplane/kernel/nft.h"
#include "tests/overlay/dataplane/node_network_test.h"

namespace muster::overlay::testing {
namespace {

using ::testing::HasSubstr;

class EncryptedNetworkTest : public NodeNetworkTest {
 protected:
  void SetUp() override {
    NodeNetworkTest::SetUp();
    network_ = overlay_network("vault", "10.60.0.0/24", "10.60.0.1", true);
    network_.mutable_spec()->add_driver_options()->set_key("encrypted");
    network_.mutable_state()->set_vni(5001);
    ASSERT_TRUE(net_->set_local_node({"node1", "192.0.2.1", 4789}).ok());
  }
  NetworkStep step() const {
    NetworkStep out{network_.id(), true, {}};
    *out.feed.mutable_network() = network_;
    v1::NetworkEndpoint& e = *out.feed.add_endpoints();
    e.set_task_id("t2");
    e.set_node_id("node2");
    e.set_data_path_addr("192.0.2.2");
    e.add_addresses("10.60.0.3");
    return out;
  }
  std::string kernel() { return box_.run("", "ip xfrm state; ip xfrm policy; nft list tables"); }

  v1::Network network_;
  const std::string why_ = encryption_trouble(false);
};

TEST_F(EncryptedNetworkTest, ContainersAreRefusedWithTheReasonWhereItCannotBe) {
  const auto attached = net_->attach(request("c1", network_, "10.60.0.2/24"));
  if (why_.empty()) {
    EXPECT_TRUE(attached) << attached.error().message();
    return;
  }
  ASSERT_FALSE(attached);
  EXPECT_EQ(attached.error().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(attached.error().message(), HasSubstr("encrypted, which this node cannot do: "));
  EXPECT_THAT(attached.error().message(), HasSubstr(why_));
  EXPECT_EQ(box_.run("", "ip -o link show type veth | grep -c ' mv'"), "0");
}

TEST_F(EncryptedNetworkTest, WhatIsToldOfItLeavesNothingBehind) {
  const std::string before = kernel();
  EXPECT_EQ(net_->apply(step()).ok(), why_.empty());
  EXPECT_EQ(net_->set_encryption({{{1, std::string(32, 's'), true}}, 0}).ok(), why_.empty());
  if (why_.empty()) {
    EXPECT_THAT(kernel(), HasSubstr("rfc4106(gcm(aes))"));
    EXPECT_THAT(kernel(), HasSubstr("esp_muster_n1"));
  }
  EXPECT_TRUE(net_->forget_network(network_.id()).ok());
  (void)net_->repair();
  EXPECT_EQ(kernel(), before);
  EXPECT_EQ(net_->apply(step()).ok(), why_.empty());
  EXPECT_TRUE(net_->teardown().ok());
  EXPECT_THAT(kernel(), ::testing::Not(HasSubstr("muster")));
  EXPECT_EQ(box_.run("", "ip xfrm state; ip xfrm policy"), "");
}

// A module that is loaded later, as with VXLAN.
TEST_F(EncryptedNetworkTest, WhetherItCanBeIsAskedAgainAtEachLookUntilItCan) {
  const auto nft = LibNft::make();
  ASSERT_TRUE(nft);
  const Names names("n2");
  size_t asked = 0;
  std::string why = "no module esp4";
  EspOptions options;
  options.ask = [&](bool) {
    ++asked;
    return why;
  };
  EspTunnels esp(names, **nft, options, null_log());
  const EspUse use{Ip::parse("192.0.2.1").value(), 4789, {5001}, {Ip::parse("192.0.2.2").value()}};
  for (int told = 0; told < 2; ++told) {
    const Status set = esp.set_use(use);
    EXPECT_EQ(set.code(), StatusCode::kFailedPrecondition);
    EXPECT_THAT(set.message(), HasSubstr("no module esp4"));
  }
  EXPECT_EQ(asked, 1u) << "not for each network that is told";
  std::vector<std::string> said;
  why = "no module gcm";
  esp.repair({}, said);
  EXPECT_EQ(asked, 2u);
  EXPECT_THAT(esp.limitation(), HasSubstr("no module gcm"));
  why.clear();
  for (int look = 0; look < 2; ++look) esp.repair({}, said);
  EXPECT_EQ(asked, 3u);
  // This kernel may still refuse the rest, with its own words.
  EXPECT_THAT(esp.limitation(), ::testing::Not(HasSubstr("which this node cannot do")));
  EXPECT_THAT(said, ::testing::IsEmpty());
  EXPECT_TRUE(esp.remove().ok());
}

}  // namespace
}  // namespace muster::overlay::testing
