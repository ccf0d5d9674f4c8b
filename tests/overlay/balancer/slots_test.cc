#include "overlay/balancer/slots.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/rng.h"

namespace muster::overlay {
namespace {

std::vector<std::string> backends(size_t n) {
  std::vector<std::string> out;
  for (size_t i = 0; i < n; ++i) out.push_back(fmt::format("10.0.{}.{}", i / 250, i % 250 + 2));
  return out;
}

void expect_even(const std::vector<std::string>& slots, const std::vector<std::string>& backends) {
  std::map<std::string, size_t> count;
  for (const auto& s : slots) ++count[s];
  const size_t used = std::min(slots.size(), backends.size());
  ASSERT_EQ(count.size(), used);
  for (const auto& [name, n] : count) {
    ASSERT_GE(n, slots.size() / used) << name;
    ASSERT_LE(n, (slots.size() + used - 1) / used) << name;
  }
}

size_t changed(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  size_t n = 0;
  for (size_t i = 0; i < a.size(); ++i) n += a[i] != b[i] ? 1 : 0;
  return n;
}

TEST(SlotCount, NextPowerOfTwoOfFourTimes) {
  const std::pair<size_t, size_t> cases[] = {{1, 64},   {16, 64},    {17, 128},    {20, 128},
                                             {64, 256}, {300, 2048}, {1024, 4096}, {9999, 4096}};
  for (const auto& [n, want] : cases) EXPECT_EQ(slot_count(n), want) << n;
}

TEST(SlotScale, AllServicesOfANetworkHaveABudget) {
  const SlotScale full, small{16, 4}, smaller{4, 4}, bare{4, 1};
  struct Case {
    size_t services;
    size_t backends;  // of each
    SlotScale now;
    SlotScale want;
  };
  for (const Case& c : {
           Case{200, 10, full, full},
           {1024, 10, full, full},
           {1025, 10, full, bare},  // four times ten are 64 slots, whatever the least is
           {1025, 4, full, small},
           {4096, 1, full, small},
           {4097, 1, full, smaller},
           {16'384, 1, full, smaller},
           {16'385, 1, full, bare},
           {100'000, 1, full, bare},
           {16, 1024, full, full},
           {17, 1024, full, bare},
           {1, 100'000, full, full},
           {0, 0, bare, full},
           {2000, 0, full, full},  // nobody to lead to, no slots
           // Back when half of it will do.
           {1024, 4, small, small},
           {513, 4, small, small},
           {512, 4, small, full},
           {2048, 1, bare, small},
           {2049, 1, bare, smaller},
       }) {
    const SlotScale got = slot_scale(std::vector<size_t>(c.services, c.backends), c.now);
    EXPECT_EQ(got, c.want) << c.services << " of " << c.backends << ": " << got.least << " "
                           << got.times;
  }
  EXPECT_EQ(slot_count(1, small), 16u);
  EXPECT_EQ(slot_count(5, smaller), 32u);
  EXPECT_EQ(slot_count(5, bare), 8u);
  EXPECT_EQ(slot_count(9999, bare), 4096u);
}

TEST(SlotScale, IsKnownAgainByTheMapsThatWereMadeAtIt) {
  const SlotScale full, small{16, 4}, smaller{4, 4}, bare{4, 1};
  for (const SlotScale& scale : {full, small, smaller, bare}) {
    EXPECT_EQ(scale_of({{slot_count(1, scale), 1}, {slot_count(50, scale), 50}}), scale)
        << scale.least << " " << scale.times;
  }
  EXPECT_EQ(scale_of({}), full);
  EXPECT_EQ(scale_of({{512, 33}}), full) << "a service has shrunk";
  EXPECT_EQ(scale_of({{1, 9}}), bare);
}

TEST(SlotCount, AMapThatWillDoIsKept) {
  EXPECT_EQ(kept_slot_count(65, 0), 512u);
  EXPECT_EQ(kept_slot_count(65, 1024), 1024u);
  EXPECT_EQ(kept_slot_count(65, 2048), 512u);
  EXPECT_EQ(kept_slot_count(65, 256), 512u);
}

TEST(AssignSlots, EvenAndInterleavedFromNothing) {
  for (size_t n : {1, 2, 3, 63, 64, 65, 300, 5000}) {
    const auto b = backends(n);
    const auto slots = assign_slots({}, b, slot_count(n));
    expect_even(slots, b);
    for (size_t i = 1; n > 1 && i < slots.size(); ++i) ASSERT_NE(slots[i], slots[i - 1]);
  }
  EXPECT_TRUE(assign_slots({}, {}, 64).empty());
}

TEST(AssignSlots, OneLeavesOnlyItsSlotsChange) {
  const auto before = backends(20);
  const auto slots = assign_slots({}, before, 128);
  auto after = before;
  after.erase(after.begin() + 7);
  const auto next = assign_slots(slots, after, 128);
  expect_even(next, after);
  EXPECT_LE(changed(slots, next), 7u);
}

TEST(AssignSlots, OneComesOnlyItsShareChanges) {
  const auto before = backends(19);
  const auto slots = assign_slots({}, before, 128);
  const auto next = assign_slots(slots, backends(20), 128);
  expect_even(next, backends(20));
  EXPECT_LE(changed(slots, next), 7u);
}

TEST(AssignSlots, NewcomersLieBetweenTheOthersNotBehindThem) {
  // Replicas come up one after another; a burst of a few requests still meets all of them.
  std::vector<std::string> backends, slots;
  for (const char* name : {"a", "b", "c"}) {
    backends.push_back(name);
    slots = assign_slots(slots, backends, 64);
  }
  for (size_t i = 0; i + 6 <= slots.size(); ++i) {
    const std::set<std::string> burst(slots.begin() + static_cast<std::ptrdiff_t>(i),
                                      slots.begin() + static_cast<std::ptrdiff_t>(i) + 6);
    EXPECT_EQ(burst.size(), 3u) << "from slot " << i;
  }
}

std::map<std::string, size_t> tally(const std::vector<std::string>& slots) {
  std::map<std::string, size_t> out;
  for (const std::string& slot : slots) ++out[slot];
  return out;
}

TEST(SlotCount, TheLightestGetsItsFourSlots) {
  using Weights = std::vector<uint32_t>;
  const std::pair<Weights, size_t> cases[] = {{{}, 64},
                                              {{1}, 64},
                                              {Weights(17, 1), 128},
                                              {Weights(17, 50), 128},
                                              {{1, 100}, 512},
                                              {{0, 100}, 512},
                                              {{100, 100, 1}, 1024},
                                              {Weights(300, 1), 2048},
                                              {Weights(2000, 7), 4096}};
  for (const auto& [weights, want] : cases) EXPECT_EQ(slot_count(weights), want);
}

TEST(AssignSlots, ByWeightAtEverySize) {
  for (const size_t n : {1, 63, 64, 65, 300}) {
    const auto b = backends(n);
    std::vector<uint32_t> weights;
    uint64_t sum = 0;
    for (size_t i = 0; i < n; ++i) sum += weights.emplace_back(1 + i % 3);
    const size_t count = slot_count(weights);
    const auto first = assign_slots({}, b, count, weights);
    ASSERT_EQ(first.size(), count);
    // Also when it came about by exchange.
    auto swapped = weights;
    std::reverse(swapped.begin(), swapped.end());
    const auto later = assign_slots(assign_slots({}, b, count, swapped), b, count, weights);
    for (const auto& slots : {first, later}) {
      auto met = tally(slots);
      for (size_t i = 0; i < n; ++i) {
        EXPECT_GE(met[b[i]], count * weights[i] / sum) << n << " " << i;
        EXPECT_LE(met[b[i]], count * weights[i] / sum + 1) << n << " " << i;
      }
    }
  }
}

TEST(AssignSlots, HeavyOnesLieApart) {
  const auto slots = assign_slots({}, {"a", "b", "c"}, 64, {2, 1, 1});
  EXPECT_EQ(tally(slots), (std::map<std::string, size_t>{{"a", 32}, {"b", 16}, {"c", 16}}));
  for (size_t i = 1; i < slots.size(); ++i) EXPECT_FALSE(slots[i] == "a" && slots[i - 1] == "a");
}

TEST(AssignSlots, TheLightestIsNotLeftOut) {
  std::vector<uint32_t> weights(1000, 100);
  weights[500] = 1;
  auto met = tally(assign_slots({}, backends(1000), slot_count(weights), weights));
  EXPECT_EQ(met.size(), 1000u);
  EXPECT_EQ(met[backends(1000)[500]], 1u);
}

TEST(AssignSlots, ALighterWeightGivesUpOnlyWhatItMust) {
  const auto before = assign_slots({}, backends(4), 64);
  const auto after = assign_slots(before, backends(4), 64, {1, 2, 2, 2});
  EXPECT_EQ(tally(after)[backends(1)[0]], 9u);
  EXPECT_EQ(changed(before, after), 7u);
}

TEST(ResizeSlots, WhatAHashFindsStays) {
  const auto small = assign_slots({}, backends(3), 64);
  const auto large = resize_slots(small, 256);
  ASSERT_EQ(large.size(), 256u);
  for (uint64_t hash = 0; hash < uint64_t{1} << 32; hash += 9'999'991) {
    ASSERT_EQ(small[hash * 64 >> 32], large[hash * 256 >> 32]);
  }
  EXPECT_EQ(resize_slots(large, 64), small);
  EXPECT_TRUE(resize_slots({}, 64).empty());
}

TEST(AssignSlots, EvenUnderChurn) {
  SeededRng rng(7);
  const auto all = backends(40);
  std::vector<std::string> slots;
  for (int round = 0; round < 500; ++round) {
    std::vector<std::string> live;
    for (const auto& b : all) {
      if (rng.below(3) != 0) live.push_back(b);
    }
    if (live.empty()) continue;
    slots = assign_slots(slots, live, 256);
    expect_even(slots, live);
  }
}

}  // namespace
}  // namespace muster::overlay
