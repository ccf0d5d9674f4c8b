#include "overlay/balancer/nft_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "overlay/balancer/nft_balancer.h"

namespace muster::overlay {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

Frontend front(uint32_t port, std::vector<std::string> backends, uint32_t target = 8080) {
  return {{v1::PortConfig::TCP, port}, target, std::move(backends)};
}

size_t lines_with(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

NftPlan plan(const NftState& now, const std::vector<Frontend>& frontends) {
  auto p = plan_nft("t", now, frontends);
  EXPECT_TRUE(p) << p.error().message();
  return *p;
}

TEST(NftPlan, ANewPort) {
  const NftPlan p = plan({}, {front(80, {"10.0.0.3", "10.0.0.2", "10.0.0.3"})});
  EXPECT_THAT(p.commands, StartsWith("add map inet t m4_tcp_80_0 { typeof numgen inc mod 64 : ip "
                                     "daddr; }\nadd element inet t m4_tcp_80_0 { 0 : 10.0.0.2, 1 : "
                                     "10.0.0.3, 2 : 10.0.0.2, "));
  EXPECT_THAT(p.commands,
              HasSubstr("add chain inet t c_tcp_80_0\n"
                        "add rule inet t c_tcp_80_0 meta nfproto ipv4 meta l4proto tcp dnat ip to "
                        "numgen inc mod 64 map @m4_tcp_80_0 : 8080\n"
                        "add rule inet t c_tcp_80_0 meta nfproto ipv4 meta l4proto tcp dnat ip to "
                        "10.0.0.2:8080\n"
                        "add element inet t ports { tcp . 80 : goto c_tcp_80_0 }\n"));
  EXPECT_TRUE(p.removed.empty());
}

TEST(NftPlan, NothingToDo) {
  const NftPlan p = plan({}, {front(80, {"10.0.0.2"})});
  const NftPlan again = plan(p.next, {front(80, {"10.0.0.2"})});
  EXPECT_EQ(again.commands, "");
  EXPECT_EQ(again.next, p.next);
}

TEST(NftPlan, ABackendMoreTouchesOnlySlots) {
  const NftPlan p = plan({}, {front(80, {"10.0.0.2"}), front(81, {"10.0.0.9"})});
  const NftPlan q = plan(p.next, {front(80, {"10.0.0.2", "10.0.0.3"}), front(81, {"10.0.0.9"})});
  EXPECT_EQ(lines_with(q.commands, "\n"), 2u);
  EXPECT_EQ(lines_with(q.commands, "10.0.0.2"), 32u);
  EXPECT_EQ(lines_with(q.commands, "10.0.0.3"), 32u);
  EXPECT_THAT(q.commands, StartsWith("delete element inet t m4_tcp_80_0 { "));
  EXPECT_TRUE(q.removed.empty());
}

TEST(NftPlan, TheFallbackLeaves) {
  const NftPlan p = plan({}, {front(80, {"10.0.0.2", "10.0.0.3"})});
  const NftPlan q = plan(p.next, {front(80, {"10.0.0.3"})});
  EXPECT_THAT(q.commands, HasSubstr("flush chain inet t c_tcp_80_0\n"));
  EXPECT_THAT(q.commands, HasSubstr("dnat ip to 10.0.0.3:8080\n"));
  ASSERT_EQ(q.removed.size(), 1u);
  EXPECT_EQ(q.removed[0].address, "10.0.0.2");
  EXPECT_EQ(q.removed[0].target_port, 8080u);
  // The other one leaving does not touch a rule.
  const NftPlan r = plan(p.next, {front(80, {"10.0.0.2"})});
  EXPECT_THAT(r.commands, Not(HasSubstr("flush")));
}

TEST(NftPlan, GrowthBuildsBesideAndBuriesLater) {
  std::vector<std::string> many;
  for (int i = 2; i < 32; ++i) many.push_back(fmt::format("10.0.0.{}", i));
  const NftPlan p = plan({}, {front(80, {"10.0.0.2"})});
  const NftPlan q = plan(p.next, {front(80, many)});
  EXPECT_THAT(q.commands, StartsWith("add map inet t m4_tcp_80_1 { typeof numgen inc mod 128"));
  EXPECT_THAT(q.commands, HasSubstr("delete element inet t ports { tcp . 80 : goto c_tcp_80_0 }\n"
                                    "add element inet t ports { tcp . 80 : goto c_tcp_80_1 }\n"));
  EXPECT_THAT(q.commands, Not(HasSubstr("delete chain")));
  EXPECT_TRUE(q.removed.empty());
  const NftPlan r = plan(q.next, {front(80, many)});
  EXPECT_EQ(r.commands,
            "flush chain inet t c_tcp_80_0\ndelete chain inet t c_tcp_80_0\n"
            "delete map inet t m4_tcp_80_0\n");
  EXPECT_EQ(plan(r.next, {front(80, many)}).commands, "");
}

TEST(NftPlan, TargetPortChangeRetiresOldFlows) {
  const NftPlan p = plan({}, {front(80, {"10.0.0.2"}, 8080)});
  const NftPlan q = plan(p.next, {front(80, {"10.0.0.2"}, 9090)});
  ASSERT_EQ(q.removed.size(), 1u);
  EXPECT_EQ(q.removed[0].target_port, 8080u);
  EXPECT_THAT(q.commands, HasSubstr("c_tcp_80_1"));
}

TEST(NftPlan, RemovedAndComingBackGetsAFreshName) {
  const NftPlan p = plan({}, {front(80, {"10.0.0.2"})});
  const NftPlan gone = plan(p.next, {});
  EXPECT_EQ(gone.commands, "delete element inet t ports { tcp . 80 : goto c_tcp_80_0 }\n");
  ASSERT_EQ(gone.removed.size(), 1u);
  const NftPlan back = plan(gone.next, {front(80, {"10.0.0.2"})});
  EXPECT_THAT(back.commands, HasSubstr("add chain inet t c_tcp_80_1\n"));
  EXPECT_THAT(back.commands, HasSubstr("delete chain inet t c_tcp_80_0\n"));
  // No backends is the same as gone.
  EXPECT_EQ(plan(p.next, {front(80, {})}).commands, gone.commands);
}

TEST(NftPlan, BothFamiliesAndProtocols) {
  Frontend f{{v1::PortConfig::UDP, 53}, 5353, {"fd00::2", "10.0.0.2"}};
  const NftPlan p = plan({}, {f});
  EXPECT_THAT(p.commands, HasSubstr("add map inet t m6_udp_53_0 { typeof numgen inc mod 64 : ip6 "
                                    "daddr; }"));
  EXPECT_THAT(p.commands,
              HasSubstr("meta nfproto ipv6 meta l4proto udp dnat ip6 to [fd00::2]:5353\n"));
  EXPECT_THAT(p.commands, HasSubstr("ports { udp . 53 : goto c_udp_53_0 }"));
}

TEST(NftPlan, SlotsInProportionToWeights) {
  Frontend f = front(80, {"10.0.0.2", "10.0.0.3"});
  f.weights["10.0.0.2"] = 3;
  const NftPlan p = plan({}, {f});
  EXPECT_EQ(lines_with(p.commands, ": 10.0.0.2"), 48u);
  EXPECT_EQ(lines_with(p.commands, ": 10.0.0.3"), 16u);
  EXPECT_EQ(plan(p.next, {f}).commands, "");
  // Another weight exchanges slots.
  f.weights["10.0.0.2"] = 1;
  const NftPlan q = plan(p.next, {f});
  EXPECT_EQ(lines_with(q.commands, "\n"), 2u);
  EXPECT_EQ(lines_with(q.commands, ": 10.0.0.3"), 16u);
}

TEST(NftPlan, BySourceOrWithAffinityAHashChooses) {
  Frontend f = front(80, {"10.0.0.2", "fd00::2"});
  f.policy.affinity = 10s;
  const NftPlan p = plan({}, {f});
  EXPECT_THAT(p.commands, HasSubstr("dnat ip to jhash ip saddr mod 64 seed 0x4d map @m4_tcp_80_0 : "
                                    "8080\n"));
  EXPECT_THAT(p.commands, HasSubstr("dnat ip6 to jhash ip6 saddr mod 64 seed 0x4d map "
                                    "@m6_tcp_80_0 : 8080\n"));
  EXPECT_EQ(plan(p.next, {f}).commands, "");
  f.policy = {v1::EndpointSpec::SOURCE_HASH, {}};
  EXPECT_EQ(plan(p.next, {f}).commands, "");
  // Another way of choosing is another shape.
  f.policy = {v1::EndpointSpec::LEAST_CONNECTION, {}};
  const NftPlan q = plan(p.next, {f});
  EXPECT_THAT(q.commands, HasSubstr("numgen inc mod 64 map @m4_tcp_80_1"));
  EXPECT_THAT(q.next.dead_chains, ::testing::ElementsAre("c_tcp_80_0"));
}

TEST(NftPlan, RefusesNonsense) {
  EXPECT_FALSE(plan_nft("t", {}, {front(0, {"10.0.0.2"})}));
  EXPECT_FALSE(plan_nft("t", {}, {front(70000, {"10.0.0.2"})}));
  EXPECT_FALSE(plan_nft("t", {}, {front(80, {"10.0.0.2"}, 0)}));
  EXPECT_FALSE(plan_nft("t", {}, {front(80, {"10.0.0.2; flush ruleset"})}));
}

constexpr const char* kListing = R"({"nftables": [
  {"metainfo": {"version": "1.0.6"}}, {"table": {"family": "inet", "name": "t"}},
  {"map": {"name": "ports", "elem": [[{"concat": ["tcp", 80]}, {"goto": {"target": "c_tcp_80_3"}}]]}},
  {"map": {"name": "m4_tcp_80_3", "elem": [[0, "10.0.0.2"], [1, "10.0.0.3"]]}},
  {"map": {"name": "m4_tcp_80_2", "elem": [[0, "10.0.0.2"]]}},
  {"chain": {"name": "c_tcp_80_3"}}, {"chain": {"name": "c_tcp_80_2"}},
  {"chain": {"name": "prerouting"}},
  {"rule": {"chain": "c_tcp_80_3", "expr": [{"dnat": {"family": "ip", "addr": {"map": {"key": {"numgen": {"mode": "inc", "mod": 2, "offset": 0}}, "data": "@m4_tcp_80_3"}}, "port": 8080}}]}},
  {"rule": {"chain": "c_tcp_80_3", "expr": [{"dnat": {"family": "ip", "addr": "10.0.0.3", "port": 8080}}]}}
]})";

TEST(NftParse, FindsWhatAFormerProcessLeft) {
  const auto state = parse_nft(kListing);
  ASSERT_TRUE(state);
  ASSERT_EQ(state->frontends.size(), 1u);
  const NftFrontend& f = state->frontends.begin()->second;
  EXPECT_EQ(f.generation, 3u);
  EXPECT_EQ(f.target_port, 8080u);
  EXPECT_EQ(f.slots_v4, (std::vector<std::string>{"10.0.0.2", "10.0.0.3"}));
  EXPECT_EQ(f.fallback_v4, "10.0.0.3");
  EXPECT_EQ(state->dead_chains, std::vector<std::string>{"c_tcp_80_2"});
  EXPECT_EQ(state->dead_maps, std::vector<std::string>{"m4_tcp_80_2"});
}

TEST(NftParse, AHoleInAMapLeadsToANewOne) {
  std::string listing = kListing;
  listing.replace(listing.find("[0, \"10.0.0.2\"], [1"), 19, "[5, \"10.0.0.2\"], [1");
  const auto state = parse_nft(listing);
  ASSERT_TRUE(state);
  const auto p = plan_nft("t", *state, {front(80, {"10.0.0.2"})});
  ASSERT_TRUE(p);
  EXPECT_THAT(p->commands, HasSubstr("add chain inet t c_tcp_80_4\n"));
}

// A frontend that somebody else has changed is built anew beside what is left of it.
TEST(NftParse, ChangedRulesLeadToNewOnes) {
  const auto with = [](std::string_view from, std::string_view to) {
    std::string listing = kListing;
    const size_t at = listing.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return at == std::string::npos ? listing : listing.replace(at, from.size(), to);
  };
  const std::string changed[] = {
      with("\"chain\": \"c_tcp_80_3\", \"expr\"", "\"chain\": \"prerouting\", \"expr\""),
      with(R"("addr": "10.0.0.3")", R"("addr": "nonsense")"),
      with(R"("mod": 2)", R"("mod": 3)"),
      with("@m4_tcp_80_3", "@m4_tcp_80_2"),
      with(
          R"({"chain": {"name": "prerouting"}},)",
          R"({"chain": {"name": "prerouting"}}, {"rule": {"chain": "c_tcp_80_3", "expr": [{"drop": null}]}},)"),
      with(R"({"chain": {"name": "prerouting"}},)",
           R"({"set": {"name": "masquerade_ports", "elem": [{"concat": ["tcp", 80]}]}},)"),
  };
  for (const std::string& listing : changed) {
    const auto state = parse_nft(listing);
    ASSERT_TRUE(state);
    ASSERT_EQ(state->frontends.size(), 1u) << listing;
    EXPECT_EQ(state->frontends.begin()->second.target_port, 0u) << listing;
    const auto p = plan_nft("t", *state, {front(80, {"10.0.0.2", "10.0.0.3"})});
    ASSERT_TRUE(p);
    EXPECT_THAT(p->commands, HasSubstr("add chain inet t c_tcp_80_4\n"));
    // Whichever way the set was, it is right then.
    EXPECT_THAT(p->commands, HasSubstr("delete element inet t masquerade_ports { tcp . 80 }\n"));
  }
}

TEST(NftParse, SurvivesRubbish) {
  EXPECT_FALSE(parse_nft("{"));
  for (const char* text : {"[]", "{}", "{\"nftables\":3}", "{\"nftables\":[1,{\"map\":2}]}"}) {
    const auto state = parse_nft(text);
    ASSERT_TRUE(state) << text;
    EXPECT_TRUE(state->frontends.empty());
  }
}

class FakeRunner final : public NftRunner {
 public:
  Status run(const std::string& commands) override {
    ran.push_back(commands);
    if (failures.empty()) return ok_status();
    Status s = failures.front();
    failures.pop_front();
    return s;
  }
  Result<std::string> list(std::string_view) override {
    if (listing.empty()) return fail(not_found("no table"));
    return listing;
  }
  std::vector<std::string> ran;
  std::deque<Status> failures;
  std::string listing;
};

TEST(NftBalancer, LooksAgainWhenTheKernelDisagrees) {
  FakeRunner nft;
  NftBalancer balancer(nft, "t");
  ASSERT_TRUE(balancer.load().ok());
  nft.failures.push_back(internal_error("exists"));
  nft.listing = kListing;
  const auto removed = balancer.apply({front(80, {"10.0.0.3"})});
  ASSERT_TRUE(removed) << removed.error().message();
  EXPECT_EQ(nft.ran.size(), 2u);
  EXPECT_EQ(balancer.in_force().size(), 1u);
}

TEST(NftBalancer, FindsWhatSomebodyElseHasChanged) {
  FakeRunner nft;
  NftBalancer balancer(nft, "t");
  nft.listing = kListing;
  ASSERT_TRUE(balancer.load().ok());
  EXPECT_EQ(balancer.look(kListing).value_or(9), 0u);
  std::string changed = kListing;
  changed.replace(changed.find("[1, \"10.0.0.3\"]"), 15, "[1, \"10.0.0.9\"]");
  EXPECT_EQ(balancer.look(changed).value_or(9), 1u);
  // What it is now counts, until it is mended.
  EXPECT_EQ(balancer.look(changed).value_or(9), 0u);
  nft.ran.clear();
  ASSERT_TRUE(balancer.apply({front(80, {"10.0.0.2", "10.0.0.3"})}));
  ASSERT_EQ(nft.ran.size(), 1u);
  EXPECT_THAT(nft.ran[0], HasSubstr("c_tcp_80_4"));
  // One that is gone, and one that is new.
  EXPECT_EQ(balancer.look(R"({"nftables": []})").value_or(9), 1u);
  EXPECT_EQ(balancer.look(kListing).value_or(9), 1u);
  EXPECT_FALSE(balancer.look("{"));
}

TEST(NftBalancer, MendingWhatSomebodyElseChangedEndsNoFlowOfThoseThatStay) {
  FakeRunner nft;
  NftBalancer balancer(nft, "t");
  nft.listing = kListing;
  std::string changed = kListing;
  changed.replace(changed.find("\"addr\": \"10.0.0.3\""), 18, "\"addr\": \"nowhere.\"");
  for (const bool one_leaves : {false, true}) {
    ASSERT_TRUE(balancer.load().ok());
    ASSERT_EQ(balancer.look(changed).value_or(9), 1u);
    std::vector<std::string> stay = {"10.0.0.2", "10.0.0.3"};
    if (one_leaves) stay.pop_back();
    const auto mended = balancer.apply({front(80, stay)});
    ASSERT_TRUE(mended) << mended.error().message();
    EXPECT_THAT(nft.ran.back(), HasSubstr("c_tcp_80_4"));
    ASSERT_EQ(mended->size(), one_leaves ? 1u : 0u);
    EXPECT_EQ(mended->empty() ? "" : mended->front().address, one_leaves ? "10.0.0.3" : "");
  }
}

TEST(NftBalancer, AFailureChangesNothing) {
  FakeRunner nft;
  NftBalancer balancer(nft, "t");
  ASSERT_TRUE(balancer.load().ok());
  nft.failures = {internal_error("no"), internal_error("still no")};
  EXPECT_FALSE(balancer.apply({front(80, {"10.0.0.3"})}));
  EXPECT_TRUE(balancer.in_force().empty());
}

}  // namespace
}  // namespace muster::overlay
