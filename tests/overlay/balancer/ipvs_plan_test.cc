#include "overlay/balancer/ipvs_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::overlay {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Ip ip(const std::string& text) {
  const auto parsed = Ip::parse(text);
  EXPECT_TRUE(parsed) << text;
  return *parsed;
}

const Ip kVip = ip("10.0.1.5");
const Ip kOther = ip("fd00::5");
const Ip kA = ip("10.1.0.2");
const Ip kB = ip("10.1.0.3");

VipWish want(VipPoolPtr pool, const Ip& vip = kVip) {
  return {vip, nullptr, std::move(pool), "web", ip("10.0.1.9"), 1450};
}

VipPoolPtr ready(std::vector<VipBackend> backends, const SpreadPolicy& policy = {}) {
  return pool_vip(nullptr, policy, backends, {}, {});
}

std::vector<std::string> words(const std::vector<IpvsStep>& steps) {
  std::vector<std::string> out;
  for (const IpvsStep& step : steps) out.push_back(describe(step));
  return out;
}

// Plans, notes it as done and returns it in words.
std::vector<std::string> go(IpvsState& state, const std::vector<VipWish>& wishes,
                            uint32_t origin = 0) {
  const IpvsPlan plan = plan_ipvs(state, wishes, origin);
  std::vector<std::string> out = words(plan.before);
  for (const auto* steps : {&plan.services, &plan.after}) {
    for (std::string& word : words(*steps)) out.push_back(std::move(word));
  }
  commit(state, plan);
  for (const VipWish& wish : wishes) {
    if (wish.pool == nullptr) {
      EXPECT_FALSE(state.vips.contains(wish.vip));
    } else {
      EXPECT_TRUE(as_wished(state.vips.at(wish.vip), *wish.pool));
    }
  }
  return out;
}

TEST(IpvsShape, OfEachPolicy) {
  using Spec = v1::EndpointSpec;
  struct Case {
    SpreadPolicy policy;
    IpvsShape want;
  };
  for (const Case& c : {Case{{Spec::ROUND_ROBIN, {}}, {"wrr", 0, 0}},
                        Case{{Spec::LEAST_CONNECTION, {}}, {"wlc", 0, 0}},
                        Case{{Spec::SOURCE_HASH, {}}, {"sh", 8, 0}},
                        Case{{Spec::ROUND_ROBIN, 600s}, {"wrr", 1, 600}},
                        Case{{Spec::LEAST_CONNECTION, 1001ms}, {"wlc", 1, 2}},
                        Case{{Spec::SOURCE_HASH, 24h}, {"sh", 9, 86400}}}) {
    EXPECT_EQ(ipvs_shape(c.policy), c.want);
  }
}

TEST(PoolVip, WhatMayHaveFlowsKeepsThemAndGetsNoMore) {
  const auto pool = pool_vip(nullptr, {}, {{kB, 3}, {kA, 0}}, {ip("10.1.0.4")}, {ip("10.1.0.5")});
  EXPECT_THAT(pool->backends,
              ElementsAre(VipBackend{kA, 1}, VipBackend{kB, 3}, VipBackend{ip("10.1.0.4"), 0},
                          VipBackend{ip("10.1.0.5"), 0}));
  EXPECT_THAT(pool->datagrams,
              ElementsAre(VipBackend{kA, 1}, VipBackend{kB, 3}, VipBackend{ip("10.1.0.4"), 0}));
  EXPECT_EQ(pool_vip(pool, {}, {{kA, 1}, {kB, 3}}, {ip("10.1.0.4")}, {ip("10.1.0.5")}), pool);
  EXPECT_NE(pool_vip(pool, {v1::EndpointSpec::SOURCE_HASH, {}}, {{kA, 1}, {kB, 3}},
                     {ip("10.1.0.4")}, {ip("10.1.0.5")}),
            pool);
}

TEST(PlanIpvs, ANewAddressHasTwoServicesBeforeAnythingIsLedThere) {
  IpvsState state;
  EXPECT_THAT(go(state, {want(ready({{kA, 1}, {kB, 2}}))}),
              ElementsAre("make service 49000000 wrr 0 0", "add 10.1.0.2 to 49000000 1",
                          "add 10.1.0.3 to 49000000 2", "make service 49000001 wrr 0 0",
                          "add 10.1.0.2 to 49000001 1", "add 10.1.0.3 to 49000001 2",
                          "guard 10.0.1.5 of 49000000", "lead 10.0.1.5 to 49000000",
                          "lead 10.0.1.5 to 49000001"));
  EXPECT_THAT(go(state, {want(ready({{kA, 1}, {kB, 2}}))}), IsEmpty());
}

TEST(PlanIpvs, FirstFlowsOfManyClientsDoNotAllMeetInOneTask) {
  IpvsState state;
  EXPECT_EQ(go(state, {want(ready({{kA, 1}, {kB, 1}}))}, 7)[1], "add 10.1.0.3 to 49000000 1");
}

TEST(PlanIpvs, WithoutBackendsItIsGuardedAlone) {
  IpvsState state;
  EXPECT_THAT(go(state, {want(ready({}))}), ElementsAre("guard 10.0.1.5 of 49000000"));
  EXPECT_THAT(go(state, {want(ready({}))}), IsEmpty());
  EXPECT_EQ(go(state, {want(ready({{kA, 1}}))}).back(), "lead 10.0.1.5 to 49000001");
  EXPECT_THAT(
      go(state, {want(ready({}))}),
      ElementsAre("lead 10.0.1.5 no longer to 49000000", "lead 10.0.1.5 no longer to 49000001",
                  "drop service 49000000", "drop service 49000001"));
}

TEST(PlanIpvs, ABackendDrainsIsReleasedAndGoes) {
  IpvsState state;
  go(state, {want(ready({{kA, 1}, {kB, 1}}))});
  EXPECT_THAT(go(state, {want(pool_vip(nullptr, {}, {{kA, 1}}, {kB}, {}))}),
              ElementsAre("weigh 10.1.0.3 of 49000000 0", "weigh 10.1.0.3 of 49000001 0"));
  // Datagrams leave it while connections still may go on.
  EXPECT_THAT(go(state, {want(pool_vip(nullptr, {}, {{kA, 1}}, {}, {kB}))}),
              ElementsAre("drop 10.1.0.3 of 49000001"));
  EXPECT_THAT(go(state, {want(ready({{kA, 1}}))}), ElementsAre("drop 10.1.0.3 of 49000000"));
}

TEST(PlanIpvs, TheLastOneDrainsNewFlowsAreRefusedAndTheOthersGoOn) {
  IpvsState state;
  go(state, {want(ready({{kA, 1}}))});
  EXPECT_THAT(
      go(state, {want(pool_vip(nullptr, {}, {}, {kA}, {}))}),
      ElementsAre("lead 10.0.1.5 no longer to 49000000", "lead 10.0.1.5 no longer to 49000001",
                  "weigh 10.1.0.2 of 49000000 0", "weigh 10.1.0.2 of 49000001 0"));
  EXPECT_THAT(go(state, {want(ready({{kB, 1}}))}),
              ElementsAre("add 10.1.0.3 to 49000000 1", "drop 10.1.0.2 of 49000000",
                          "add 10.1.0.3 to 49000001 1", "drop 10.1.0.2 of 49000001",
                          "lead 10.0.1.5 to 49000000", "lead 10.0.1.5 to 49000001"));
}

TEST(PlanIpvs, AnotherWayOfSpreadingChangesTheServices) {
  IpvsState state;
  go(state, {want(ready({{kA, 1}}))});
  EXPECT_THAT(go(state, {want(ready({{kA, 1}}, {v1::EndpointSpec::LEAST_CONNECTION, 10s}))}),
              ElementsAre("change service 49000000 wlc 1 10", "change service 49000001 wlc 1 10"));
}

TEST(PlanIpvs, AnAddressThatGoesLeavesNothingAndItsMarkIsFree) {
  IpvsState state;
  go(state, {want(ready({{kA, 1}})), want(ready({{ip("fd00::2"), 1}}), kOther)});
  EXPECT_EQ(state.vips.at(kOther).mark, 0x49000002u);
  EXPECT_THAT(
      go(state, {want(nullptr)}),
      ElementsAre("lead 10.0.1.5 no longer to 49000000", "lead 10.0.1.5 no longer to 49000001",
                  "guard no longer 10.0.1.5", "drop service 49000000", "drop service 49000001"));
  EXPECT_THAT(go(state, {want(nullptr)}), IsEmpty());
  go(state, {want(ready({{kA, 1}}))});
  EXPECT_EQ(state.vips.at(kVip).mark, 0x49000000u);
}

TEST(PlanIpvs, WhatSomebodyBrokeIsMended) {
  IpvsState state;
  const VipPoolPtr pool = ready({{kA, 1}, {kB, 1}});
  go(state, {want(pool)});
  IpvsHeld& held = state.vips.at(kVip);
  held.guarded = false;
  held.led[kIpvsDatagrams] = false;
  held.services[kIpvsFlows]->weights.erase(kA);
  held.services[kIpvsDatagrams].reset();
  state.strays.insert({true, 0x49000003});
  EXPECT_FALSE(as_wished(held, *pool));
  EXPECT_THAT(go(state, {want(pool)}),
              ElementsAre("drop service 49000003", "add 10.1.0.2 to 49000000 1",
                          "make service 49000001 wrr 0 0", "add 10.1.0.2 to 49000001 1",
                          "add 10.1.0.3 to 49000001 1", "guard 10.0.1.5 of 49000000",
                          "lead 10.0.1.5 to 49000001"));
  // What is to be removed is not given to somebody else in the same breath.
  state.strays.insert({false, 0x49000003});
  go(state, {want(ready({{ip("fd00::2"), 1}}), kOther)});
  EXPECT_EQ(state.vips.at(kOther).mark, 0x49000004u);
}

}  // namespace
}  // namespace muster::overlay
