#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/manager/control/api_fixture.h"

namespace muster::manager::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class NetworksTest : public ApiFixture {
 protected:
  NetworksTest() { api_.activate(store_); }
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
  static v1::NetworkSpec spec(const std::string& name, const std::string& subnet = "") {
    v1::NetworkSpec out;
    out.mutable_annotations()->set_name(name);
    if (!subnet.empty()) out.add_pools()->set_subnet(subnet);
    return out;
  }
  // What went wrong; empty when it was made.
  std::string create(const v1::NetworkSpec& spec) {
    v1::CreateNetworkRequest request;
    *request.mutable_spec() = spec;
    const auto made = call(&ControlApi::create_network, request);
    return made ? "" : made.error().message();
  }
  std::string remove(const std::string& name) {
    v1::RemoveNetworkRequest request;
    request.set_network(name);
    const auto removed = call(&ControlApi::remove_network, request);
    return removed ? "" : removed.error().message();
  }
  void put(v1::Node node) {
    write([&](store::Transaction& tx) { return tx.create(std::move(node)); });
  }
  static v1::Node node(const std::string& id, const std::string& path, uint32_t mtu = 1500) {
    v1::Node out;
    out.set_id(id);
    out.mutable_description()->set_hostname("host-" + id);
    out.mutable_description()->mutable_data_path()->set_address(path);
    out.mutable_description()->mutable_data_path()->set_mtu(mtu);
    return out;
  }
  std::vector<std::string> warnings_of_node(const std::string& id) {
    v1::GetNodeRequest request;
    request.set_node(id);
    const auto got = api_.get_node(user_, request);
    return {got->node().warnings().begin(), got->node().warnings().end()};
  }
  std::vector<std::string> warnings_of_network(const std::string& name) {
    v1::GetNetworkRequest request;
    request.set_network(name);
    const auto got = api_.get_network(user_, request);
    return {got->network().warnings().begin(), got->network().warnings().end()};
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
            "service needs ingress network, but no ingress network is present");
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

TEST_F(NetworksTest, DataPathsThatAreMissingOrGivenTwiceAreSaidOfTheNodes) {
  put(node("a", "192.0.2.1"));
  put(node("b", "192.0.2.2"));
  put(node("c", ""));
  v1::Node never;
  never.set_id("never");
  put(never);
  EXPECT_THAT(warnings_of_node("a"), IsEmpty());
  EXPECT_THAT(warnings_of_node("never"), IsEmpty());
  EXPECT_THAT(warnings_of_node("c"), ElementsAre(HasSubstr("has told no data-path address")));
  put(node("d", "192.0.2.1"));
  EXPECT_THAT(warnings_of_node("a"),
              ElementsAre("data-path address 192.0.2.1 is that of node host-d, too: what is sent "
                          "to the one reaches the other"));
  EXPECT_THAT(warnings_of_node("d"), ElementsAre(HasSubstr("that of node host-a, too")));
  EXPECT_THAT(warnings_of_node("b"), IsEmpty());
  for (int i = 1; i <= 6; ++i) put(node(fmt::format("e{}", i), "192.0.2.1"));
  EXPECT_THAT(
      warnings_of_node("a"),
      ElementsAre(HasSubstr("nodes host-d, host-e1, host-e2, host-e3, host-e4 and 2 more, too")));
  const auto all = api_.list_nodes(user_, {});
  ASSERT_TRUE(all);
  int warned = 0;
  for (const auto& each : all->nodes()) warned += each.warnings_size();
  EXPECT_EQ(warned, 9);  // eight that share one, and one without
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

TEST_F(NetworksTest, AnMtuThatNotEveryDataPathCarriesIsKeptAndToldOf) {
  v1::NetworkSpec jumbo = spec("jumbo");
  auto* option = jumbo.add_driver_options();
  option->set_key("com.docker.network.driver.mtu");
  option->set_value("8951");
  ASSERT_EQ(create(jumbo), "");
  ASSERT_EQ(create(spec("plain")), "");
  EXPECT_THAT(warnings_of_network("jumbo"), IsEmpty()) << "nothing is known";
  put(node("a", "192.0.2.1", 9001));
  EXPECT_THAT(warnings_of_network("jumbo"), IsEmpty());
  put(node("b", "192.0.2.2", 1500));
  EXPECT_THAT(warnings_of_network("jumbo"),
              ElementsAre("MTU 8951 is more than the 1450 that every node's data path carries "
                          "(that of node host-b has an MTU of 1500): larger packets are lost on "
                          "the way to and from there"));
  EXPECT_THAT(warnings_of_network("plain"), IsEmpty());
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

}  // namespace
}  // namespace muster::manager::control
