#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/manager/control/networks_fixture.h"

namespace muster::manager::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class NetworksTest : public NetworksFixture {
 protected:
  static v1::CreateServiceRequest web(uint32_t port = 0) {
    v1::CreateServiceRequest request;
    request.mutable_spec()->mutable_annotations()->set_name("web");
    request.mutable_spec()->mutable_task()->mutable_container()->set_image("busybox");
    if (port == 0) return request;
    auto* published = request.mutable_spec()->mutable_endpoint()->add_ports();
    published->set_target_port(80);
    published->set_published_port(port);
    return request;
  }
  std::string remove(const std::string& name) {
    v1::RemoveNetworkRequest request;
    request.set_network(name);
    const auto removed = call(&ControlApi::remove_network, request);
    return removed ? "" : removed.error().message();
  }
};

TEST_F(NetworksTest, WhatAnotherNetworkHasIsRefusedAndNamed) {
  EXPECT_EQ(create(spec("a", "10.9.0.0/16")), "");
  EXPECT_EQ(create(spec("b", "10.9.4.0/24")),
            "subnet 10.9.4.0/24 overlaps 10.9.0.0/16 of network a");
  EXPECT_EQ(create(spec("b", "10.0.0.0/8")), "subnet 10.0.0.0/8 overlaps 10.9.0.0/16 of network a");
  EXPECT_EQ(create(spec("b", "10.10.0.0/16")), "");
  // As given, whatever was asked for.
  write([](store::Transaction& tx) {
    v1::Network network;
    network.set_id("auto");
    network.mutable_spec()->mutable_annotations()->set_name("auto");
    network.mutable_state()->add_pools()->set_subnet("10.0.0.0/24");
    network.mutable_state()->set_vni(4096);
    return tx.create(std::move(network));
  });
  EXPECT_EQ(create(spec("c", "10.0.0.0/25")),
            "subnet 10.0.0.0/25 overlaps 10.0.0.0/24 of network auto");
  // What a network could not be given is nobody's.
  write([](store::Transaction& tx) {
    v1::Network network;
    network.set_id("failed");
    *network.mutable_spec() = spec("failed", "10.20.0.0/24");
    network.set_allocation_error("no");
    return tx.create(std::move(network));
  });
  EXPECT_EQ(create(spec("d", "10.20.0.0/24")), "");
  v1::NetworkSpec wanted = spec("e");
  auto* option = wanted.add_driver_options();
  option->set_key("com.docker.network.driver.overlay.vxlanid_list");
  option->set_value("4096");
  EXPECT_EQ(create(wanted), "VXLAN id 4096 is in use by network auto");
  option->set_value("5000");
  EXPECT_EQ(create(wanted), "");
}

TEST_F(NetworksTest, TheIngressNetworkIsMadeAnewWhenNothingPublishes) {
  write([](store::Transaction& tx) {
    v1::Network network;
    network.set_id("in");
    network.mutable_spec()->mutable_annotations()->set_name("ingress");
    network.mutable_spec()->set_ingress(true);
    network.set_predefined(true);
    return tx.create(std::move(network));
  });
  ASSERT_TRUE(call(&ControlApi::create_service, web(8080)));
  EXPECT_EQ(remove("ingress"),
            "ingress network cannot be removed because service web depends on it");
  v1::NetworkSpec second = spec("edge", "10.77.0.0/16");
  second.set_ingress(true);
  EXPECT_EQ(create(second), "ingress network is already present");
  v1::RemoveServiceRequest gone;
  gone.set_service("web");
  ASSERT_TRUE(call(&ControlApi::remove_service, gone));
  EXPECT_EQ(remove("ingress"), "");
  const auto refused = call(&ControlApi::create_service, web(8080));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(),
            "service needs ingress network, but no ingress network is present: `network create "
            "--ingress NAME` makes one");
  EXPECT_EQ(create(second), "");
  EXPECT_TRUE(call(&ControlApi::create_service, web(8080)));
  // The update of a service that gave up its port may be taken back.
  write([](store::Transaction& tx) {
    v1::Service service = *tx.view().find<v1::Service>("web");
    *service.mutable_previous_spec() = service.spec();
    service.mutable_spec()->clear_endpoint();
    service.mutable_update_status()->set_state(v1::UpdateStatus::UPDATING);
    return tx.update(std::move(service));
  });
  EXPECT_THAT(remove("edge"), HasSubstr("service web depends on it"));
  write([](store::Transaction& tx) {
    v1::Service service = *tx.view().find<v1::Service>("web");
    service.mutable_update_status()->set_state(v1::UpdateStatus::COMPLETED);
    return tx.update(std::move(service));
  });
  EXPECT_EQ(remove("edge"), "");
}

TEST_F(NetworksTest, ANodeWithoutAPlaceInTheMeshSaysSo) {
  write([](store::Transaction& tx) {
    v1::Network network;
    network.set_id("in");
    *network.mutable_spec() = spec("edge");
    network.mutable_spec()->set_ingress(true);
    network.mutable_state()->add_pools()->set_subnet("10.0.0.0/30");
    return tx.create(std::move(network));
  });
  v1::Node placed = node("a", "192.0.2.1");
  placed.mutable_ingress()->add_addresses("10.0.0.2/30");
  put(placed);
  put(node("b", "192.0.2.2"));
  EXPECT_THAT(warnings_of_node("a"), IsEmpty());
  EXPECT_THAT(warnings_of_node("b"),
              ElementsAre("no address of network edge was free for this node: ports published in "
                          "ingress mode do not answer here"));
}

TEST_F(NetworksTest, DriverOptionsThatNothingReadsAreKeptAndToldOf) {
  const auto with = [](const std::string& name, const std::vector<std::string>& options) {
    v1::NetworkSpec out = spec(name);
    for (const std::string& key : options) out.add_driver_options()->set_key(key);
    return out;
  };
  ASSERT_EQ(create(with("short", {"mtu"})), "");
  EXPECT_THAT(warnings_of_network("short"),
              ElementsAre("driver option \"mtu\" has no effect: com.docker.network.driver.mtu "
                          "sets the MTU"));
  EXPECT_EQ(store_.snapshot().find<v1::Network>("short")->spec().driver_options_size(), 1);
  const std::string known =
      " no effect (known: encrypted, com.docker.network.driver.mtu, "
      "com.docker.network.driver.overlay.vxlanid_list)";
  ASSERT_EQ(create(with("one", {"dsr", "encrypted"})), "");
  EXPECT_THAT(warnings_of_network("one"),
              ElementsAre("driver option \"dsr\" is not known to driver overlay and has" + known));
  ASSERT_EQ(create(with("many", {"a", "b", "c", "d", "e", "f", "g"})), "");
  EXPECT_THAT(warnings_of_network("many"),
              ElementsAre("driver options \"a\", \"b\", \"c\", \"d\", \"e\" and 2 more are not "
                          "known to driver overlay and have" +
                          known));
  v1::NetworkSpec numbered = with("known", {"encrypted"});
  auto* vni = numbered.add_driver_options();
  vni->set_key("com.docker.network.driver.overlay.vxlanid_list");
  vni->set_value("7000");
  ASSERT_EQ(create(numbered), "");
  EXPECT_THAT(warnings_of_network("known"), IsEmpty());
  v1::NetworkSpec bridge = with("bridge", {"mtu"});
  bridge.set_driver("bridge");
  ASSERT_EQ(create(bridge), "");
  EXPECT_THAT(warnings_of_network("bridge"), IsEmpty()) << "another driver's";
}

TEST_F(NetworksTest, WhereNodesAndNetworksMeanTheSameAddressesIsSaidOfBoth) {
  write([](store::Transaction& tx) -> Status {
    for (int i = 1; i <= 10; ++i) {
      v1::Node node;
      node.set_id(fmt::format("n{}", i));
      node.mutable_description()->set_hostname(fmt::format("host{}", i));
      node.mutable_description()->add_local_ranges(i == 1 ? "10.7.0.0/16" : "10.9.5.0/24");
      node.mutable_description()->mutable_data_path()->set_address(fmt::format("192.0.2.{}", i));
      MUSTER_TRY(tx.create(std::move(node)));
    }
    return ok_status();
  });
  v1::CreateNetworkRequest create;
  create.mutable_spec()->mutable_annotations()->set_name("one");
  create.mutable_spec()->add_pools()->set_subnet("10.7.4.0/24");
  const auto one = call(&ControlApi::create_network, create);
  ASSERT_TRUE(one) << one.error().to_string();
  ASSERT_EQ(one->network().warnings_size(), 1);
  EXPECT_EQ(one->network().warnings(0),
            "subnet 10.7.4.0/24 overlaps 10.7.0.0/16, which node host1 reaches by itself");
  create.mutable_spec()->mutable_annotations()->set_name("many");
  create.mutable_spec()->mutable_pools(0)->set_subnet("10.9.0.0/16");
  ASSERT_TRUE(call(&ControlApi::create_network, create));
  create.mutable_spec()->mutable_annotations()->set_name("none");
  create.mutable_spec()->mutable_pools(0)->set_subnet("10.8.0.0/16");
  const auto none = call(&ControlApi::create_network, create);
  ASSERT_TRUE(none);
  EXPECT_EQ(none->network().warnings_size(), 0);

  v1::GetNodeRequest node;
  node.set_node("n1");
  const auto about = api_.get_node(user_, node);
  ASSERT_TRUE(about);
  ASSERT_EQ(about->node().warnings_size(), 1);
  EXPECT_EQ(
      about->node().warnings(0),
      "10.7.0.0/16, which this node reaches by itself, overlaps subnet 10.7.4.0/24 of network "
      "one");
  v1::GetNetworkRequest network;
  network.set_network("many");
  const auto many = api_.get_network(user_, network);
  ASSERT_TRUE(many);
  ASSERT_EQ(many->network().warnings_size(), 8);
  EXPECT_EQ(many->network().warnings(7), "and 2 more overlaps of this kind");
  const auto nodes = api_.list_nodes(user_, {});
  ASSERT_TRUE(nodes);
  for (const v1::Node& each : nodes->nodes()) EXPECT_EQ(each.warnings_size(), 1) << each.id();
  // Nothing of it is stored.
  EXPECT_EQ(store_.snapshot().get<v1::Node>("n1")->warnings_size(), 0);
}

TEST_F(NetworksTest, NetworkInUseNamesItsServices) {
  v1::CreateNetworkRequest network;
  network.mutable_spec()->mutable_annotations()->set_name("net");
  ASSERT_TRUE(call(&ControlApi::create_network, network));
  auto request = web();
  request.mutable_spec()->mutable_task()->add_networks()->set_target("net");
  ASSERT_TRUE(call(&ControlApi::create_service, request));
  v1::RemoveNetworkRequest remove;
  remove.set_network("net");
  const auto refused = call(&ControlApi::remove_network, remove);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(refused.error().message().find("web"), std::string::npos);
}

// ---------------------------------------------------------------- networks in use

class NetworksInUseTest : public NetworksTest {
 protected:
  NetworksInUseTest() {
    put_network("back", "10.9.0.0/29", "overlay", true);
    put_network("shut", "10.8.0.0/24", "overlay", false);
    put_network("local", "10.7.0.0/24", "bridge", true);
    put_network("host", "", "host", false);
    v1::Service service;
    service.set_id("sweb");
    service.mutable_spec()->mutable_annotations()->set_name("web");
    service.mutable_spec()->mutable_task()->add_networks()->set_target("shut");
    write([&](store::Transaction& tx) { return tx.create(service); });
    put_task("task1aaaa", "web.1", v1::TASK_RUNNING, "10.8.0.3/24");
    put_task("task2aaaa", "web.2", v1::TASK_RUNNING, "10.8.0.4/24");
    put_task("task3aaaa", "web.2", v1::TASK_FAILED, "10.8.0.5/24");
    put_task("task4aaaa", "web.3", v1::TASK_READY, "10.8.0.6/24");
  }
  void put_network(const std::string& name, const std::string& subnet, const std::string& driver,
                   bool attachable) {
    v1::Network network;
    network.set_id(name);
    network.mutable_spec()->mutable_annotations()->set_name(name);
    network.mutable_spec()->set_driver(driver);
    network.mutable_spec()->set_attachable(attachable);
    if (!subnet.empty()) {
      network.mutable_state()->add_pools()->set_subnet(subnet);
      network.mutable_state()->set_vni(driver == "overlay" ? 4096 + network.id()[0] : 0);
    }
    write([&](store::Transaction& tx) { return tx.create(network); });
  }
  void put_task(const std::string& id, const std::string& name, v1::TaskState state,
                const std::string& cidr, const std::string& network = "shut") {
    v1::Task task;
    task.set_id(id);
    task.set_name(name);
    task.set_service_id("sweb");
    task.set_node_id("n1");
    task.set_desired_state(v1::TASK_RUNNING);
    task.mutable_status()->set_state(state);
    task.mutable_status()->mutable_container()->set_container_id(
        id[4] + std::string("0123456789ab") + "cdef");
    auto* attachment = task.add_networks();
    attachment->set_network_id(network);
    attachment->add_addresses(cidr);
    write([&](store::Transaction& tx) { return tx.create(task); });
  }
  struct Wish {
    std::string network, task;
    std::vector<std::string> addresses, aliases;
  };
  std::string connect(const Wish& wish) {
    v1::ConnectNetworkRequest request;
    request.set_network(wish.network);
    request.set_task(wish.task);
    for (const auto& address : wish.addresses) request.add_addresses(address);
    for (const auto& alias : wish.aliases) request.add_aliases(alias);
    const auto done = call(&ControlApi::connect_network, request);
    return done ? done->task().id() : done.error().message();
  }
  std::string disconnect(const std::string& network, const std::string& task) {
    v1::DisconnectNetworkRequest request;
    request.set_network(network);
    request.set_task(task);
    const auto done = call(&ControlApi::disconnect_network, request);
    return done ? done->task().id() : done.error().message();
  }
  std::string grow(const std::string& network, const v1::IpamPool& pool) {
    v1::UpdateNetworkRequest request;
    request.set_network(network);
    *request.add_add_pools() = pool;
    const auto done = call(&ControlApi::update_network, request);
    return done ? "" : done.error().message();
  }
  static v1::IpamPool pool(const std::string& subnet, const std::string& gateway = "",
                           const std::string& range = "") {
    v1::IpamPool out;
    out.set_subnet(subnet);
    out.set_gateway(gateway);
    out.set_ip_range(range);
    return out;
  }
};

TEST_F(NetworksInUseTest, ATaskIsNamedInManyWays) {
  for (const char* name : {"task1aaaa", "web.1", "task1", "web.1.task1aaaa", "10123456789a"}) {
    EXPECT_EQ(connect({"back", name, {}, {}}), "task1aaaa") << name;
    EXPECT_EQ(disconnect("back", name), "task1aaaa") << name;
  }
  // Of those with the name the one that runs.
  EXPECT_EQ(connect({"back", "web.2", {}, {}}), "task2aaaa");
  EXPECT_EQ(connect({"back", "web.9", {}, {}}), "no such task or container: web.9");
  EXPECT_EQ(connect({"back", "task", {}, {}}), "task task is ambiguous (4 matches found)");
  EXPECT_EQ(connect({"gone", "web.1", {}, {}}), "network gone not found");
}

TEST_F(NetworksInUseTest, WhatCannotBeConnectedIsRefusedInWords) {
  const struct {
    Wish wish;
    const char* why;
  } kCases[] = {
      {{"shut", "web.2", {}, {}}, "endpoint with name web.2 already exists in network shut"},
      {{"back", "task3", {}, {}}, "task web.2 is not running: it is failed"},
      {{"back", "web.3", {}, {}}, "task web.3 is not running: it is ready"},
      {{"local", "web.1", {}, {}},
       "network local is of driver bridge: running containers can be connected to overlay "
       "networks"},
      {{"host", "web.1", {}, {}},
       "container cannot be disconnected from host network or connected to host network"},
      {{"back", "web.1", {"10.1.0.2"}, {}},
       "network back: address 10.1.0.2 is in no subnet of the network"},
      {{"back", "web.1", {"10.9.0.1"}, {}}, "network back: address 10.9.0.1 is reserved"},
      {{"back", "web.1", {"10.9.0.7"}, {}}, "network back: address 10.9.0.7 is reserved"},
      {{"back", "web.1", {"x"}, {}}, "\"x\" is not an IP address"},
      {{"back", "web.1", {"10.9.0.2", "10.9.0.3"}, {}}, "only one IPv4 address can be asked for"},
      {{"back", "web.1", {"fd00::2"}, {}},
       "network back: address fd00::2 is in no subnet of the network"},
      {{"back", "web.1", {}, {"a b"}},
       "alias \"a b\" is not a name: letters, digits, '-', '_' and '.'"},
  };
  for (const auto& c : kCases) EXPECT_EQ(connect(c.wish), c.why);
  put_network("closed", "10.6.0.0/24", "overlay", false);
  v1::ConnectNetworkRequest request;
  request.set_network("closed");
  request.set_task("web.1");
  const auto refused = call(&ControlApi::connect_network, request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), StatusCode::kPermissionDenied);
  EXPECT_THAT(refused.error().message(), HasSubstr("network closed not manually attachable"));
  put_task("task9aaaa", "web.9", v1::TASK_RUNNING, "10.9.0.2/29", "back");
  EXPECT_EQ(connect({"back", "web.1", {"10.9.0.2"}, {}}),
            "network back: address 10.9.0.2 is in use");
  for (const int i : {3, 4, 5, 6}) {
    put_task(fmt::format("full{}", i), fmt::format("web.1{}", i), v1::TASK_RUNNING,
             fmt::format("10.9.0.{}/29", i), "back");
  }
  EXPECT_EQ(connect({"back", "web.1", {}, {}}),
            "network back: subnet 10.9.0.0/29 has no free address (5 of 5 in use): `network update "
            "--subnet` gives the network another");
}

// Two ask at one time, and one of them is quicker.
TEST_F(NetworksInUseTest, WhoWaitsForAnAddressSaysForWhichAndWhy) {
  const auto said = [&](const char* id) {
    v1::GetTaskRequest request;
    request.set_task(id);
    const auto one = api_.get_task(user_, request);
    v1::ListTasksRequest all;
    const auto listed = api_.list_tasks(user_, all);
    for (const v1::Task& task : listed->tasks()) {
      EXPECT_TRUE(task.id() != id || task.status().error() == one->task().status().error());
    }
    return one->task().status().error();
  };
  EXPECT_EQ(said("task1aaaa"), "");
  EXPECT_EQ(connect({"back", "web.1", {"10.9.0.4"}, {}}), "task1aaaa");
  EXPECT_EQ(said("task1aaaa"), "waits for an address in network back");
  put_task("task9aaaa", "web.9", v1::TASK_RUNNING, "10.9.0.4/29", "back");
  EXPECT_EQ(said("task1aaaa"), "waits for an address in network back: address 10.9.0.4 is in use");
  EXPECT_EQ(said("task9aaaa"), "");
  EXPECT_EQ(store_.snapshot().get<v1::Task>("task1aaaa")->status().error(), "");
  EXPECT_EQ(disconnect("back", "web.1"), "task1aaaa");
  EXPECT_EQ(said("task1aaaa"), "");
}

TEST_F(NetworksInUseTest, ANodeThatCannotEncryptIsNamedBeforeAnythingIsTried) {
  write([](store::Transaction& tx) {
    v1::Network vault = *tx.view().get<v1::Network>("back");
    vault.mutable_spec()->add_driver_options()->set_key("encrypted");
    return tx.update(std::move(vault));
  });
  put(node("n1", "192.0.2.1"));
  EXPECT_EQ(connect({"back", "web.1", {}, {}}), "task1aaaa") << "its node can";
  EXPECT_EQ(disconnect("back", "web.1"), "task1aaaa");
  write([](store::Transaction& tx) {
    v1::Node lacking = *tx.view().get<v1::Node>("n1");
    lacking.mutable_description()->set_no_encryption("its kernel has no ESP");
    return tx.update(std::move(lacking));
  });
  EXPECT_EQ(connect({"back", "web.1", {}, {}}),
            "network back is encrypted, which node host-n1 of task web.1 cannot do: its kernel has "
            "no ESP");
}

TEST_F(NetworksInUseTest, ANodeThatCanEnterNoneIsNamedBeforeAnythingIsTried) {
  v1::Node lacking = node("n1", "192.0.2.1");
  lacking.mutable_description()->set_no_overlays("its kernel has no VXLAN");
  put(lacking);
  EXPECT_EQ(connect({"back", "web.1", {}, {}}),
            "network back cannot be entered on node host-n1 of task web.1: its kernel has no "
            "VXLAN");
  write([](store::Transaction& tx) {
    v1::Node able = *tx.view().get<v1::Node>("n1");
    able.mutable_description()->clear_no_overlays();
    return tx.update(std::move(able));
  });
  EXPECT_EQ(connect({"back", "web.1", {}, {}}), "task1aaaa");
}

TEST_F(NetworksInUseTest, OnlyWhatWasConnectedIsDisconnected) {
  EXPECT_EQ(disconnect("back", "web.1"), "task web.1 is not connected to network back");
  EXPECT_EQ(disconnect("shut", "web.1"),
            "network shut is one of service web, whose tasks all are in it: use `service update "
            "--network-rm shut web`");
  EXPECT_EQ(connect({"back", "web.1", {"10.9.0.4"}, {"a", "b"}}), "task1aaaa");
  EXPECT_EQ(connect({"back", "web.1", {}, {}}),
            "endpoint with name web.1 already exists in network back");
  const auto wish = store_.snapshot().get<v1::Task>("task1aaaa")->connected(0);
  EXPECT_EQ(wish.target(), "back");
  EXPECT_EQ(wish.addresses(0), "10.9.0.4");
  EXPECT_EQ(wish.aliases_size(), 2);
  // As the allocator does.
  write([](store::Transaction& tx) {
    v1::Task task = *tx.view().get<v1::Task>("task1aaaa");
    auto* attachment = task.add_networks();
    attachment->set_network_id("back");
    attachment->add_addresses("10.9.0.4/29");
    return tx.update(std::move(task));
  });
  EXPECT_EQ(remove("back"),
            "network back is in use by task web.1 (task1aaaa), which was connected to it: use "
            "`network disconnect`");
  EXPECT_EQ(disconnect("back", "web.1"), "task1aaaa");
  const auto task = store_.snapshot().get<v1::Task>("task1aaaa");
  EXPECT_EQ(task->connected_size(), 0);
  EXPECT_EQ(task->networks_size(), 1);
  // Its address is not free before its node has said so; but to itself.
  ASSERT_EQ(task->left_size(), 1);
  EXPECT_EQ(task->left(0).addresses(0), "10.9.0.4/29");
  EXPECT_EQ(connect({"back", "web.2", {"10.9.0.4"}, {}}),
            "network back: address 10.9.0.4 is in use");
  EXPECT_EQ(connect({"back", "web.1", {"10.9.0.4"}, {}}), "task1aaaa");
  EXPECT_EQ(disconnect("back", "web.1"), "task1aaaa");
  EXPECT_EQ(remove("back"), "");
  write([](store::Transaction& tx) {
    v1::Task ended = *tx.view().get<v1::Task>("task2aaaa");
    ended.set_desired_state(v1::TASK_SHUTDOWN);
    return tx.update(std::move(ended));
  });
  EXPECT_EQ(disconnect("shut", "task2aaaa"), "task web.2 is not running: it is to stop");
}

TEST_F(NetworksInUseTest, ANetworkGrowsByTheRulesThatItWasMadeBy) {
  put_network("ingress", "10.0.0.0/16", "overlay", false);
  write([](store::Transaction& tx) {
    v1::Network network = *tx.view().get<v1::Network>("ingress");
    network.mutable_spec()->set_ingress(true);
    return tx.update(std::move(network));
  });
  const struct {
    const char* network;
    v1::IpamPool pool;
    const char* why;
  } kCases[] = {
      {"back", pool(""), "a subnet is needed to make network back larger"},
      {"back", pool("10.9.0.0/24"), "subnet 10.9.0.0/24 overlaps 10.9.0.0/29 of network back"},
      {"back", pool("10.8.0.128/25"), "subnet 10.8.0.128/25 overlaps 10.8.0.0/24 of network shut"},
      {"back", pool("10.5.0.0/31"),
       "subnet 10.5.0.0/31 is too small, a network needs at least a /30"},
      {"back", pool("10.5.0.0/24", "10.4.0.1"), "gateway 10.4.0.1 is not in subnet 10.5.0.0/24"},
      {"back", pool("10.5.0.0/24", "", "10.4.0.0/25"),
       "ip-range 10.4.0.0/25 is not in subnet 10.5.0.0/24"},
      {"back", pool("fd00:5::/64"),
       "subnet fd00:5::/64 is of IPv6, which is not enabled for the network: ask for it with "
       "--ipv6 "
       "(enable_ipv6 in a Compose file)"},
      {"back", pool("127.0.0.0/24"),
       "subnet 127.0.0.0/24 cannot be a network's: 127.0.0.0/8 is for loopback"},
      {"host", pool("10.5.0.0/24"), "network host is of driver host, which has no subnets"},
      {"gone", pool("10.5.0.0/24"), "network gone not found"},
  };
  for (const auto& c : kCases) EXPECT_EQ(grow(c.network, c.pool), c.why);
  EXPECT_EQ(grow("ingress", pool("10.4.0.0/24")), "") << "the routing mesh's, too";
  EXPECT_EQ(grow("local", pool("10.3.0.0/24")), "") << "and one of the node alone";
  EXPECT_EQ(grow("back", pool("10.5.0.0/24", "10.5.0.9", "10.5.0.128/25")), "");
  EXPECT_EQ(store_.snapshot().get<v1::Network>("back")->spec().pools(0).gateway(), "10.5.0.9");
  // What it is about to get is taken.
  EXPECT_EQ(create(spec("new", "10.5.0.0/25")),
            "subnet 10.5.0.0/25 overlaps 10.5.0.0/24 of network back");
  EXPECT_EQ(grow("back", pool("10.5.0.0/24")),
            "subnet 10.5.0.0/24 overlaps 10.5.0.0/24 of the same network");
  // One that waits for its first subnet is asked anew, and says no more of what it could not have.
  write([](store::Transaction& tx) {
    v1::Network waits;
    waits.set_id("waits");
    waits.mutable_spec()->mutable_annotations()->set_name("waits");
    waits.mutable_spec()->set_driver("overlay");
    waits.set_allocation_error("no free /24 subnet is left");
    return tx.create(std::move(waits));
  });
  EXPECT_EQ(grow("waits", pool("10.6.0.0/24")), "");
  EXPECT_EQ(store_.snapshot().get<v1::Network>("waits")->allocation_error(), "");
}

TEST_F(NetworksInUseTest, LabelsAreSetAndRemoved) {
  v1::UpdateNetworkRequest request;
  request.set_network("back");
  for (const auto& [key, value] : {std::pair("b", "1"), std::pair("a", "2"), std::pair("c", "3")}) {
    auto* label = request.add_labels();
    label->set_key(key);
    label->set_value(value);
  }
  ASSERT_TRUE(call(&ControlApi::update_network, request));
  request.clear_labels();
  request.add_remove_labels("b");
  request.set_version(1);
  EXPECT_EQ(call(&ControlApi::update_network, request).error().code(), StatusCode::kAborted);
  request.set_version(store_.snapshot().get<v1::Network>("back")->meta().version());
  const auto changed = call(&ControlApi::update_network, request);
  ASSERT_TRUE(changed) << changed.error().message();
  const auto& labels = changed->network().spec().annotations().labels();
  ASSERT_EQ(labels.size(), 2);
  EXPECT_EQ(labels[0].key(), "a");
  EXPECT_EQ(labels[1].key(), "c");
}

}  // namespace
}  // namespace muster::manager::control
