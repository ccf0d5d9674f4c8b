#include "agent/doctor/checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/doctor/name_query.h"
#include "tests/agent/doctor/node_in_network.h"

namespace muster::agent {
namespace {

using Finding = v1::NetworkFinding;

v1::NetworkExamination examination() {
  v1::NetworkExamination out;
  out.set_data_path_port(4789);
  for (const char* id : {"n2", "n3"}) {
    v1::ExaminedNode& node = *out.add_nodes();
    node.set_node_id(id);
    node.set_hostname(std::string("host-") + id);
  }
  return out;
}

TEST(JudgeTunnels, SaysOfWhomNothingOrOnlyTheSmallArrives) {
  EXPECT_TRUE(judge_tunnels(examination(), "one", 1450,
                            {{"n2", {true, true, 1450}}, {"n3", {true, true, 1450}}})
                  .empty());
  const auto found = judge_tunnels(examination(), "one", 1450, {{"n3", {true, false, 1250}}});
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].check(), "vxlan");
  EXPECT_EQ(found[0].peer_id(), "n2");
  EXPECT_EQ(found[0].text(), "nothing that host-n2 sends to UDP port 4789 of one arrives");
  EXPECT_EQ(found[1].check(), "mtu");
  EXPECT_EQ(found[1].text(),
            "frames with 1450 bytes that host-n3 sends to one are lost, those with 1250 arrive");
}

TEST(JudgeTunnels, TheLargestNetworkSaysWhatHasToPass) {
  NodeFacts facts = node_in_network();
  facts.networks[1].feed.mutable_network()->mutable_state()->set_mtu(8951);
  EXPECT_EQ(largest_mtu(facts), 8951u);
  EXPECT_EQ(largest_mtu({}), 1450u);
}

TEST(Names, EveryServiceIsAskedForInTheNetwork) {
  const auto tests = plan_names(examination(), node_in_network());
  ASSERT_EQ(tests.size(), 1u) << "not the ingress network";
  const NameTest& test = tests[0];
  EXPECT_EQ(test.netns, "/netns/c1");
  ASSERT_EQ(test.questions.size(), 4u);
  EXPECT_EQ(test.questions[0].name, "web.blue");
  EXPECT_EQ(test.expected[0], std::set<std::string>{"10.0.1.2"});
  EXPECT_EQ(test.questions[1].name, "tasks.web.blue");
  EXPECT_EQ(test.expected[1], (std::set<std::string>{"10.0.1.3", "10.0.1.4"}));
  EXPECT_EQ(test.questions[2].name, "list.blue");
  EXPECT_EQ(test.expected[2], std::set<std::string>{"10.0.1.6"});
}

TEST(Names, NobodyIsAskedWhereThereIsNoContainerOrNoResolver) {
  NodeFacts facts = node_in_network();
  facts.names = false;
  EXPECT_TRUE(plan_names(examination(), facts).empty());
  facts = node_in_network();
  facts.containers.clear();
  EXPECT_TRUE(plan_names(examination(), facts).empty());
  auto asked = examination();
  asked.add_network_ids("net-green");
  EXPECT_TRUE(plan_names(asked, node_in_network()).empty());
}

struct NameCase {
  const char* what;
  std::vector<HostTests::Named> named;
  Finding::Verdict verdict;
  const char* says;
};

TEST(Names, AnswersAreComparedWithWhatTheManagersSay) {
  const NameTest test = plan_names(examination(), node_in_network())[0];
  const HostTests::Named web{true, false, {"10.0.1.2"}}, list{true, false, {"10.0.1.6"}};
  const HostTests::Named tasks{true, false, {"10.0.1.4", "10.0.1.3"}}, silent;
  const std::vector<NameCase> cases = {
      {"all", {web, tasks, list, list}, Finding::GOOD, "4 questions for names"},
      {"netd is stopped",
       {silent, silent, silent, silent},
       Finding::BAD,
       "the resolver of the containers does not answer web.1.t1: `musterd netd`"},
      {"one is not answered",
       {silent, tasks, list, list},
       Finding::BAD,
       "web.blue was not answered"},
      {"nowhere",
       {{true, false, {}}, tasks, list, list},
       Finding::BAD,
       "web.blue leads nowhere instead of to 10.0.1.2"},
      {"a task lacks",
       {web, {true, false, {"10.0.1.3"}}, list, list},
       Finding::BAD,
       "tasks.web.blue does not lead to 10.0.1.4"},
      {"a task lacks for want of room",
       {web, {true, true, {"10.0.1.3"}}, list, list},
       Finding::GOOD,
       ""},
      {"one that is draining is known",
       {web, {true, false, {"10.0.1.3", "10.0.1.4", "10.0.1.5"}}, list, list},
       Finding::GOOD,
       ""},
      {"somebody who is gone",
       {web, tasks, {true, false, {"10.0.1.6", "10.0.1.99"}}, list},
       Finding::BAD,
       "list.blue leads to 10.0.1.99, which nothing in the network has"},
  };
  for (const NameCase& c : cases) {
    SCOPED_TRACE(c.what);
    const Finding found = judge_names(test, c.named);
    EXPECT_EQ(found.verdict(), c.verdict) << found.text();
    EXPECT_EQ(found.check(), "dns");
    EXPECT_NE(found.text().find(c.says), std::string::npos) << found.text();
  }
  const Finding found = judge_names(test, fail(not_found("no such file")));
  EXPECT_EQ(found.verdict(), Finding::BAD);
}

TEST(Connects, AVirtualAddressOfEveryServiceWithTasks) {
  NodeFacts facts = node_in_network();
  auto tests = plan_virtual_addresses(examination(), facts);
  ASSERT_EQ(tests.size(), 1u);
  ASSERT_EQ(tests[0].targets.size(), 1u) << "list has none";
  EXPECT_EQ(tests[0].targets[0].address, "10.0.1.2");
  EXPECT_EQ(tests[0].targets[0].port, 80);
  EXPECT_EQ(tests[0].netns, "/netns/c1");
  facts.networks[0].feed.mutable_services(1)->add_virtual_ips("10.0.1.9");
  tests = plan_virtual_addresses(examination(), facts);
  ASSERT_EQ(tests[0].targets.size(), 2u);
  EXPECT_EQ(tests[0].targets[1].address, "10.0.1.9");
  EXPECT_EQ(tests[0].targets[1].port, kAnyPort) << "it publishes no port";
  using Answer = HostTests::Answer;
  Finding found = judge_connects(tests[0], std::vector{Answer::kAccepted, Answer::kRefused});
  EXPECT_EQ(found.verdict(), Finding::GOOD) << found.text();
  EXPECT_THAT(found.text(), testing::HasSubstr(", 1 answered at a port where nobody is known"));
  found = judge_connects(tests[0], std::vector{Answer::kAccepted, Answer::kSilent});
  EXPECT_EQ(found.verdict(), Finding::BAD);
  EXPECT_THAT(found.text(), testing::HasSubstr("no answer to list (10.0.1.9) from web.1.t1"));
  found = judge_connects(tests[0], std::vector{Answer::kRefused, Answer::kRefused});
  EXPECT_EQ(found.verdict(), Finding::WARNING) << "somebody should listen at 80";
  for (auto& endpoint : *facts.networks[0].feed.mutable_endpoints()) {
    endpoint.set_state(v1::ENDPOINT_DRAINING);
  }
  EXPECT_TRUE(plan_virtual_addresses(examination(), facts).empty()) << "nobody is to answer";
}

TEST(Connects, WhatIsBehindNodesThatNothingReachesIsNotSaidAgain) {
  NodeFacts facts = node_in_network();
  facts.networks[0].feed.mutable_services(1)->add_virtual_ips("10.0.1.9");
  facts.networks[0].feed.mutable_endpoints(1)->set_node_id("n2");
  ConnectTest test = plan_virtual_addresses(examination(), facts)[0];
  using Answer = HostTests::Answer;
  std::vector answers = {Answer::kSilent, Answer::kSilent};
  EXPECT_TRUE(leave_out(test, answers, {"n2"}));
  EXPECT_EQ(answers, (std::vector{Answer::kUntried, Answer::kSilent})) << "list is elsewhere";
  answers = {Answer::kAccepted, Answer::kSilent};
  EXPECT_TRUE(leave_out(test, answers, {"n3"}));
  EXPECT_EQ(answers, (std::vector{Answer::kAccepted, Answer::kSilent}));
  answers = {Answer::kSilent, Answer::kSilent};
  EXPECT_FALSE(leave_out(test, answers, {"n2", ""})) << "nothing is left to say";
  facts.networks[0].feed.mutable_network()->mutable_spec()->add_driver_options()->set_key(
      "encrypted");
  test = plan_virtual_addresses(examination(), facts)[0];
  answers = {Answer::kSilent, Answer::kSilent};
  EXPECT_TRUE(leave_out(test, answers, {"n2", ""})) << "it has a way of its own";
  EXPECT_EQ(answers, (std::vector{Answer::kSilent, Answer::kSilent}));
}

TEST(Connects, InLargeNetworksEachNodeTriesOtherServices) {
  NodeFacts facts = node_in_network();
  v1::NetworkFeed& feed = facts.networks[0].feed;
  const size_t many = 3 * kServicesMax;
  for (size_t i = 0; i < many; ++i) {
    v1::NetworkService& service = *feed.add_services();
    service.set_service_id("s" + std::to_string(i));
    service.add_virtual_ips("10.1." + std::to_string(i / 250) + "." + std::to_string(i % 250));
    v1::NetworkEndpoint& endpoint = *feed.add_endpoints();
    endpoint.set_service_id(service.service_id());
    endpoint.set_state(v1::ENDPOINT_READY);
  }
  std::set<std::string> tried;
  for (int node = 0; node < 64; ++node) {
    facts.node_id = "node" + std::to_string(node);
    const ConnectTest test = plan_virtual_addresses(examination(), facts)[0];
    EXPECT_EQ(test.targets.size(), kServicesMax);
    EXPECT_EQ(test.left_out, many + 1 - kServicesMax);
    for (const auto& target : test.targets) tried.insert(target.address);
  }
  EXPECT_EQ(tried.size(), many + 1);
}

TEST(Connects, PublishedPortsFromTheNodeItself) {
  NodeFacts facts = node_in_network();
  auto tests = plan_published_ports(examination(), facts);
  ASSERT_EQ(tests.size(), 1u);
  EXPECT_EQ(tests[0].network_id, "net-ingress");
  EXPECT_EQ(tests[0].netns, "");
  ASSERT_EQ(tests[0].what.size(), 2u);
  EXPECT_EQ(tests[0].what[0], "published port 8080 of web at 192.0.2.1");
  EXPECT_EQ(tests[0].what[1], "published port 8080 of web at 127.0.0.1");
  facts.ports[0].port.set_bind("192.0.2.77");
  EXPECT_EQ(plan_published_ports(examination(), facts)[0].targets[0].address, "192.0.2.77");
  facts.ports[0].port.set_bind("eth1");
  EXPECT_TRUE(plan_published_ports(examination(), facts).empty());
  facts = node_in_network();
  facts.ports[0].backends.clear();
  EXPECT_TRUE(plan_published_ports(examination(), facts).empty()) << "nobody is to answer";
  facts = node_in_network();
  facts.refused_ports.push_back(facts.ports[0].port);
  EXPECT_TRUE(plan_published_ports(examination(), facts).empty()) << "somebody else does";
  facts = node_in_network();
  facts.loopback_ports.push_back(facts.ports[0].port);
  EXPECT_EQ(plan_published_ports(examination(), facts)[0].targets.size(), 2u) << "all but ::1";
}

TEST(Connects, PublishedPortsOfOtherProtocols) {
  NodeFacts facts = node_in_network();
  facts.ports[0].port.set_protocol(v1::PortConfig::UDP);
  ConnectTest test = plan_published_ports(examination(), facts)[0];
  ASSERT_EQ(test.targets.size(), 2u);
  EXPECT_EQ(test.targets[0].protocol, HostTests::Protocol::kUdp);
  EXPECT_EQ(test.what[1], "published port 8080/udp of web at 127.0.0.1");
  using Answer = HostTests::Answer;
  Finding found = judge_connects(test, std::vector{Answer::kSilent, Answer::kAccepted});
  EXPECT_EQ(found.verdict(), Finding::GOOD) << "nobody knows what it would answer";
  EXPECT_NE(found.text().find("2 times"), std::string::npos) << found.text();
  found = judge_connects(test, std::vector{Answer::kSilent, Answer::kRefused});
  EXPECT_EQ(found.verdict(), Finding::WARNING);
  EXPECT_NE(found.text().find("8080/udp of web at 127.0.0.1: its tasks run, but nothing listens"),
            std::string::npos)
      << found.text();
  found = judge_connects(test, std::vector{Answer::kUnreachable, Answer::kSilent});
  EXPECT_EQ(found.verdict(), Finding::BAD);
  facts.ports[0].port.set_protocol(v1::PortConfig::SCTP);
  test = plan_published_ports(examination(), facts)[0];
  ASSERT_EQ(test.targets.size(), 1u) << "not by 127.0.0.1";
  EXPECT_EQ(judge_connects(test, std::vector{Answer::kUntried}).verdict(), Finding::GOOD);
  EXPECT_EQ(judge_connects(test, std::vector{Answer::kSilent}).verdict(), Finding::BAD);
}

TEST(Connects, WhatCameOfThemInWords) {
  using Answer = HostTests::Answer;
  const ConnectTest test = plan_published_ports(examination(), node_in_network())[0];
  Finding found = judge_connects(test, std::vector{Answer::kAccepted, Answer::kAccepted});
  EXPECT_EQ(found.verdict(), Finding::GOOD);
  found = judge_connects(test, std::vector{Answer::kSilent, Answer::kAccepted});
  EXPECT_EQ(found.verdict(), Finding::BAD);
  EXPECT_TRUE(found.text().starts_with(
      "no answer to published port 8080 of web at 192.0.2.1 from the node itself: "))
      << found.text();
  found = judge_connects(test, std::vector{Answer::kRefused, Answer::kAccepted});
  EXPECT_EQ(found.verdict(), Finding::WARNING);
  found = judge_connects(test, std::vector{Answer::kRefused, Answer::kUnreachable});
  EXPECT_EQ(found.verdict(), Finding::BAD);
}

TEST(Containers, ThoseThatRunInNamespacesOfTheirOwn) {
  v1::LocalTask task;
  task.set_container_id("c1");
  task.mutable_status()->set_state(v1::TASK_RUNNING);
  task.mutable_assignment()->mutable_task()->set_id("t1");
  task.mutable_assignment()->mutable_task()->set_name("web.1");
  v1::NetworkAttachment& at = *task.mutable_assignment()->mutable_task()->add_networks();
  at.set_network_id("net-blue");
  at.add_addresses("10.0.1.3/24");
  v1::LocalTask ended = task, host = task;
  ended.mutable_status()->set_state(v1::TASK_FAILED);
  host.set_host_network(true);
  const auto found = running_containers({task, ended, host}, "/run/netns");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].name, "web.1.t1");
  EXPECT_EQ(found[0].netns, "/run/netns/c1");
  EXPECT_EQ(found[0].attachments[0].addresses, std::vector<std::string>{"10.0.1.3"});
}

TEST(NameQuery, IsAQuestionWithRoomForALongAnswer) {
  const std::string query = name_query(7, {"web.blue", false});
  EXPECT_EQ(query.substr(0, 12), std::string("\0\7\1\0\0\1\0\0\0\0\0\1", 12));
  EXPECT_EQ(query.substr(12, 10), std::string("\3web\4blue\0", 10));
  EXPECT_EQ(query.substr(22, 4), std::string("\0\1\0\1", 4));
  EXPECT_FALSE(parse_name_reply(query)) << "a question is no answer";
  std::string reply = query.substr(0, 26);
  reply[2] = '\x81';
  reply[7] = 1;   // an answer
  reply[11] = 0;  // nothing more
  reply += std::string("\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x0a\0\1\2", 16);
  const auto read = parse_name_reply(reply);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->id, 7);
  EXPECT_EQ(read->named.addresses, std::vector<std::string>{"10.0.1.2"});
  for (size_t size = 0; size < reply.size(); ++size) {
    EXPECT_FALSE(parse_name_reply(reply.substr(0, size))) << size;
  }
}

}  // namespace
}  // namespace muster::agent
