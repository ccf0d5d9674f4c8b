#include "overlay/dataplane/esp/esp_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::overlay {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Kind = EspChange::Kind;

Ip ip(const std::string& text) {
  return *Ip::parse(text);
}
EncryptionKey key(uint64_t number, bool used) {
  return {number, std::string(32, static_cast<char>('a' + number)), used};
}
Encryption ring(const std::vector<EncryptionKey>& keys, uint32_t udp_port = 0) {
  return {keys, udp_port};
}
const Ip kA = ip("10.1.0.1");
const Ip kB = ip("10.1.0.2");
const Ip kC = ip("10.1.0.3");

EspPlan plan(const Ip& self, const std::set<Ip>& peers, const Encryption& encryption,
             const std::map<Ip, uint32_t>& lanes = {}) {
  std::vector<Ip> clashes;
  auto out = esp_plan(self, peers, encryption, lanes, &clashes);
  EXPECT_TRUE(out) << out.error().message();
  EXPECT_THAT(clashes, IsEmpty());
  return *out;
}
// As if the kernel had just what was planned.
EspKernel kernel_of(const EspPlan& plan, bool v6 = false) {
  EspKernel out;
  for (const auto& [id, state] : plan.states) out.states[id].state = state;
  out.policies = plan.policies;
  out.blocks = {v6};
  return out;
}
std::vector<Kind> kinds(const std::vector<EspChange>& changes) {
  std::vector<Kind> out;
  for (const EspChange& change : changes) out.push_back(change.kind);
  return out;
}

TEST(EspPlanTest, WhatOneSendsWithTheOtherReceivesWithAndNobodyElse) {
  for (const char* pair : {"4", "6"}) {
    const bool v6 = *pair == '6';
    const Ip a = v6 ? ip("fd50::1") : kA;
    const Ip b = v6 ? ip("fd50::2") : kB;
    const Ip c = v6 ? ip("fd50::3") : kC;
    const Encryption keys = ring({key(7, true), key(8, true), key(9, false)});
    for (uint32_t lane = 0; lane < kEspLanes; ++lane) {
      const EspPlan at_a = plan(a, {b, c}, keys, {{b, lane}});
      const EspPlan at_b = plan(b, {a, c}, keys);
      const EspPlan at_c = plan(c, {a, b}, keys);
      const EspStateId sent{b, at_a.policies.at(b)};
      EXPECT_EQ(esp_lane(sent.spi, 8), lane);
      EXPECT_EQ(esp_lane(sent.spi, 9), std::nullopt);
      ASSERT_TRUE(at_b.states.contains(sent));
      EXPECT_EQ(at_b.states.at(sent), at_a.states.at(sent));
      EXPECT_EQ(at_b.states.at(sent).from, a);
      EXPECT_FALSE(at_c.states.contains(sent));
    }
  }
}

TEST(EspPlanTest, EveryPairDirectionKeyAndLaneHasAKeyOfItsOwn) {
  const Encryption keys = ring({key(1, true), key(2, true), key(3, false)});
  std::set<std::string> seen;
  size_t states = 0;
  for (const Ip& self : {kA, kB, kC}) {
    std::set<Ip> peers = {kA, kB, kC};
    peers.erase(self);
    for (const auto& [id, state] : plan(self, peers, keys).states) {
      if (id.to != self) continue;  // the receiver has the same
      ++states;
      seen.insert(state.key);
      EXPECT_EQ(state.key.size(), 36u);
    }
  }
  EXPECT_EQ(states, 3u * 2 * 3 * kEspLanes);
  EXPECT_EQ(seen.size(), states);
}

TEST(EspPlanTest, NothingIsSentWithAKeyThatNotEverybodyHas) {
  EXPECT_EQ(sending_key(ring({})), nullptr);
  EXPECT_EQ(sending_key(ring({key(1, false)})), nullptr);
  EXPECT_EQ(sending_key(ring({key(1, true), key(2, true), key(3, false)}))->number, 2u);
  const EspPlan none = plan(kA, {kB}, ring({key(1, false)}));
  EXPECT_THAT(none.policies, IsEmpty());
  EXPECT_EQ(none.states.size(), kEspLanes);
}

TEST(EspPlanTest, AKeyOfTheWrongSizeIsRefused) {
  EXPECT_FALSE(esp_plan(kA, {kB}, ring({{1, "short", true}}), {}, nullptr));
}

TEST(EspPlanTest, AddressesThatCannotBeToldApartAreNamed) {
  std::vector<Ip> clashes;
  const auto out = esp_plan(ip("10.1.0.1"), {ip("26.1.0.1"), ip("10.1.0.2"), ip("26.1.0.2")},
                            ring({key(1, true)}), {}, &clashes);
  ASSERT_TRUE(out);
  EXPECT_THAT(clashes, ElementsAre(ip("26.1.0.1"), ip("26.1.0.2")));
  EXPECT_EQ(out->policies.size(), 1u);
  // Private ranges never meet.
  EXPECT_NE(esp_spi(ip("10.0.0.5"), 1, 0), esp_spi(ip("172.16.0.5"), 1, 0));
  EXPECT_NE(esp_spi(ip("10.168.0.5"), 1, 0), esp_spi(ip("192.168.0.5"), 1, 0));
}

TEST(EspPlanTest, AnEmptyKernelGetsTheBlockFirstAndPoliciesLast) {
  const EspPlan wanted = plan(kA, {kB}, ring({key(1, true)}));
  const auto changes = esp_changes({}, wanted, kA, nullptr);
  std::vector<Kind> expected(2 + kEspLanes, Kind::kAddState);
  expected.front() = Kind::kBlock;
  expected.push_back(Kind::kSetPolicy);
  EXPECT_EQ(kinds(changes), expected);
  EXPECT_THAT(esp_changes(kernel_of(wanted), wanted, kA, nullptr), IsEmpty());
}

TEST(EspPlanTest, TheOldKeyGoesWhenTheNewOneIsSentWith) {
  const EspPlan old = plan(kA, {kB}, ring({key(1, true)}));
  const EspPlan both = plan(kA, {kB}, ring({key(1, true), key(2, false)}));
  const EspPlan used = plan(kA, {kB}, ring({key(1, true), key(2, true)}));
  EXPECT_EQ(kinds(esp_changes(kernel_of(old), both, kA, nullptr)),
            std::vector<Kind>(kEspLanes, Kind::kAddState));
  EXPECT_THAT(kinds(esp_changes(kernel_of(both), used, kA, nullptr)),
              ElementsAre(Kind::kAddState, Kind::kSetPolicy, Kind::kDropState));
}

TEST(EspPlanTest, DifferencesAreMendedAndNamed) {
  const EspPlan wanted = plan(kA, {kB}, ring({key(1, true)}));
  EspKernel kernel = kernel_of(wanted);
  kernel.states.begin()->second.state.key[0] ^= 1;
  kernel.states[{kA, 99}] = {};
  kernel.policies[kC] = 5;
  kernel.blocks.clear();
  std::vector<std::string> said;
  EXPECT_THAT(kinds(esp_changes(kernel, wanted, kA, &said)),
              ElementsAre(Kind::kBlock, Kind::kDropState, Kind::kAddState, Kind::kDropPolicy,
                          Kind::kDropState));
  EXPECT_THAT(said, ElementsAre("a security association of encryption was missing or changed",
                                "a policy of encryption was missing or changed",
                                "a policy of encryption was left over",
                                "a security association of encryption was left over"));
  // Under lockdown nobody sees keys.
  kernel = kernel_of(wanted);
  for (auto& [id, state] : kernel.states) state.state.key.assign(36, '\0');
  EXPECT_THAT(esp_changes(kernel, wanted, kA, nullptr), IsEmpty());
}

// Another port of UDP, or none: the kernel takes that for another state.
TEST(EspPlanTest, AStateThatTravelsInAnotherWayGoesOnWithItsNumbers) {
  const EspPlan before = plan(kA, {kB}, ring({key(1, true)}));
  EspKernel kernel = kernel_of(before);
  const uint64_t counted = (uint64_t{3} << 32) + 77;
  const std::vector<uint32_t> window(32, 0xf0f0f0f0u);
  for (auto& [id, state] : kernel.states) {
    if (id.to == kA) state.numbers = {0, counted, window};
    if (id.to == kB) state.numbers = {counted, 0, {}};
  }
  for (const bool hidden : {false, true}) {
    // Under lockdown.
    if (hidden) {
      for (auto& [id, state] : kernel.states) state.state.key.assign(36, '\0');
    }
    size_t received = 0;
    size_t sent = 0;
    EspPlan wanted = plan(kA, {kB}, ring({key(1, true)}, 4500));
    wanted.first = 5;
    for (const EspChange& change : esp_changes(kernel, wanted, kA, nullptr)) {
      if (change.kind != Kind::kAddState) continue;
      if (change.id.to == kA) {
        EXPECT_EQ(change.numbers, (EspNumbers{0, counted, window})) << "what was accepted";
        ++received;
      } else {
        // Packets leave between the listing and the new state.
        EXPECT_EQ(change.numbers.sent, counted + (1 << 24));
        ++sent;
      }
    }
    EXPECT_EQ(received, kEspLanes);
    EXPECT_EQ(sent, 1u);
  }
}

TEST(EspPlanTest, AStateThatIsNewBeginsWhereItIsTold) {
  EspPlan wanted = plan(kA, {kB}, ring({key(1, true)}));
  wanted.first = 4711;
  const auto numbers = [&](const EspKernel& kernel) {
    std::map<bool, EspNumbers> out;  // by whether it is sent with
    for (const EspChange& change : esp_changes(kernel, wanted, kA, nullptr)) {
      if (change.kind == Kind::kAddState) out[change.id.to == kB] = change.numbers;
    }
    return out;
  };
  const EspNumbers none;
  const EspNumbers first{4711, 0, {}};
  EXPECT_THAT(numbers({}), ElementsAre(std::pair(false, none), std::pair(true, first)));
  // The fourth key after this one has the same place: what was counted with it means nothing.
  EspKernel kernel = kernel_of(plan(kA, {kB}, ring({key(5, true)})));
  for (auto& [id, state] : kernel.states) state.numbers = {99, 99, {1}};
  EXPECT_THAT(numbers(kernel), ElementsAre(std::pair(false, none), std::pair(true, first)));
}

TEST(EspPlanTest, AStateThatWasAwayGoesOnWithItsNumbers) {
  const Encryption keys = ring({key(1, true)});
  EspKernel kernel = kernel_of(plan(kA, {kB, kC}, keys));
  for (auto& [id, state] : kernel.states) state.numbers = {7, 8, {9}};
  std::map<EspStateId, EspKernelState> known;
  remember(kernel, keys, &known);
  // Whether its peer has gone, somebody has flushed it, or it could not be made: it is not there.
  const EspKernel alone = kernel_of(plan(kA, {kC}, keys));
  remember(alone, keys, &known);
  EspPlan both = plan(kA, {kB, kC}, keys);
  both.known = &known;
  both.first = 100;
  size_t back = 0;
  for (const EspChange& change : esp_changes(alone, both, kA, nullptr)) {
    if (change.kind != Kind::kAddState) continue;
    const uint64_t sent = change.id.to == kA ? 7 : 7 + (1 << 24);
    EXPECT_EQ(change.numbers, (EspNumbers{sent, 8, {9}}));
    ++back;
  }
  EXPECT_EQ(back, kEspLanes + 1);
}

TEST(EspPlanTest, NumbersAreRememberedAsLongAsTheirKeyIsThere) {
  const EspKernel kernel = kernel_of(plan(kA, {kB}, ring({key(1, true)})));
  std::map<EspStateId, EspKernelState> known;
  remember(kernel, ring({key(1, true)}), &known);
  EXPECT_EQ(known.size(), kEspLanes + 1);
  remember({}, ring({key(1, true), key(2, true)}), &known);
  EXPECT_EQ(known.size(), kEspLanes + 1);
  remember({}, ring({}), &known);
  EXPECT_EQ(known.size(), kEspLanes + 1) << "a node in no encrypted network is told no keys";
  remember({}, ring({key(2, true)}), &known);
  EXPECT_THAT(known, IsEmpty());
}

// Anybody can send packets that fail: those that were recorded, or whose number is too low.
TEST(EspPlanTest, AStateIsNotMadeAnewForWhatItRefused) {
  const EspPlan wanted = plan(kA, {kB}, ring({key(1, true)}));
  EspKernel kernel = kernel_of(wanted);
  for (auto& [id, state] : kernel.states) {
    state.packets = 5;
    state.failures = 1000;
    state.forged = 400;
  }
  EXPECT_THAT(esp_changes(kernel, wanted, kA, nullptr), IsEmpty());
}

TEST(EspPlanTest, ANewStateOfTheSameKeyTakesTheNextLane) {
  const EspKernel nothing;
  EXPECT_EQ(choose_lane(nothing, kA, kB, 1, std::nullopt, 2), 2u);
  EXPECT_EQ(choose_lane(nothing, kA, kB, 1, EspSent{1, 2}, 0), 3u);
  EXPECT_EQ(choose_lane(nothing, kA, kB, 1, EspSent{1, 3}, 0), 0u);
  EXPECT_EQ(choose_lane(nothing, kA, kB, 2, EspSent{1, 3}, 1), 1u);
  // One that the kernel has goes on.
  const EspKernel kernel = kernel_of(plan(kA, {kB}, ring({key(1, true)}), {{kB, 1}}));
  EXPECT_EQ(choose_lane(kernel, kA, kB, 1, EspSent{1, 2}, 0), 1u);
}

TEST(EspPlanTest, PeersAreTheOtherNodesOfEncryptedNetworks) {
  NetworkTruths truths;
  const auto tell = [&](const std::string& id, uint32_t vni, bool encrypted,
                        const std::vector<std::pair<std::string, std::string>>& members) {
    NetworkStep step{id, true, {}};
    step.feed.mutable_network()->set_id(id);
    step.feed.mutable_network()->mutable_state()->set_vni(vni);
    if (encrypted) {
      step.feed.mutable_network()->mutable_spec()->add_driver_options()->set_key("encrypted");
    }
    for (const auto& [node, address] : members) {
      v1::NetworkEndpoint& e = *step.feed.add_endpoints();
      e.set_task_id(id + node);
      e.set_node_id(node);
      e.set_data_path_addr(address);
    }
    truths.apply(step);
  };
  tell("plain", 4097, false, {{"n9", "10.1.0.9"}});
  tell("one", 4098, true, {{"n1", "10.1.0.1"}, {"n2", "10.1.0.2"}, {"n3", ""}});
  tell("two", 4099, true, {{"n2", "10.1.0.2"}, {"n4", "10.1.0.4"}, {"n6", "fd50::6"}});
  tell("early", 0, true, {{"n7", "10.1.0.7"}});
  const EspUse use = esp_use(truths, {"n1", "10.1.0.1", 4790});
  EXPECT_EQ(use.self, kA);
  EXPECT_EQ(use.port, 4790);
  EXPECT_THAT(use.vnis, ElementsAre(4098, 4099));
  EXPECT_THAT(use.peers, ElementsAre(ip("10.1.0.2"), ip("10.1.0.4")));
  EXPECT_THAT(esp_use(truths, {"n1", "", 4789}).vnis, IsEmpty());
}

TEST(EspPlanTest, WhatStatesTravelByIsOnePort) {
  EXPECT_EQ(udp_port_of({}), 0u);
  EXPECT_EQ(udp_port_of(kernel_of(plan(kA, {kB}, ring({key(1, true)})))), 0u);
  EspKernel kernel = kernel_of(plan(kA, {kB, kC}, ring({key(1, true)}, 4500)));
  EXPECT_EQ(udp_port_of(kernel), 4500u);
  // Another one was about to be used.
  kernel.states.begin()->second.state.udp_port = 4501;
  EXPECT_EQ(udp_port_of(kernel), 4500u);
}

TEST(EspRulesTest, TheGuardSaysWhatItGuards) {
  const std::string text = esp_guard_table("t", 4789, {4097, 5001}, 77);
  EXPECT_THAT(text, HasSubstr("udp dport 4789 @th,96,24 { 4097, 5001 } rt ipsec missing counter"));
  EXPECT_THAT(text, HasSubstr("ipsec in reqid != 77 counter drop"));
  const std::string listing =
      R"({"nftables": [{"chain": {"family": "inet", "table": "t", "name": "vni_4097"}},
         {"chain": {"family": "inet", "table": "t", "name": "vni_5001"}},
         {"rule": {"family": "inet", "table": "t", "chain": "leaving", "handle": 5, "expr":
           [{"counter": {"packets": 3, "bytes": 9}}, {"drop": null}]}},
         {"rule": {"family": "inet", "table": "t", "chain": "coming", "expr": []}},
         {"rule": {"family": "inet", "table": "t", "chain": "plain", "expr":
           [{"counter": {"packets": 4, "bytes": 9}}, {"drop": null}]}},
         {"rule": {"family": "inet", "table": "t", "chain": "plain", "expr":
           [{"counter": {"packets": 1, "bytes": 9}}, {"drop": null}]}}]})";
  EXPECT_THAT(guarded_vnis(listing), ElementsAre(4097, 5001));
  EXPECT_EQ(guard_counts(listing), std::pair(uint64_t{3}, uint64_t{5}));
  EXPECT_EQ(guard_counts(""), std::pair(uint64_t{0}, uint64_t{0}));
}

}  // namespace
}  // namespace muster::overlay
