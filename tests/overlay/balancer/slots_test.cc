#include "overlay/balancer/slots.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

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
