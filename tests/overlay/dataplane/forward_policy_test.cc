#include "overlay/dataplane/host/forward_policy.h"

#include <gtest/gtest.h>

namespace muster::overlay {
namespace {

TEST(ForwardPolicy, ChainsThatDropWhatIsForwarded) {
  const auto found = dropping_chains(R"({"nftables": [{"metainfo": {"version": "1.0.6"}},
    {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 2, "type": "filter",
               "hook": "forward", "prio": 0, "policy": "drop"}},
    {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "handle": 1, "type": "filter",
               "hook": "input", "prio": 0, "policy": "drop"}},
    {"chain": {"family": "inet", "table": "muster_a", "name": "forward", "handle": 1,
               "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
    {"chain": {"family": "bridge", "table": "filter", "name": "forward", "handle": 1,
               "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
    {"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER", "handle": 3}},
    {"chain": {"family": "inet", "table": "wall", "name": "routed", "handle": 1, "type": "filter",
               "hook": "forward", "prio": 10, "policy": "drop"}}]})");
  EXPECT_EQ(found,
            (std::vector<DroppingChain>{{"ip", "filter", "FORWARD"}, {"inet", "wall", "routed"}}));
  EXPECT_TRUE(dropping_chains("").empty());
  EXPECT_TRUE(dropping_chains("{}").empty());
  EXPECT_TRUE(dropping_chains(R"({"nftables": [1, {"chain": 2}]})").empty());
}

TEST(ForwardPolicy, RulesThatNameMustersInterfaces) {
  const auto rule = [](const std::string& expressions) {
    return R"({"nftables": [{"rule": {"family": "ip", "table": "filter", "chain": "FORWARD",
      "comment": "miles", "expr": [)" +
           expressions + R"(]}}]})";
  };
  const auto match = [](const char* key, const char* right) {
    return std::string(R"({"match": {"op": "==", "left": {"meta": {"key": ")") + key +
           R"("}}, "right": )" + right + "}}";
  };
  EXPECT_TRUE(names_our_interfaces(rule(match("iifname", R"("mi*")") + R"(, {"accept": null})")));
  EXPECT_TRUE(names_our_interfaces(rule(match("oifname", R"({"set": ["eth0", "mg0a1b"]})"))));
  EXPECT_FALSE(names_our_interfaces(rule(match("iifname", R"("docker0")"))));
  EXPECT_FALSE(names_our_interfaces(rule(match("l4proto", R"("mi")"))));
  EXPECT_FALSE(names_our_interfaces(rule(R"({"limit": {"rate": 5, "per": "minute"}})")));
  EXPECT_FALSE(names_our_interfaces("no JSON"));
}

}  // namespace
}  // namespace muster::overlay
