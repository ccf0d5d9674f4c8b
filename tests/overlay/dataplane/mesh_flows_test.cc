#include "overlay/dataplane/mesh/mesh_flows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::overlay::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class MeshFlowsTest : public ::testing::Test {
 protected:
  static v1::NetworkEndpoint endpoint(const std::string& id, const std::string& address,
                                      v1::EndpointState state) {
    v1::NetworkEndpoint out;
    out.set_task_id(id);
    out.add_addresses(address);
    out.set_state(state);
    return out;
  }
  // The task has that address and state from now on, or is gone; returns who nobody is any more.
  std::vector<Ip> put(const std::string& id, const std::string& address, v1::EndpointState state) {
    truth_.endpoints[id] = endpoint(id, address, state);
    return apply(id);
  }
  std::vector<Ip> drop(const std::string& id) {
    truth_.endpoints.erase(id);
    return apply(id);
  }
  std::vector<Ip> apply(const std::string& id) {
    NetworkDifference difference;
    difference.task_ids.insert(id);
    return flows_.apply(truth_, difference);
  }

  const Ip a_ = *Ip::parse("10.0.0.3"), b_ = *Ip::parse("10.0.0.4");
  NetworkTruth truth_;
  MeshFlows flows_;
};

TEST_F(MeshFlowsTest, ATaskIsGoneWhenNobodyHasItsAddressAnyMore) {
  EXPECT_FALSE(flows_.begun());
  EXPECT_THAT(flows_.apply(truth_, {}), IsEmpty());
  EXPECT_TRUE(flows_.begun());
  EXPECT_THAT(put("t1", "10.0.0.3", v1::ENDPOINT_READY), IsEmpty());
  EXPECT_TRUE(flows_.knows(a_));
  EXPECT_THAT(put("t1", "10.0.0.3", v1::ENDPOINT_RELEASED), IsEmpty());
  EXPECT_THAT(flows_.lost(), IsEmpty());
  EXPECT_THAT(drop("t1"), ElementsAre(a_));
  EXPECT_FALSE(flows_.knows(a_));
  EXPECT_THAT(drop("t1"), IsEmpty());
}

TEST_F(MeshFlowsTest, ATaskThatWasNeverSeenHadNoFlows) {
  EXPECT_THAT(flows_.apply(truth_, {}), IsEmpty());
  EXPECT_THAT(put("t1", "10.0.0.3", v1::ENDPOINT_ABSENT), IsEmpty());
  EXPECT_THAT(flows_.lost(), IsEmpty());
  EXPECT_THAT(drop("t1"), IsEmpty());
}

TEST_F(MeshFlowsTest, ATaskWhoseNodeIsDownIsLostUntilItIsSeenAgainOrGone) {
  EXPECT_THAT(flows_.apply(truth_, {}), IsEmpty());
  EXPECT_THAT(put("t1", "10.0.0.3", v1::ENDPOINT_READY), IsEmpty());
  EXPECT_THAT(put("t1", "10.0.0.3", v1::ENDPOINT_ABSENT), IsEmpty());
  EXPECT_THAT(flows_.lost(), ElementsAre(a_));
  EXPECT_THAT(put("t1", "10.0.0.3", v1::ENDPOINT_DRAINING), IsEmpty());
  EXPECT_THAT(flows_.lost(), IsEmpty());
  EXPECT_THAT(put("t1", "10.0.0.3", v1::ENDPOINT_ABSENT), IsEmpty());
  EXPECT_THAT(drop("t1"), ElementsAre(a_));
  EXPECT_THAT(flows_.lost(), IsEmpty());
}

TEST_F(MeshFlowsTest, WhatAnEarlierProcessLedToIsNotKnown) {
  truth_.endpoints["t1"] = endpoint("t1", "10.0.0.3", v1::ENDPOINT_ABSENT);
  truth_.endpoints["t2"] = endpoint("t2", "10.0.0.4", v1::ENDPOINT_READY);
  EXPECT_THAT(flows_.apply(truth_, {}), IsEmpty());
  EXPECT_THAT(flows_.lost(), ElementsAre(a_));
  EXPECT_THAT(drop("t1"), ElementsAre(a_));
}

TEST_F(MeshFlowsTest, AnAddressThatSomebodyElseHasByNowIsHis) {
  EXPECT_THAT(flows_.apply(truth_, {}), IsEmpty());
  EXPECT_THAT(put("t1", "10.0.0.3", v1::ENDPOINT_READY), IsEmpty());
  EXPECT_THAT(put("t1", "10.0.0.3", v1::ENDPOINT_ABSENT), IsEmpty());
  EXPECT_THAT(put("t2", "10.0.0.3", v1::ENDPOINT_READY), IsEmpty());
  EXPECT_THAT(flows_.lost(), IsEmpty());
  EXPECT_THAT(drop("t1"), IsEmpty());
  EXPECT_TRUE(flows_.knows(a_));
  // One that moves leaves what it had.
  EXPECT_THAT(put("t2", "10.0.0.4", v1::ENDPOINT_READY), ElementsAre(a_));
  EXPECT_TRUE(flows_.knows(b_));
}

}  // namespace
}  // namespace muster::overlay::testing
