#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/overlay/dataplane/client_lab.h"

// Virtual addresses through the whole of a node's network.
namespace muster::overlay::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class ClientNetworkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(box_.ok()) << box_.error();
    start();
  }
  void start() {
    net_.reset();
    net_ = box_.make_network();
    ASSERT_NE(net_, nullptr) << box_.error();
  }
  std::string attach(const std::string& id, const std::string& address) {
    const auto path = net_->attach(request(id, network_, address + "/24"));
    EXPECT_TRUE(path) << path.error().message();
    return path ? *path : "";
  }
  NetworkStep everything(const std::vector<std::string>& ready) {
    NetworkStep step{network_.id(), true, {}};
    *step.feed.mutable_network() = network_;
    auto& service = *step.feed.add_services();
    service.set_service_id("web");
    service.set_name("web");
    service.add_virtual_ips("10.50.0.200");
    for (const std::string& address : ready) {
      auto& endpoint = *step.feed.add_endpoints();
      endpoint.set_task_id("task " + address);
      endpoint.set_service_id("web");
      endpoint.add_addresses(address);
      endpoint.set_state(v1::ENDPOINT_READY);
    }
    return step;
  }
  void apply(const NetworkStep& step) {
    const Status applied = net_->apply(step);
    EXPECT_TRUE(applied.ok()) << applied.message();
  }
  std::string ask(const std::string& netns) { return box_.ask(netns, "10.50.0.200", 8080); }

  Sandbox box_;
  std::unique_ptr<NodeNetwork> net_;
  v1::Network network_ = overlay_network("net-a", "10.50.0.0/24", "10.50.0.1");
};

TEST_F(ClientNetworkTest, ContainersReachAServiceByItsAddressFromTheirStartOn) {
  const std::string task = attach("c1", "10.50.0.2");
  box_.serve(task, 8080, "one");
  apply(everything({"10.50.0.2"}));
  EXPECT_EQ(ask(task), "one");
  const std::string later = attach("c2", "10.50.0.3");
  EXPECT_EQ(ask(later), "one");
  apply(everything({}));
  EXPECT_EQ(ask(later), "");
  EXPECT_THAT(box_.run(later, "nft list map inet muster_vip services4"),
              Not(HasSubstr("10.50.0.200")));
}

TEST_F(ClientNetworkTest, TheyGoOnWhileNobodyLooksAndAreMended) {
  const std::string task = attach("c1", "10.50.0.2");
  const std::string other = attach("c2", "10.50.0.3");
  box_.serve(task, 8080, "one");
  apply(everything({"10.50.0.2"}));
  net_.reset();
  EXPECT_EQ(ask(other), "one");
  start();
  ASSERT_TRUE(net_->collect_garbage({"c1", "c2"}).ok());
  (void)net_->repair();
  EXPECT_EQ(ask(other), "one");
  apply(everything({"10.50.0.2"}));
  EXPECT_EQ(ask(other), "one");
  EXPECT_THAT(net_->repair(), IsEmpty());
  box_.run(other, "nft flush ruleset; ip route del local 10.50.0.200 table local");
  EXPECT_EQ(ask(other), "");
  EXPECT_THAT(net_->repair(),
              ::testing::ElementsAre("container c2 did not lead virtual address 10.50.0.200 of "
                                     "service web as it should"));
  EXPECT_EQ(ask(other), "one");
  ASSERT_TRUE(net_->forget_network("net-a").ok());
  EXPECT_EQ(ask(other), "");
  ASSERT_TRUE(net_->detach("c1").ok());
  ASSERT_TRUE(net_->detach("c2").ok());
  EXPECT_THAT(net_->repair(), IsEmpty());
  ASSERT_TRUE(net_->teardown().ok());
}

}  // namespace
}  // namespace muster::overlay::testing
