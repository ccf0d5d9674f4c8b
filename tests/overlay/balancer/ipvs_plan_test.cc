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
      EXPECT_TRUE(as_wished(state, wish.vip, *wish.pool));
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
  EXPECT_FALSE(as_wished(state, kVip, *pool));
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

// ---------------------------------------------------------------- few, until it is used

const Ip kC = ip("10.1.0.4");
const Ip kD = ip("10.1.0.5");
const std::vector<VipBackend> kFour = {{kA, 1}, {kB, 1}, {kC, 1}, {kD, 1}};

IpvsState on_use() {
  IpvsState out;
  out.on_use = true;
  return out;
}

TEST(PlanIpvsOnUse, AnUnusedAddressHasTwoOfItsBackends) {
  IpvsState state = on_use();
  EXPECT_THAT(go(state, {want(ready(kFour))}, 3),
              ElementsAre("make service 49000000 wrr 0 0", "add 10.1.0.5 to 49000000 1",
                          "add 10.1.0.2 to 49000000 1", "make service 49000001 wrr 0 0",
                          "add 10.1.0.5 to 49000001 1", "add 10.1.0.2 to 49000001 1",
                          "watch 10.0.1.5", "guard 10.0.1.5 of 49000000",
                          "lead 10.0.1.5 to 49000000", "lead 10.0.1.5 to 49000001"));
  EXPECT_THAT(go(state, {want(ready(kFour))}, 3), IsEmpty());
  // A successor that would have chosen others keeps these.
  EXPECT_THAT(go(state, {want(ready(kFour))}, 1), IsEmpty());
}

TEST(PlanIpvsOnUse, WithItsFirstFlowItHasAllOfThem) {
  IpvsState state = on_use();
  go(state, {want(ready(kFour))}, 3);
  state.used.insert(kVip);
  // That it has not got them yet is nobody's fault.
  EXPECT_TRUE(as_wished(state, kVip, *ready(kFour)));
  EXPECT_THAT(go(state, {want(ready(kFour))}, 3),
              ElementsAre("add 10.1.0.3 to 49000000 1", "add 10.1.0.4 to 49000000 1",
                          "add 10.1.0.3 to 49000001 1", "add 10.1.0.4 to 49000001 1",
                          "watch no longer 10.0.1.5"));
  EXPECT_THAT(go(state, {want(ready({{kA, 1}, {kB, 1}}))}, 3),
              ElementsAre("drop 10.1.0.4 of 49000000", "drop 10.1.0.5 of 49000000",
                          "drop 10.1.0.4 of 49000001", "drop 10.1.0.5 of 49000001"));
}

TEST(PlanIpvsOnUse, WhatIsNoneOfTheFewCostsNothing) {
  IpvsState state = on_use();
  go(state, {want(ready(kFour))});
  EXPECT_THAT(go(state, {want(pool_vip(nullptr, {}, {{kA, 1}, {kB, 1}}, {kC}, {kD}))}), IsEmpty());
  EXPECT_THAT(go(state, {want(ready({{kA, 1}, {kB, 1}, {ip("10.1.0.9"), 1}}))}), IsEmpty());
}

// It may have a flow that has not been told of yet.
TEST(PlanIpvsOnUse, AFewThatDrainsKeepsItsFlowsAndAnotherComes) {
  IpvsState state = on_use();
  go(state, {want(ready(kFour))});
  EXPECT_THAT(go(state, {want(pool_vip(nullptr, {}, {{kB, 1}, {kC, 1}, {kD, 1}}, {kA}, {}))}),
              ElementsAre("weigh 10.1.0.2 of 49000000 0", "add 10.1.0.4 to 49000000 1",
                          "weigh 10.1.0.2 of 49000001 0", "add 10.1.0.4 to 49000001 1"));
  // Datagrams leave it with its release.
  EXPECT_THAT(go(state, {want(pool_vip(nullptr, {}, {{kB, 1}, {kC, 1}, {kD, 1}}, {}, {kA}))}),
              ElementsAre("drop 10.1.0.2 of 49000001"));
  EXPECT_THAT(go(state, {want(ready({{kB, 1}, {kC, 1}, {kD, 1}}))}),
              ElementsAre("drop 10.1.0.2 of 49000000"));
}

TEST(PlanIpvsOnUse, AllThatLeadAreLedToWhenThereAreNoMore) {
  IpvsState state = on_use();
  go(state, {want(ready({}))});
  EXPECT_TRUE(state.vips.at(kVip).watched);
  go(state, {want(pool_vip(nullptr, {}, {{kA, 1}}, {kB}, {kC}))});
  EXPECT_THAT(state.vips.at(kVip).services[kIpvsFlows]->weights, ElementsAre(std::pair(kA, 1u)));
  EXPECT_THAT(
      go(state, {want(pool_vip(nullptr, {}, {}, {kA}, {kB, kC}))}),
      ElementsAre("lead 10.0.1.5 no longer to 49000000", "lead 10.0.1.5 no longer to 49000001",
                  "weigh 10.1.0.2 of 49000000 0", "weigh 10.1.0.2 of 49000001 0"));
}

TEST(PlanIpvsOnUse, ItsSharesAndItsWayOfSpreadingChangeWithTheOthers) {
  IpvsState state = on_use();
  go(state, {want(ready(kFour))});
  EXPECT_THAT(go(state, {want(ready({{kA, 7}, {kB, 1}, {kC, 9}, {kD, 1}},
                                    {v1::EndpointSpec::LEAST_CONNECTION, {}}))}),
              ElementsAre("change service 49000000 wlc 0 0", "weigh 10.1.0.2 of 49000000 7",
                          "change service 49000001 wlc 0 0", "weigh 10.1.0.2 of 49000001 7"));
  // A hash of few would lead the client to another task than a hash of all.
  EXPECT_EQ(go(state, {want(ready(kFour, {v1::EndpointSpec::SOURCE_HASH, {}}))}).back(),
            "watch no longer 10.0.1.5");
  EXPECT_THAT(state.vips.at(kVip).services[kIpvsFlows]->weights, ::testing::SizeIs(4));
}

TEST(PlanIpvs, WhatIsOfNetworksNotToldOfYetIsLedByRulesThatAreMadeAnewToo) {
  IpvsState state;
  go(state, {want(ready({{kA, 1}, {kB, 1}})), want(ready({{ip("fd00::2"), 1}}), kOther)});
  const Ip third = ip("10.0.1.6");
  go(state, {want(pool_vip(nullptr, {}, {}, {kA}, {}), third)});
  const IpvsState before = state;
  for (auto& [vip, held] : state.vips) held.guarded = held.led[0] = held.led[1] = false;
  IpvsPlan plan = plan_ipvs(state, {want(ready({{kA, 1}, {kB, 1}}))}, 0);
  keep_others(state, plan);
  EXPECT_THAT(words(plan.before), IsEmpty());
  EXPECT_THAT(words(plan.services), IsEmpty());
  EXPECT_THAT(words(plan.after),
              ElementsAre("guard 10.0.1.5 of 49000000", "lead 10.0.1.5 to 49000000",
                          "lead 10.0.1.5 to 49000001", "guard 10.0.1.6 of 49000004",
                          "guard fd00::5 of 49000002", "lead fd00::5 to 49000002",
                          "lead fd00::5 to 49000003"));
  commit(state, plan);
  EXPECT_EQ(state.vips, before.vips);
}

TEST(PlanIpvsOnUse, AnAddressThatGoesIsForgottenToHaveBeenUsed) {
  IpvsState state = on_use();
  go(state, {want(ready(kFour))});
  EXPECT_THAT(go(state, {want(nullptr)}), ::testing::Contains("watch no longer 10.0.1.5"));
  for (const bool taken_away : {false, true}) {
    go(state, {want(ready(kFour))});
    state.used.insert(kVip);
    if (taken_away) state.vips.clear();  // by somebody else
    go(state, {want(nullptr)});
    EXPECT_THAT(state.used, IsEmpty());
  }
}

}  // namespace
}  // namespace muster::overlay
