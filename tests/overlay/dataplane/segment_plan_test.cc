#include "overlay/dataplane/segment/segment_plan.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace muster::overlay::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;
using Kind = EntryChange::Kind;

Ip ip(const char* text) {
  return *Ip::parse(text);
}
Mac mac(int last) {
  return {0x02, 0x42, 0x0a, 0x00, 0x00, static_cast<uint8_t>(last)};
}
const Ip kNode2 = ip("192.0.2.2");
const Ip kNode3 = ip("192.0.2.3");

Member member(int last, const Ip& node) {
  return {mac(last), {Ip::v4(0x0a000000u + static_cast<uint32_t>(last))}, node};
}

// The kernel as far as changes go.
void run(const std::vector<EntryChange>& changes, KernelEntries& kernel) {
  for (const EntryChange& c : changes) {
    switch (c.kind) {
      case Kind::kSetTunnel: kernel.tunnel[c.mac] = {c.ip}; break;
      case Kind::kSetBridge: kernel.bridge[c.mac] = true; break;
      case Kind::kSetNeighbour: kernel.neighbours[c.ip] = c.mac; break;
      case Kind::kDropNeighbour: kernel.neighbours.erase(c.ip); break;
      case Kind::kDropBridge: kernel.bridge.erase(c.mac); break;
      case Kind::kDropTunnel: kernel.tunnel.erase(c.mac); break;
    }
  }
}

KernelEntries as_kernel(const SegmentEntries& entries) {
  KernelEntries out;
  for (const auto& [m, node] : entries.tunnel) {
    out.tunnel[m] = {node};
    out.bridge[m] = true;
  }
  out.neighbours = entries.neighbours;
  return out;
}

void expect_same(const KernelEntries& a, const KernelEntries& b, const std::string& when) {
  EXPECT_EQ(a.tunnel, b.tunnel) << when;
  EXPECT_EQ(a.bridge, b.bridge) << when;
  EXPECT_EQ(a.neighbours, b.neighbours) << when;
}

TEST(MacTest, TextsThatAreMacs) {
  EXPECT_EQ(parse_mac("02:42:0A:00:00:07"), mac(7));
  EXPECT_EQ(to_string(mac(7)), "02:42:0a:00:00:07");
  for (const char* bad : {"", "02:42:0a:00:00", "02:42:0a:00:00:0g", "02-42-0a-00-00-07",
                          "02:42:0a:00:00:07:", "03:42:0a:00:00:07", "00:00:00:00:00:00"}) {
    EXPECT_FALSE(parse_mac(bad)) << bad;
  }
}

TEST(SegmentBookTest, AMemberElsewhereHasThreeEntries) {
  SegmentBook book;
  Member m = member(1, kNode2);
  m.addresses.push_back(ip("fd00::1"));
  book.put("a", m);
  EXPECT_THAT(book.take_changes(),
              ElementsAre(EntryChange{Kind::kSetTunnel, mac(1), kNode2},
                          EntryChange{Kind::kSetBridge, mac(1), {}},
                          EntryChange{Kind::kSetNeighbour, mac(1), ip("10.0.0.1")},
                          EntryChange{Kind::kSetNeighbour, mac(1), ip("fd00::1")}));
  EXPECT_THAT(book.take_changes(), IsEmpty());
  book.put("a", m);
  EXPECT_THAT(book.take_changes(), IsEmpty());
  book.put("a", std::nullopt);
  EXPECT_THAT(book.take_changes(),
              ElementsAre(EntryChange{Kind::kDropNeighbour, {}, ip("10.0.0.1")},
                          EntryChange{Kind::kDropNeighbour, {}, ip("fd00::1")},
                          EntryChange{Kind::kDropBridge, mac(1), {}},
                          EntryChange{Kind::kDropTunnel, mac(1), {}}));
  EXPECT_EQ(book.entries(), SegmentEntries{});
}

TEST(SegmentBookTest, AMoveReplacesOneEntry) {
  SegmentBook book;
  book.put("a", member(1, kNode2));
  (void)book.take_changes();
  book.put("a", member(1, kNode3));
  EXPECT_THAT(book.take_changes(), ElementsAre(EntryChange{Kind::kSetTunnel, mac(1), kNode3}));
  // The same address with another task, in one step.
  book.put("a", std::nullopt);
  book.put("b", member(1, kNode2));
  EXPECT_THAT(book.take_changes(), ElementsAre(EntryChange{Kind::kSetTunnel, mac(1), kNode2}));
}

TEST(SegmentBookTest, MembersOfThisNodeNeedNothing) {
  SegmentBook book;
  Member m = member(1, kNode2);
  m.here = true;
  book.put("a", m);
  EXPECT_THAT(book.take_changes(), IsEmpty());
}

TEST(SegmentBookTest, AReadyMemberWinsAnAddressThenTheFirst) {
  SegmentBook book;
  Member leaving = member(1, kNode2);
  leaving.ready = false;
  book.put("a", leaving);
  EXPECT_EQ(book.take_changes().front(), (EntryChange{Kind::kSetTunnel, mac(1), kNode2}));
  book.put("b", member(1, kNode3));
  EXPECT_THAT(book.take_changes(), ElementsAre(EntryChange{Kind::kSetTunnel, mac(1), kNode3}));
  // Now it is of this node, and nothing leads elsewhere.
  Member here = member(1, kNode3);
  here.here = true;
  book.put("b", here);
  EXPECT_EQ(book.take_changes().size(), 3u);
  EXPECT_EQ(book.entries(), SegmentEntries{});
  book.put("a", member(1, kNode2));
  EXPECT_EQ(book.entries(), SegmentEntries{});
  (void)book.take_changes();
  EXPECT_EQ(book.entries().tunnel.at(mac(1)), kNode2);
}

// Whatever the steps and however they are cut, the kernel has in the end what one complete step
// would have given.
TEST(SegmentBookTest, IncrementsEqualTheWhole) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const auto pick = [&](unsigned n) { return static_cast<int>(random() % n); };
    SegmentBook book;
    std::map<std::string, Member> truth;
    KernelEntries kernel;
    for (int step = 0; step < 40; ++step) {
      for (int i = pick(5); i >= 0; --i) {
        const std::string key = fmt::format("t{}", pick(8));
        std::optional<Member> next;
        if (pick(3) != 0) {
          // Few addresses, so that they clash.
          next = member(1 + pick(5), pick(2) != 0 ? kNode2 : kNode3);
          if (pick(2) != 0) next->addresses.push_back(ip(fmt::format("fd::{}", pick(4)).c_str()));
          next->here = pick(4) == 0;
          next->ready = pick(3) != 0;
        }
        book.put(key, next);
        truth.erase(key);
        if (next) truth.emplace(key, *next);
      }
      if (pick(3) == 0) continue;
      run(book.take_changes(), kernel);
      SegmentBook whole;
      for (const auto& [key, value] : truth) whole.put(key, value);
      (void)whole.take_changes();
      ASSERT_EQ(book.entries(), whole.entries()) << "seed " << seed << " step " << step;
      expect_same(kernel, as_kernel(whole.entries()), fmt::format("seed {} step {}", seed, step));
    }
  }
}

TEST(EntryChangesTest, WhatTheKernelHasBecomesWhatIsWanted) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const auto pick = [&](unsigned n) { return static_cast<int>(random() % n); };
    SegmentEntries wanted;
    KernelEntries kernel;
    for (int i = 0; i < 6; ++i) {
      if (pick(2) != 0) wanted.tunnel[mac(i)] = pick(2) != 0 ? kNode2 : kNode3;
      if (pick(2) != 0) wanted.neighbours[Ip::v4(static_cast<uint32_t>(i))] = mac(pick(6));
      for (int n = pick(4); n > 0; --n) kernel.tunnel[mac(i)].insert(Ip::v4(random() % 4));
      if (pick(4) == 0) kernel.tunnel[mac(i)].insert(kNode2);
      if (pick(2) != 0) kernel.bridge[mac(i)] = pick(2) != 0;
      if (pick(2) != 0) kernel.neighbours[Ip::v4(static_cast<uint32_t>(i))] = mac(pick(6));
    }
    std::vector<std::string> said;
    const auto changes = entry_changes(kernel, wanted, &said);
    EXPECT_EQ(changes.empty(), said.empty()) << "seed " << seed;
    run(changes, kernel);
    expect_same(kernel, as_kernel(wanted), fmt::format("seed {}", seed));
    EXPECT_THAT(entry_changes(kernel, wanted, &said), IsEmpty());
    KernelEntries empty;
    run(entry_changes(wanted), empty);
    expect_same(empty, as_kernel(wanted), fmt::format("seed {}", seed));
  }
}

TEST(EntryChangesTest, EveryDifferenceIsSaid) {
  SegmentEntries wanted;
  KernelEntries kernel;
  wanted.tunnel = {{mac(1), kNode2}, {mac(2), kNode2}, {mac(3), kNode2}};
  kernel.tunnel = {{mac(2), {kNode3}}, {mac(3), {kNode2, kNode3}}, {mac(9), {kNode3}}};
  kernel.bridge = {{mac(2), false}, {mac(3), true}, {mac(9), true}};
  wanted.neighbours = {{ip("10.0.0.1"), mac(1)}, {ip("10.0.0.2"), mac(2)}};
  kernel.neighbours = {{ip("10.0.0.2"), mac(7)}, {ip("10.0.0.9"), mac(9)}};
  std::vector<std::string> said;
  (void)entry_changes(kernel, wanted, &said);
  EXPECT_THAT(
      said, UnorderedElementsAre(
                "the tunnel had no entry for 02:42:0a:00:00:01 on node 192.0.2.2",
                "the tunnel led 02:42:0a:00:00:02 to 192.0.2.3 instead of 192.0.2.2",
                "the tunnel led 02:42:0a:00:00:03 to 192.0.2.2 and 192.0.2.3 instead of 192.0.2.2",
                "the tunnel led 02:42:0a:00:00:09 to 192.0.2.3, where it is not",
                "the bridge had no entry that leads 02:42:0a:00:00:01 to the tunnel",
                "the bridge's entry for 02:42:0a:00:00:02 was one that frames can move",
                "the bridge led 02:42:0a:00:00:09 to the tunnel, where it is not",
                "neighbour 10.0.0.1 at 02:42:0a:00:00:01 was missing",
                "neighbour 10.0.0.2 was at 02:42:0a:00:00:07 instead of 02:42:0a:00:00:02",
                "neighbour 10.0.0.9 at 02:42:0a:00:00:09 was one too many"));
}

TEST(EntryChangesTest, ManyDifferencesOfASortAreCounted) {
  SegmentEntries wanted;
  for (int i = 1; i <= 100; ++i) wanted.neighbours[Ip::v4(static_cast<uint32_t>(i))] = mac(i);
  std::vector<std::string> said;
  EXPECT_EQ(entry_changes({}, wanted, &said).size(), 100u);
  ASSERT_EQ(said.size(), 5u);
  EXPECT_EQ(said.back(), "96 more neighbours were missing");
}

}  // namespace
}  // namespace muster::overlay::testing
