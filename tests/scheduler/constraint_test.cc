#include "scheduler/constraint.h"

#include <gtest/gtest.h>

namespace muster::scheduler {
namespace {

NodeFacts sample() {
  NodeFacts node;
  node.id = "nodeid1";
  node.hostname = "Web-01";
  node.address = "10.1.2.3";
  node.os = "linux";
  node.architecture = "x86_64";
  node.node_labels = {{"Zone", "eu-1"}, {"empty", ""}};
  node.engine_labels = {{"disk", "ssd"}};
  return node;
}

TEST(Constraint, Matches) {
  const struct {
    const char* text;
    bool matches;
  } kCases[] = {
      {"node.id==nodeid1", true},           {"node.id == NODEID1", true},
      {"node.id!=nodeid1", false},          {"node.hostname==web-01", true},
      {"NODE.HOSTNAME == WEB-01", true},    {"node.hostname==web-*", false},  // no globbing
      {"node.role==worker", true},          {"node.role==Manager", false},
      {"node.role!=manager", true},         {"node.platform.os==linux", true},
      {"node.platform.arch==x86_64", true}, {"node.labels.Zone==EU-1", true},
      {"node.labels.zone==eu-1", false},  // the label's name is case-sensitive
      {"Node.Labels.Zone==eu-1", true},     {"node.labels.none==x", false},
      {"node.labels.none!=x", true},        {"node.labels.empty!=x", true},
      {"engine.labels.disk==ssd", true},    {"engine.labels.disk!=ssd", false},
      {"node.ip==10.1.2.3", true},          {"node.ip!=10.1.2.3", false},
      {"node.ip==10.1.0.0/16", true},       {"node.ip!=10.1.0.0/16", false},
      {"node.ip==10.2.0.0/16", false},      {"node.ip!=10.2.0.0/15", true},
      {"node.ip==0.0.0.0/0", true},         {"node.ip==2001:db8::2", false},
      {"node.ip==10.1.2", false},  // malformed never matches
      {"node.ip!=10.1.2", false},           {"node.ip!=10.1.0.0/33", false},
      {"node.color==blue", false},  // an unknown key never matches
      {"node.color!=blue", false},          {"node.labels.==x", false},
  };
  for (const auto& c : kCases) {
    auto parsed = Constraint::parse(c.text);
    ASSERT_TRUE(parsed) << c.text << ": " << parsed.error().message();
    EXPECT_EQ(parsed->matches(sample()), c.matches) << c.text;
  }
}

TEST(Constraint, RefusesWithSwarmsWords) {
  const struct {
    const char* text;
    const char* error;
  } kCases[] = {
      {"node.id", "constraint expected one operator from ==, !="},
      {"", "constraint expected one operator from ==, !="},
      {"node.id=web", "constraint expected one operator from ==, !="},
      {"==web", "key '' is invalid"},
      {"a==web", "key 'a' is invalid"},
      {"1node==web", "key '1node' is invalid"},
      {"no de==web", "key 'no de' is invalid"},
      {"a!=b==c", "key 'a!=b' is invalid"},
      {"node.id==", "value '' is invalid"},
      {"node.id==a,b", "value 'a,b' is invalid"},
      {"node.id==a==b", "value 'a==b' is invalid"},
  };
  for (const auto& c : kCases) {
    auto parsed = Constraint::parse(c.text);
    ASSERT_FALSE(parsed) << c.text;
    EXPECT_EQ(parsed.error().message(), c.error) << c.text;
  }
}

TEST(Constraint, AddressOfANodeMayCarryAPort) {
  v1::Node node;
  node.mutable_status()->set_address("10.1.2.3:2377");
  EXPECT_EQ(facts_of(node).address, "10.1.2.3");
  node.mutable_status()->set_address("[fd00::7]:2377");
  EXPECT_EQ(facts_of(node).address, "fd00::7");
  node.mutable_status()->set_address("fd00::7");
  EXPECT_EQ(facts_of(node).address, "fd00::7");
  EXPECT_TRUE(Constraint::parse("node.ip==fd00::/8")->matches(facts_of(node)));
}

TEST(Spread, Values) {
  EXPECT_EQ(spread_value("node.labels.Zone", sample()), "eu-1");
  EXPECT_EQ(spread_value("engine.labels.disk", sample()), "ssd");
  EXPECT_EQ(spread_value("node.labels.other", sample()), "");
  EXPECT_FALSE(is_spread_descriptor("node.hostname"));
}

}  // namespace
}  // namespace muster::scheduler
