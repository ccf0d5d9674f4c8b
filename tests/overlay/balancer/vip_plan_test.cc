#include "overlay/balancer/vip_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace muster::overlay {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Ip ip(const std::string& text) {
  const auto parsed = Ip::parse(text);
  EXPECT_TRUE(parsed) << text;
  return *parsed;
}

std::vector<VipBackend> ips(size_t n) {
  std::vector<VipBackend> out;
  for (size_t i = 0; i < n; ++i) {
    out.push_back({ip(fmt::format("10.1.{}.{}", i / 250, i % 250 + 2))});
  }
  return out;
}

const Ip kVip = ip("10.0.1.5");

VipWish want(VipSpreadPtr spread, const Ip& vip = kVip) {
  return {vip, std::move(spread), nullptr, "web", ip("10.0.1.9"), 1450};
}

// Plans, notes it as done and returns it in words.
std::vector<std::string> go(VipState& state, const std::vector<VipWish>& wishes) {
  VipPlan plan = plan_vips(state, wishes);
  std::vector<std::string> out;
  for (const VipStep& step : plan.steps) out.push_back(describe(step));
  commit(state, std::move(plan));
  return out;
}

TEST(SpreadVip, EvenAtEverySize) {
  for (const size_t n : {1, 2, 3, 63, 64, 65, 300}) {
    const auto spread = spread_vip(nullptr, ips(n), false);
    std::map<Ip, size_t> count;
    for (const Ip& slot : spread->slots) ++count[slot];
    ASSERT_EQ(count.size(), n);
    for (const auto& [backend, slots] : count) {
      EXPECT_GE(slots, spread->slots.size() / n);
      EXPECT_LE(slots, (spread->slots.size() + n - 1) / n);
    }
    EXPECT_TRUE(count.contains(spread->fallback));
  }
}

TEST(SpreadVip, NothingNewIsTheSamePointer) {
  const auto spread = spread_vip(nullptr, ips(3), false);
  std::vector<VipBackend> shuffled = ips(3);
  std::swap(shuffled[0], shuffled[2]);
  shuffled.push_back(shuffled[1]);
  EXPECT_EQ(spread_vip(spread, shuffled, false), spread);
  EXPECT_NE(spread_vip(spread, shuffled, true), spread);
  EXPECT_NE(spread_vip(spread, ips(4), false), spread);
}

TEST(SpreadVip, OneLeavesOnlyItsSlotsChange) {
  const auto before = spread_vip(nullptr, ips(4), false);
  std::vector<VipBackend> fewer = ips(4);
  fewer.erase(fewer.begin());
  const auto after = spread_vip(before, fewer, false);
  EXPECT_EQ(differing_slots(*before, *after).size(), 16u);
  EXPECT_EQ(before->fallback, ips(1)[0].ip);
  EXPECT_EQ(after->fallback, fewer[0].ip);
}

TEST(SpreadVip, InProportionToWeights) {
  auto weighted = ips(3);
  weighted[0].weight = 2;
  const auto spread = spread_vip(nullptr, weighted, false);
  std::map<Ip, size_t> count;
  for (const Ip& slot : spread->slots) ++count[slot];
  EXPECT_EQ(count, (std::map<Ip, size_t>{
                       {weighted[0].ip, 32}, {weighted[1].ip, 16}, {weighted[2].ip, 16}}));
  // Another weight moves what it must.
  const auto alike = spread_vip(spread, ips(3), false);
  EXPECT_EQ(differing_slots(*spread, *alike).size(), 10u);
  EXPECT_EQ(spread_vip(alike, ips(3), false), alike);
}

TEST(SpreadVip, BySourceAGrownMapLeadsMostClientsAsBefore) {
  const auto small = spread_vip(nullptr, ips(16), true);
  const auto large = spread_vip(small, ips(17), true);
  ASSERT_EQ(large->slots.size(), 128u);
  size_t moved = 0;
  for (size_t i = 0; i < 128; ++i) moved += large->slots[i] != small->slots[i / 2] ? 1 : 0;
  EXPECT_LE(moved, 8u);  // the newcomer's share
}

TEST(SpreadVip, GrowsAtOnceAndShrinksLate) {
  auto spread = spread_vip(nullptr, ips(16), false);
  EXPECT_EQ(spread->slots.size(), 64u);
  spread = spread_vip(spread, ips(17), false);
  EXPECT_EQ(spread->slots.size(), 128u);
  spread = spread_vip(spread, ips(65), false);
  EXPECT_EQ(spread->slots.size(), 512u);
  spread = spread_vip(spread, ips(33), false);
  EXPECT_EQ(spread->slots.size(), 512u);
  spread = spread_vip(spread, ips(32), false);
  EXPECT_EQ(spread->slots.size(), 128u);
  // All maps together had too many.
  spread = spread_vip(spread, ips(16), false);
  EXPECT_EQ(spread->slots.size(), 128u);
  EXPECT_EQ(spread_vip(spread, ips(16), false, 0, {}, true)->slots.size(), 64u);
  spread = spread_vip(spread, {}, false);
  EXPECT_THAT(spread->slots, IsEmpty());
  // Not where slots are scarce.
  spread = spread_vip(nullptr, ips(4), false);
  EXPECT_EQ(spread->slots.size(), 64u);
  spread = spread_vip(spread, ips(4), false, 0, {16, 4});
  EXPECT_EQ(spread->slots.size(), 16u);
  EXPECT_EQ(spread_vip(spread, ips(4), false, 0, {16, 4}), spread);
  spread = spread_vip(spread, ips(4), false, 0, {4, 1});
  EXPECT_EQ(spread->slots.size(), 4u);
  EXPECT_EQ(std::set<Ip>(spread->slots.begin(), spread->slots.end()).size(), 4u);
}

TEST(SpreadVip, MoreBackendsThanSlotsTakeTurns) {
  const std::vector<VipBackend> all = ips(5000);
  std::set<Ip> seen;
  auto spread = spread_vip(nullptr, all, false, 0);
  for (size_t first = 0; first < 5000; first += 256) {
    const auto next = spread_vip(spread, all, false, first);
    ASSERT_EQ(next->slots.size(), 4096u);
    EXPECT_LE(differing_slots(*spread, *next).size(), 512u);
    spread = next;
    seen.insert(spread->slots.begin(), spread->slots.end());
  }
  EXPECT_EQ(seen.size(), 5000u);
}

TEST(PlanVips, ANewAddressIsGuardedAndLed) {
  VipState state;
  const auto spread = spread_vip(nullptr, ips(2), false);
  EXPECT_THAT(go(state, {want(spread)}), ElementsAre("guard 10.0.1.5", "make map 10.0.1.5_0 of 64",
                                                     "make chain 10.0.1.5_0 for web, else 10.1.0.2",
                                                     "lead 10.0.1.5 to 10.0.1.5_0"));
  EXPECT_THAT(go(state, {want(spread)}), IsEmpty());
  // The same, worked out anew.
  EXPECT_THAT(go(state, {want(spread_vip(nullptr, ips(2), false))}), IsEmpty());
}

TEST(PlanVips, WithoutBackendsItIsGuardedAlone) {
  VipState state;
  const auto nothing = spread_vip(nullptr, {}, false);
  EXPECT_THAT(go(state, {want(nothing)}), ElementsAre("guard 10.0.1.5"));
  EXPECT_THAT(go(state, {want(nothing)}), IsEmpty());
  const auto one = spread_vip(nothing, ips(1), false);
  EXPECT_THAT(go(state, {want(one)}), ElementsAre("make map 10.0.1.5_0 of 64",
                                                  "make chain 10.0.1.5_0 for web, else 10.1.0.2",
                                                  "lead 10.0.1.5 to 10.0.1.5_0"));
  EXPECT_THAT(go(state, {want(nothing)}), ElementsAre("lead 10.0.1.5 no longer to 10.0.1.5_0"));
  EXPECT_THAT(go(state, {}), ElementsAre("drop chain to_10.0.1.5_0", "drop map slots_10.0.1.5_0"));
  EXPECT_THAT(go(state, {}), IsEmpty());
}

TEST(PlanVips, BackendsChangeBySlots) {
  VipState state;
  const auto one = spread_vip(nullptr, ips(1), false);
  go(state, {want(one)});
  auto next = std::make_shared<VipSpread>(*one);
  next->slots[3] = ip("10.1.0.77");
  EXPECT_THAT(go(state, {want(next)}), ElementsAre("no slots of 10.0.1.5_0: 3 = 10.1.0.2",
                                                   "slots of 10.0.1.5_0: 3 = 10.1.0.77"));
  auto fallback = std::make_shared<VipSpread>(*next);
  fallback->fallback = ip("10.1.0.77");
  EXPECT_THAT(go(state, {want(fallback)}), ElementsAre("rules of 10.0.1.5_0, else 10.1.0.77"));
}

TEST(PlanVips, AnotherShapeIsBuiltBesideAndTheOldBuriedLater) {
  VipState state;
  const auto small = spread_vip(nullptr, ips(16), false);
  go(state, {want(small)});
  EXPECT_THAT(
      go(state, {want(spread_vip(small, ips(17), false))}),
      ElementsAre("lead 10.0.1.5 no longer to 10.0.1.5_0", "make map 10.0.1.5_1 of 128",
                  "make chain 10.0.1.5_1 for web, else 10.1.0.2", "lead 10.0.1.5 to 10.0.1.5_1"));
  const Ip other = ip("fd00::5");
  EXPECT_THAT(
      go(state, {want(spread_vip(nullptr, {}, false), other)}),
      ElementsAre("drop chain to_10.0.1.5_0", "drop map slots_10.0.1.5_0", "guard fd00::5"));
}

TEST(PlanVips, AnAddressThatGoes) {
  VipState state;
  go(state, {want(spread_vip(nullptr, ips(2), false))});
  EXPECT_THAT(go(state, {want(nullptr)}),
              ElementsAre("lead 10.0.1.5 no longer to 10.0.1.5_0", "guard no longer 10.0.1.5"));
  EXPECT_TRUE(state.vips.empty());
  EXPECT_THAT(go(state, {want(nullptr)}),
              ElementsAre("drop chain to_10.0.1.5_0", "drop map slots_10.0.1.5_0"));
  // A name that is used no more is not used again at once.
  EXPECT_EQ(go(state, {want(spread_vip(nullptr, ips(1), false))})[1], "make map 10.0.1.5_1 of 64");
}

TEST(PlanVips, WhatSomebodyBrokeIsMadeAnew) {
  VipState state;
  const auto spread = spread_vip(nullptr, ips(1), false);
  go(state, {want(spread)});
  state.vips[kVip].broken = true;
  state.vips[kVip].guarded = false;
  EXPECT_THAT(
      go(state, {want(spread)}),
      ElementsAre("guard 10.0.1.5", "lead 10.0.1.5 no longer to 10.0.1.5_0",
                  "make map 10.0.1.5_1 of 64", "make chain 10.0.1.5_1 for web, else 10.1.0.2",
                  "lead 10.0.1.5 to 10.0.1.5_1"));
  state.vips[kVip].guarded = false;
  go(state, {});
  EXPECT_THAT(go(state, {want(spread)}), ElementsAre("guard 10.0.1.5"));
  EXPECT_TRUE(state.vips[kVip].guarded);
}

TEST(PlanVips, AnotherWayOfSpreadingIsAnotherShape) {
  VipState state;
  const auto spread = spread_vip(nullptr, ips(2), false);
  go(state, {want(spread)});
  EXPECT_EQ(go(state, {want(spread_vip(spread, ips(2), true))}).size(), 4u);
}

TEST(VipNames, ThereAndBack) {
  for (const char* text : {"10.0.1.5", "fd00::5", "fd00:1:2:3:4:5:6:7", "::1"}) {
    const auto chain = parse_vip_name(vip_chain(ip(text), 12));
    ASSERT_TRUE(chain) << text;
    EXPECT_TRUE(chain->chain);
    EXPECT_EQ(chain->vip, ip(text));
    EXPECT_EQ(chain->generation, 12u);
    const auto map = parse_vip_name(vip_map(ip(text), 0));
    ASSERT_TRUE(map) << text;
    EXPECT_FALSE(map->chain);
    EXPECT_EQ(map->vip, ip(text));
  }
  for (const char* text :
       {"", "output", "to_", "to_10.0.1.5", "to_10.0.1.5_x", "to_x_1", "slots_10.0.1.5_1x"}) {
    EXPECT_FALSE(parse_vip_name(text)) << text;
  }
}

}  // namespace
}  // namespace muster::overlay
