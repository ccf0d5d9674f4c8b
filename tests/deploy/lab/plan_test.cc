#include "deploy/lab/plan.h"

#include <gmock/gmock.h>

#include <set>

namespace muster::deploy::lab {
namespace {

using testing::HasSubstr;
using testing::Not;

overlay::Prefix prefix(std::string_view text) {
  return overlay::Prefix::parse(text).value();
}

LabWish wish(int managers, int workers) {
  LabWish out;
  out.managers = managers;
  out.workers = workers;
  return out;
}

TEST(LabName, IsAHostNamesPart) {
  for (const char* good : {"a", "lab", "lab-2", "0", "twenty-characters-ok"})
    EXPECT_TRUE(check_lab_name(good).ok()) << good;
  for (const char* bad :
       {"", "-a", "a-", "Lab", "a_b", "a.b", "a/b", "..", "twenty-one-characters"}) {
    const Status status = check_lab_name(bad);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << bad;
  }
}

TEST(LabWish, SaysWhatIsWrong) {
  EXPECT_TRUE(check_wish(wish(1, 0)).ok());
  EXPECT_TRUE(check_wish(wish(15, 100)).ok());
  EXPECT_EQ(check_wish(wish(0, 2)).message(), "a lab has 1 to 15 managers, not 0");
  EXPECT_EQ(check_wish(wish(16, 0)).message(), "a lab has 1 to 15 managers, not 16");
  EXPECT_EQ(check_wish(wish(1, -1)).message(), "a lab has 0 to 100 workers, not -1");
  EXPECT_EQ(check_wish(wish(1, 101)).message(), "a lab has 0 to 100 workers, not 101");
}

TEST(LabMemory, CountsEveryNode) {
  constexpr uint64_t kMiB = 1 << 20;
  EXPECT_TRUE(check_memory(wish(3, 2), 592 * kMiB).ok());
  const Status status = check_memory(wish(3, 2), 592 * kMiB - 1);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(),
            "3 managers and 2 workers need about 592 MiB of memory, and 591 MiB are available: ask "
            "for fewer nodes");
}

TEST(LabSubnet, IsTheFirstThatMeetsNothing) {
  EXPECT_EQ(choose_subnet({})->str(), "10.213.0.0/24");
  EXPECT_EQ(choose_subnet({prefix("192.168.0.0/16"), prefix("10.0.0.0/24")})->str(),
            "10.213.0.0/24");
  EXPECT_EQ(choose_subnet({prefix("10.213.0.0/24"), prefix("10.214.0.77/32")})->str(),
            "10.215.0.0/24");
  EXPECT_EQ(choose_subnet({prefix("10.208.0.0/12")})->str(), "10.224.0.0/24");
}

TEST(LabSubnet, ThereMayBeNone) {
  const auto subnet = choose_subnet({prefix("10.0.0.0/8")});
  ASSERT_FALSE(subnet);
  EXPECT_EQ(subnet.error().code(), StatusCode::kResourceExhausted);
}

TEST(LabPlan, GivesEveryNodeItsAddress) {
  const LabPlan plan = make_plan(wish(3, 2), prefix("10.220.0.0/24"));
  std::vector<std::string> lines;
  for (const NodePlan& node : plan.nodes)
    lines.push_back(fmt::format("{} {} {}", node.name, to_string(node.role), node.address.str()));
  EXPECT_THAT(lines,
              testing::ElementsAre("registry registry 10.220.0.2", "manager1 manager 10.220.0.11",
                                   "manager2 manager 10.220.0.12", "manager3 manager 10.220.0.13",
                                   "worker1 worker 10.220.0.101", "worker2 worker 10.220.0.102"));
  EXPECT_EQ(plan.host_address().str(), "10.220.0.1");
  EXPECT_EQ(plan.registry(), "10.220.0.2:5000");
  EXPECT_EQ(plan.find("worker2")->address.str(), "10.220.0.102");
  EXPECT_EQ(plan.find("worker3"), nullptr);
}

TEST(LabPlan, TheLargestStaysInItsSubnet) {
  const LabPlan plan = make_plan(wish(15, 100), prefix("10.220.0.0/24"));
  std::set<std::string> addresses;
  for (const NodePlan& node : plan.nodes) {
    EXPECT_TRUE(plan.subnet.contains(node.address)) << node.address.str();
    EXPECT_NE(node.address, plan.subnet.last());
    EXPECT_TRUE(addresses.insert(node.address.str()).second) << node.address.str();
  }
}

TEST(HostsFile, HasAllNodesByName) {
  const std::string text = hosts_file(make_plan(wish(1, 1), prefix("10.220.0.0/24")), "worker1");
  EXPECT_THAT(text, HasSubstr("127.0.0.1 localhost\n"));
  EXPECT_THAT(text, HasSubstr("10.220.0.2 registry registry.lab\n"));
  EXPECT_THAT(text, HasSubstr("10.220.0.11 manager1 manager1.lab\n"));
  EXPECT_THAT(text, HasSubstr("10.220.0.101 worker1 worker1.lab  # this node\n"));
  EXPECT_THAT(text, HasSubstr("10.220.0.1 host\n"));
}

TEST(ResolvConf, HasWhatANodeCanReach) {
  constexpr std::string_view kHost =
      "# nameserver 1.2.3.4\n"
      "search example.org\n"
      "nameserver 127.0.0.53\n"
      "nameserver\t10.1.1.1  # one\n"
      "nameserver fe80::1%eth0\n"
      "nameserver 8.8.8.8";
  const std::string text = resolv_conf(kHost, true);
  EXPECT_THAT(text, HasSubstr("\nnameserver 10.1.1.1\nnameserver 8.8.8.8\n"));
  EXPECT_THAT(text, Not(HasSubstr("127.0.0.53")));
  EXPECT_THAT(text, Not(HasSubstr("1.2.3.4")));
  EXPECT_THAT(text, Not(HasSubstr("fe80")));
}

TEST(ResolvConf, WithoutAWayOutThereIsNobodyToAsk) {
  const std::string text = resolv_conf("nameserver 10.1.1.1\n", false);
  EXPECT_THAT(text, Not(HasSubstr("nameserver")));
  EXPECT_THAT(text, HasSubstr("no resolver"));
}

}  // namespace
}  // namespace muster::deploy::lab
