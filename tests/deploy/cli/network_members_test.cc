#include "deploy/cli/network_members.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>

#include "tests/deploy/cli/fake_daemon.h"

namespace muster::deploy::cli {
namespace {

v1::Network network(const std::string& id, bool ingress) {
  v1::Network out;
  out.set_id(id);
  out.mutable_spec()->set_ingress(ingress);
  return out;
}

v1::Node node(const std::string& name, const std::string& path, bool placed) {
  v1::Node out;
  out.set_id("id-" + name);
  out.mutable_description()->set_hostname(name);
  out.mutable_description()->mutable_data_path()->set_address(path);
  out.mutable_status()->set_address("203.0.113.7");
  if (placed) out.mutable_ingress()->add_addresses("10.0.0.9/16");
  return out;
}

v1::Service service(const std::string& name, const std::string& target, uint32_t published) {
  v1::Service out;
  out.set_id("s-" + name);
  out.mutable_spec()->mutable_annotations()->set_name(name);
  out.mutable_spec()->mutable_task()->add_networks()->set_target(target);
  auto* vip = out.mutable_endpoint()->add_virtual_ips();
  vip->set_network_id(target);
  vip->set_address("10.1.0.2/24");
  if (published == 0) return out;
  auto* port = out.mutable_endpoint()->add_ports();
  port->set_target_port(80);
  port->set_published_port(published);
  return out;
}

v1::Task task(const std::string& id, const std::string& service, const std::string& node,
              v1::TaskState state, const std::vector<std::string>& networks) {
  v1::Task out;
  out.set_id(id);
  out.set_name(service + ".1");
  out.set_service_id("s-" + service);
  out.set_node_id("id-" + node);
  out.mutable_status()->set_state(state);
  for (const std::string& each : networks) {
    auto* attachment = out.add_networks();
    attachment->set_network_id(each);
    attachment->add_addresses("10.1.0.3/24");
    attachment->set_mac("02:42:0a:01:00:03");
  }
  return out;
}

TEST(NetworkMembers, PeersAreNodesWithATaskThere) {
  NetworkMembers members;
  members.nodes = {node("n10", "192.0.2.10", true), node("n2", "", false),
                   node("n1", "192.0.2.1", false)};
  members.services = {service("web", "net", 8080), service("db", "net", 0)};
  members.tasks = {task("t1", "web", "n10", v1::TASK_RUNNING, {"net", "in"}),
                   task("t2", "web", "n1", v1::TASK_FAILED, {"net", "in"}),
                   task("t3", "db", "n2", v1::TASK_PREPARING, {"net"})};
  const auto shown = [&](const v1::Network& network, bool verbose) {
    boost::json::object out;
    add_members(network, members, verbose, out);
    return boost::json::serialize(out);
  };
  EXPECT_EQ(shown(network("net", false), false),
            R"({"Peers":[{"Name":"n2","IP":"203.0.113.7"},{"Name":"n10","IP":"192.0.2.10"}]})");
  EXPECT_EQ(
      shown(network("in", true), true),
      R"({"Peers":[{"Name":"n10","IP":"192.0.2.10"}],"Services":{"web":{"VIP":"",)"
      R"("Ports":["Target: 80, Publish: 8080"],"Tasks":[{"Name":"web.1.t1","EndpointID":"t1",)"
      R"("EndpointIP":"10.1.0.3","Info":{"Host IP":"192.0.2.10","MAC":"02:42:0a:01:00:03"}}]}}})");
  EXPECT_EQ(shown(network("other", false), true), R"({"Peers":[],"Services":{}})");
}

TEST(NetworkMembers, PublishedServicesAreInTheIngressNetwork) {
  EXPECT_TRUE(takes_part(service("web", "net", 8080), network("in", true)));
  EXPECT_FALSE(takes_part(service("web", "net", 0), network("in", true)));
  EXPECT_FALSE(takes_part(service("web", "net", 8080), network("other", false)));
  EXPECT_TRUE(takes_part(service("web", "net", 0), network("net", false)));
}

TEST(NetworkCommands, GatewaysRangesAndAuxiliaryAddressesFindTheirSubnets) {
  FakeDaemon daemon;
  const auto create = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"network", "create"});
    words.push_back("back");
    return run_muster(daemon, words, "");
  };
  const Outcome made = create({"--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64", "--gateway",
                               "fd00:1::9", "--gateway", "10.1.0.9", "--ip-range", "10.1.0.128/25",
                               "--aux-address", "router=fd00:1::7"});
  ASSERT_EQ(made.code, 0) << made.err;
  ASSERT_EQ(daemon.created_networks.size(), 1u);
  const auto& pools = daemon.created_networks[0].spec().pools();
  ASSERT_EQ(pools.size(), 2);
  EXPECT_EQ(pools[0].ShortDebugString(),
            "subnet: \"10.1.0.0/24\" ip_range: \"10.1.0.128/25\" gateway: \"10.1.0.9\"");
  EXPECT_EQ(pools[1].gateway(), "fd00:1::9");
  EXPECT_EQ(pools[1].aux_addresses(0).value(), "fd00:1::7");
  const struct {
    std::vector<std::string> words;
    const char* error;
  } cases[] = {
      {{"--gateway", "10.1.0.9"}, "every gateway and ip-range must have a corresponding subnet"},
      {{"--aux-address", "a=10.1.0.9"},
       "no matching subnet for aux-address 10.1.0.9: name it by --subnet"},
      {{"--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64", "--gateway", "10.2.0.9"},
       "no matching subnet for gateway 10.2.0.9 among those given: 10.1.0.0/24, fd00:1::/64"},
      {{"--subnet", "10.1.0.0/24", "--ip-range", "10.2.0.0/25"},
       "no matching subnet for range 10.2.0.0/25 among those given: 10.1.0.0/24"},
      {{"--subnet", "10.1.0.0/24", "--aux-address", "a=b"}, "aux-address \"b\" is not an"},
      {{"--subnet", "10.1.0.0/33", "--gateway", "10.1.0.9"}, "\"10.1.0.0/33\" is not in CIDR form"},
      {{"--subnet", "10.1.0.0/24", "--subnet", "10.2.0.0/24", "--gateway", "10.1.0.8", "--gateway",
        "10.1.0.9"},
       "cannot configure multiple gateways (10.1.0.9, 10.1.0.8) for the same subnet (10.1.0.0/24)"},
      {{"--subnet", "10.1.0.0/24", "--subnet", "10.2.0.0/24", "--ip-range", "10.1.0.0/25",
        "--ip-range", "10.1.0.128/25"},
       "cannot configure multiple ranges (10.1.0.128/25, 10.1.0.0/25) on the same subnet"},
  };
  for (const auto& c : cases) {
    const Outcome refused = create(c.words);
    EXPECT_EQ(refused.code, 2) << c.error;
    EXPECT_THAT(refused.err, testing::HasSubstr(c.error));
  }
  EXPECT_EQ(daemon.created_networks.size(), 1u);
}

TEST(NetworkMembers, WhoWasConnectedIsShown) {
  NetworkMembers members;
  members.nodes = {node("n1", "192.0.2.1", false)};
  members.tasks = {task("t1", "web", "n1", v1::TASK_RUNNING, {"own", "net"}),
                   task("t2", "web", "n1", v1::TASK_RUNNING, {"net"})};
  members.tasks.push_back(task("t3", "web", "n1", v1::TASK_RUNNING, {}));
  members.tasks.push_back(task("t4", "web", "n1", v1::TASK_FAILED, {}));
  for (const size_t i : {0, 2, 3}) members.tasks[i].add_connected()->set_target("net");
  members.tasks[2].mutable_status()->set_error("waits for an address in network back: it is full");
  members.tasks[0].mutable_networks(1)->add_aliases("debug");
  v1::Network open = network("net", false);
  open.mutable_spec()->set_attachable(true);
  boost::json::object out;
  add_members(open, members, false, out);
  EXPECT_EQ(boost::json::serialize(out["Connected"]),
            R"([{"Name":"web.1.t1","Task":"t1","Node":"n1","Addresses":["10.1.0.3/24"],)"
            R"("MacAddress":"02:42:0a:01:00:03","Aliases":["debug"]},)"
            R"({"Name":"web.1.t3","Task":"t3","Node":"n1",)"
            R"("Waiting":"waits for an address in network back: it is full"}])");
}

TEST(NetworkCommands, NetworksInUseAreChanged) {
  FakeDaemon daemon;
  v1::Network back = network("net", false);
  back.mutable_spec()->mutable_annotations()->set_name("back");
  daemon.networks.push_back(back);
  const auto run = [&](const std::vector<std::string>& words) {
    return run_muster(daemon, words, "");
  };
  Outcome done = run({"network", "update", "--subnet", "10.1.0.0/24", "--gateway", "10.1.0.9",
                      "--aux-address", "r=10.1.0.7", "--ip-range", "10.1.0.128/25", "--label-add",
                      "a=b", "--label-rm", "c", "back"});
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(done.out, "back\n");
  auto& update = daemon.updated_networks.at(0);
  EXPECT_FALSE(update.request_id().empty());
  update.clear_request_id();
  EXPECT_EQ(update.ShortDebugString(),
            "network: \"back\" add_pools { subnet: \"10.1.0.0/24\" ip_range: \"10.1.0.128/25\" "
            "gateway: \"10.1.0.9\" aux_addresses { key: \"r\" value: \"10.1.0.7\" } } "
            "labels { key: \"a\" value: \"b\" } remove_labels: \"c\"");
  daemon.tasks.push_back(task("t1", "web", "n1", v1::TASK_RUNNING, {}));
  done = run({"network", "connect", "--alias", "a", "--alias", "b", "--ip", "10.1.0.50", "--ip6",
              "fd00::5", "back", "t1"});
  ASSERT_EQ(done.code, 0) << done.err;
  auto& connect = daemon.connections.at(0);
  connect.clear_request_id();
  EXPECT_EQ(connect.ShortDebugString(),
            "network: \"back\" task: \"t1\" aliases: \"a\" aliases: \"b\" "
            "addresses: \"10.1.0.50\" addresses: \"fd00::5\"");
  done = run({"network", "disconnect", "back", "t1"});
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(daemon.disconnections.at(0).task(), "t1");
  for (const bool force : {false, true}) {
    daemon.next_error = Status(StatusCode::kNotFound, "no such task or container: t9");
    done = force ? run({"network", "disconnect", "-f", "back", "t9"})
                 : run({"network", "disconnect", "back", "t9"});
    EXPECT_EQ(done.code, force ? 0 : 1) << done.err;
  }
}

TEST(NetworkCommands, ChangesThatMeanNothingAreRefused) {
  FakeDaemon daemon;
  const struct {
    std::vector<std::string> words;
    const char* error;
  } kCases[] = {
      {{"update", "back"}, "nothing to change"},
      {{"create", "--scope", "local", "back"}, "scope \"local\" cannot be had"},
      {{"update", "--gateway", "10.1.0.9", "back"},
       "every gateway and ip-range must have a corresponding subnet"},
      {{"update", "--aux-address", "a=10.1.0.9", "back"},
       "no matching subnet for aux-address 10.1.0.9"},
      {{"connect", "back"}, "requires"},
      {{"connect", "--ip", "fd00::5", "back", "t1"}, "--ip takes an IPv4 address"},
      {{"connect", "--ip6", "10.1.0.5", "back", "t1"}, "--ip6 takes an IPv6 address"},
  };
  for (const auto& c : kCases) {
    std::vector<std::string> words = c.words;
    words.insert(words.begin(), "network");
    const Outcome refused = run_muster(daemon, words, "");
    EXPECT_EQ(refused.code, 2) << refused.err;
    EXPECT_THAT(refused.err, testing::HasSubstr(c.error));
  }
}

}  // namespace
}  // namespace muster::deploy::cli
