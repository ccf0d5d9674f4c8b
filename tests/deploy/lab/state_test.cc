#include "deploy/lab/lab_state.h"

#include <gmock/gmock.h>

#include "deploy/lab/cluster.h"
#include "deploy/lab/node_cgroups.h"
#include "deploy/lab/processes.h"

namespace muster::deploy::lab {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

LabState some_state() {
  LabWish wish;
  wish.name = "demo";
  wish.managers = 2;
  wish.workers = 1;
  LabState state;
  state.plan = make_plan(wish, overlay::Prefix::parse("10.220.0.0/24").value());
  state.nat = true;
  state.ip_forward_set = true;
  state.log_level = "debug";
  state.musterd = "/usr/bin/musterd";
  state.ended = {{"manager2", "killed"}};
  state.cuts = {{{"manager1", "worker1"}, Cut::kSilent}, {{"worker1", "manager2"}, Cut::kRefuse}};
  return state;
}

TEST(LabState, SurvivesItsFile) {
  const LabState state = some_state();
  const auto again = decode_state(encode_state(state));
  ASSERT_TRUE(again) << again.error().to_string();
  EXPECT_EQ(encode_state(*again), encode_state(state));
  EXPECT_EQ(again->plan.name, "demo");
  EXPECT_EQ(again->plan.find("worker1")->address.str(), "10.220.0.101");
  EXPECT_EQ(again->ended, state.ended);
  EXPECT_EQ(again->cuts, state.cuts);
  EXPECT_TRUE(again->nat && again->ip_forward_set);
}

TEST(LabState, IsRefusedWhenDamagedOrNewer) {
  const std::string good = encode_state(some_state());
  const auto refused = [](const std::string& text) { return decode_state(text).error(); };
  EXPECT_EQ(refused("").code(), StatusCode::kDataLoss);
  EXPECT_EQ(refused(good.substr(0, good.size() / 2)).code(), StatusCode::kDataLoss);
  EXPECT_EQ(refused("{}").code(), StatusCode::kDataLoss);
  EXPECT_EQ(refused(R"({"version":2})").code(), StatusCode::kFailedPrecondition);
  const auto with = [&](std::string_view from, std::string_view to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  EXPECT_FALSE(decode_state(with("\"demo\"", "\"../x\"")));
  EXPECT_FALSE(decode_state(with("10.220.0.0/24", "10.220.0.0")));
  EXPECT_FALSE(decode_state(with("\"from\":\"manager1\"", "\"from\":\"nobody\"")));
  EXPECT_FALSE(decode_state(with("\"name\":\"registry\"", "\"name\":\"other\"")));
}

TEST(NodeList, IsReadAsItIsPrinted) {
  const auto nodes = parse_node_list("manager1|Ready|Active|Leader\nworker1|Down|Drain|\nnoise\n");
  ASSERT_EQ(nodes.size(), 2u);
  EXPECT_EQ(nodes[0].manager_status, "Leader");
  EXPECT_EQ(nodes[1].hostname, "worker1");
  EXPECT_EQ(nodes[1].status, "Down");
  EXPECT_EQ(nodes[1].availability, "Drain");
  EXPECT_EQ(nodes[1].manager_status, "");
}

TEST(NodeList, AHostThatJoinedAgainIsTheOneThatIsReady) {
  const auto nodes = parse_node_list("worker1|Ready|Active|\nworker1|Down|Active|\n");
  EXPECT_EQ(find_node(nodes, "worker1")->status, "Ready");
  const auto turned = parse_node_list("worker1|Down|Active|\nworker1|Ready|Active|\n");
  EXPECT_EQ(find_node(turned, "worker1")->status, "Ready");
  EXPECT_EQ(find_node(nodes, "worker2"), nullptr);
}

TEST(Readiness, SaysWhoIsMissing) {
  const LabPlan plan = some_state().plan;
  EXPECT_EQ(not_ready(plan, parse_node_list("manager1|Ready|Active|Leader\n"
                                            "manager2|Ready|Active|Reachable\n"
                                            "worker1|Ready|Active|\n")),
            "");
  EXPECT_EQ(not_ready(plan, parse_node_list("manager1|Ready|Active|Leader\n"
                                            "manager2|Ready|Active|Unreachable\n"
                                            "worker1|Down|Active|\n")),
            "manager2 is an unreachable manager, worker1 is Down");
  EXPECT_EQ(not_ready(plan, parse_node_list("manager1|Ready|Active|Leader\n"
                                            "manager2|Ready|Active|\n")),
            "manager2 is no manager, worker1 has not joined");
}

TEST(Processes, AreReadFromProc) {
  using namespace std::string_view_literals;
  EXPECT_THAT(parse_cmdline("muster\0lab\0\0x y\0"sv), ElementsAre("muster", "lab", "", "x y"));
  EXPECT_TRUE(parse_cmdline("").empty());
  EXPECT_EQ(parse_process_state("12 (a) b) T 1 12 12 0"), 'T');
  EXPECT_EQ(parse_process_state("12 (musterd) S 1 12"), 'S');
  EXPECT_EQ(parse_process_state("12 (musterd)"), '?');
  EXPECT_EQ(parse_parent("12 (a) 7) T 4711 12 12 0"), 4711);
  EXPECT_EQ(parse_parent("12 (musterd)"), 0);
}

TEST(Processes, ANodesFirstOneIsOneNamespaceBelowOurs) {
  EXPECT_TRUE(parse_inner_init("Name:\tx\nNSpid:\t4711\t1\nNSpgid:\t4711\t1\n"));
  EXPECT_FALSE(parse_inner_init("Name:\tx\nNSpid:\t4711\t2\n"));
  EXPECT_FALSE(parse_inner_init("Name:\tx\nNSpid:\t1\n"));
  // The first process of a node's container.
  EXPECT_FALSE(parse_inner_init("Name:\tx\nNSpid:\t4711\t90\t1\n"));
  EXPECT_FALSE(parse_inner_init("Name:\tx\n"));
}

TEST(Instance, IsTakenWholeOrNotAtAll) {
  EXPECT_EQ(instance_of(R"({"version":1,"instance_id":"ab12cd34"})"), "ab12cd34");
  for (const char* text : {"", "{}", "[]", R"({"instance_id":""})", R"({"instance_id":"ab12"})",
                           R"({"instance_id":"../../.."})", R"({"instance_id":7})"})
    EXPECT_EQ(instance_of(text), "") << text;
}

}  // namespace
}  // namespace muster::deploy::lab
