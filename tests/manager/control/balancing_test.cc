#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/manager/control/api_fixture.h"

namespace muster::manager::control {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class BalancingTest : public ApiFixture {
 protected:
  BalancingTest() { api_.activate(store_); }
  void node(const std::string& id, const std::string& balancer) {
    v1::Node out;
    out.set_id(id);
    out.mutable_description()->set_hostname("host-" + id);
    out.mutable_description()->mutable_data_path()->set_address("192.0.2." + id);
    out.mutable_description()->set_balancer(balancer);
    write([&](store::Transaction& tx) { return tx.create(out); });
  }
  // What is said when such a service is made.
  std::vector<std::string> create(const std::string& name, v1::EndpointSpec::Balancing balancing) {
    v1::CreateServiceRequest request;
    request.mutable_spec()->mutable_annotations()->set_name(name);
    request.mutable_spec()->mutable_task()->mutable_container()->set_image("busybox");
    request.mutable_spec()->mutable_endpoint()->set_balancing(balancing);
    const auto made = call(&ControlApi::create_service, request);
    if (!made) return {made.error().message()};
    return {made->warnings().begin(), made->warnings().end()};
  }
  std::vector<std::string> warnings_of(const std::string& id) {
    v1::GetNodeRequest request;
    request.set_node(id);
    const auto got = api_.get_node(user_, request);
    if (!got) return {got.error().message()};
    return {got->node().warnings().begin(), got->node().warnings().end()};
  }
};

TEST_F(BalancingTest, LeastConnectionIsMissedWhereThereIsNoIpvs) {
  node("1", "ipvs");
  node("2", "nftables");
  EXPECT_THAT(create("web", v1::EndpointSpec::ROUND_ROBIN), IsEmpty());
  EXPECT_THAT(create("hash", v1::EndpointSpec::SOURCE_HASH), IsEmpty());
  EXPECT_THAT(warnings_of("2"), IsEmpty());
  EXPECT_THAT(create("api", v1::EndpointSpec::LEAST_CONNECTION),
              ElementsAre("least-connection is not available on 1 node without IPVS (host-2): "
                          "connections from there go round robin"));
  EXPECT_THAT(warnings_of("1"), IsEmpty());
  EXPECT_THAT(warnings_of("2"),
              ElementsAre("service api asks for least-connection, which this node's balancer "
                          "(nftables) does not have: connections of containers here go round "
                          "robin"));
  node("3", "nftables");
  EXPECT_THAT(create("db", v1::EndpointSpec::LEAST_CONNECTION),
              ElementsAre("least-connection is not available on 2 nodes without IPVS (host-2, "
                          "...): connections from there go round robin"));
}

TEST_F(BalancingTest, NodesThatHaveIpvsAndThoseThatNeverToldAreNotWarnedOf) {
  node("1", "ipvs");
  node("2", "");
  EXPECT_THAT(create("api", v1::EndpointSpec::LEAST_CONNECTION), IsEmpty());
  EXPECT_THAT(warnings_of("1"), IsEmpty());
  EXPECT_THAT(warnings_of("2"), IsEmpty());
}

}  // namespace
}  // namespace muster::manager::control
