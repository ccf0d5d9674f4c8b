#include "manager/control/data_paths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/manager/control/networks_fixture.h"

namespace muster::manager::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DataPathsTest : public ApiFixture {
 protected:
  // `index`: in the routing mesh.
  void put(const std::string& id, uint32_t index, const std::string& address) {
    v1::Node node;
    node.set_id(id);
    node.mutable_description()->set_hostname("host-" + id);
    node.mutable_description()->mutable_data_path()->set_address("192.0.2." + id);
    node.mutable_ingress()->set_index(index);
    if (!address.empty()) node.mutable_ingress()->add_addresses(address);
    write([&](store::Transaction& tx) { return tx.create(std::move(node)); });
  }
  auto warnings(size_t mesh_nodes_max, const char* id) {
    const store::Snapshot state = store_.snapshot();
    return DataPathFaults(state, mesh_nodes_max).of(*state.get<v1::Node>(id));
  }
};

// Another bound than that of addresses, with other words: a further subnet does not help.
TEST_F(DataPathsTest, AMeshWithAllTheNodesThatItMayHaveSaysSo) {
  write([](store::Transaction& tx) {
    v1::Network network;
    network.set_id("in");
    network.mutable_spec()->mutable_annotations()->set_name("edge");
    network.mutable_spec()->set_ingress(true);
    network.mutable_state()->add_pools()->set_subnet("10.0.0.0/24");
    return tx.create(std::move(network));
  });
  put("1", 1, "10.0.0.2/24");
  put("2", 2, "");  // the network was made anew
  put("3", 0, "");
  const std::string rest = ": ports published in ingress mode do not answer here";
  EXPECT_THAT(warnings(2, "1"), IsEmpty());
  EXPECT_THAT(warnings(2, "2"),
              ElementsAre("no address of network edge was free for this node" + rest));
  EXPECT_THAT(warnings(2, "3"), ElementsAre("the routing mesh is full, it has 2 nodes" + rest));
  EXPECT_THAT(warnings(3, "3"),
              ElementsAre("no address of network edge was free for this node" + rest));
}

using WaysBetweenNodesTest = NetworksFixture;

TEST_F(WaysBetweenNodesTest, DataPathsThatAreMissingOrGivenTwiceAreSaidOfTheNodes) {
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
                          "to the one reaches the other; one has to leave and join again with "
                          "another (--data-path-addr of swarm join)"));
  EXPECT_THAT(warnings_of_node("d"), ElementsAre(HasSubstr("that of node host-a, too")));
  EXPECT_THAT(warnings_of_node("b"), IsEmpty());
  for (int i = 1; i <= 6; ++i) put(node(fmt::format("e{}", i), "192.0.2.1"));
  EXPECT_THAT(warnings_of_node("a"),
              ElementsAre(AllOf(
                  HasSubstr("nodes host-d, host-e1, host-e2, host-e3, host-e4 and 2 more, too"),
                  HasSubstr("; all but one have to leave and join again with another ("))));
  const auto all = api_.list_nodes(user_, {});
  ASSERT_TRUE(all);
  int warned = 0;
  for (const auto& each : all->nodes()) warned += each.warnings_size();
  EXPECT_EQ(warned, 9);  // eight that share one, and one without
}

TEST_F(WaysBetweenNodesTest, OneAddressIsTheSameHoweverItIsWritten) {
  put(node("a", "fd00:0::1"));
  put(node("b", "fd00::1"));
  put(node("c", "fd00::2"));
  EXPECT_THAT(warnings_of_node("a"), ElementsAre(HasSubstr("fd00::1 is that of node host-b, too")));
  EXPECT_THAT(warnings_of_node("b"), ElementsAre(HasSubstr("fd00::1 is that of node host-a, too")));
  EXPECT_THAT(warnings_of_node("c"), IsEmpty());
}

TEST_F(WaysBetweenNodesTest, DataPathsOfAnotherFamilyAreSaidOfTheNodesThatAreFewer) {
  put(node("a", "192.0.2.1"));
  put(node("b", "192.0.2.2"));
  put(node("c", "fd00::3"));
  EXPECT_THAT(warnings_of_node("a"), IsEmpty());
  EXPECT_THAT(warnings_of_node("c"),
              ElementsAre("data-path address fd00::3 is of IPv6, that of nodes host-a, host-b of "
                          "IPv4: containers here and there do not reach each other, nor do ports "
                          "published here lead there; all nodes need one of the same family "
                          "(--data-path-addr of swarm init and swarm join)"));
  // Of two halves nobody knows which is meant.
  put(node("d", "fd00::4"));
  EXPECT_THAT(warnings_of_node("a"), ElementsAre(HasSubstr("is of IPv4, that of nodes host-c, ")));
  EXPECT_THAT(warnings_of_node("d"), ElementsAre(HasSubstr("is of IPv6, that of nodes host-a, ")));
  put(node("e", "fd00::5"));
  EXPECT_THAT(warnings_of_node("d"), IsEmpty());
  EXPECT_THAT(warnings_of_node("b"),
              ElementsAre(HasSubstr("nodes host-c, host-d, host-e of IPv6")));
  // What is down says nothing, and nothing is said of it.
  for (const char* id : {"c", "d", "e"}) {
    write([&](store::Transaction& tx) {
      v1::Node down = *tx.view().get<v1::Node>(id);
      down.mutable_status()->set_state(v1::NodeStatus::DOWN);
      return tx.update(std::move(down));
    });
  }
  EXPECT_THAT(warnings_of_node("b"), IsEmpty());
  EXPECT_THAT(warnings_of_node("c"), IsEmpty());
}

TEST_F(WaysBetweenNodesTest, AnMtuThatNotEveryDataPathCarriesIsKeptAndToldOf) {
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
  EXPECT_THAT(warnings_of_node("a"), IsEmpty());
  // Also where many are told of at a time.
  put(node("c", "192.0.2.3", 1500));
  const auto all = api_.list_nodes(user_, {});
  ASSERT_TRUE(all);
  ASSERT_EQ(all->nodes_size(), 3);
  for (const auto& each : all->nodes()) EXPECT_EQ(each.warnings_size(), each.id() == "a" ? 0 : 1);
  EXPECT_THAT(warnings_of_node("b"),
              ElementsAre("its data path, with an MTU of 1500, does not carry what network jumbo "
                          "(8951) may send: larger packets are cut to pieces or lost on the way to "
                          "and from here"));
}

// A tunnel between sites: IPv6 has no MTU below 1280, and that does not fit with what is around it.
TEST_F(WaysBetweenNodesTest, ADataPathThatIsTooNarrowForIpv6IsToldOf) {
  v1::NetworkSpec dual = spec("dual");
  dual.set_ipv6(true);
  ASSERT_EQ(create(dual), "");
  ASSERT_EQ(create(spec("plain")), "");
  put(node("a", "192.0.2.1", 1500));
  put(node("b", "192.0.2.2", 1330));
  EXPECT_THAT(warnings_of_network("dual"), IsEmpty()) << "it just fits";
  EXPECT_THAT(warnings_of_node("b"), IsEmpty());
  put(node("c", "192.0.2.3", 1329));
  EXPECT_THAT(warnings_of_network("dual"),
              ElementsAre("MTU 1280, the least of IPv6, is more than the 1279 that every node's "
                          "data path carries (that of node host-c has an MTU of 1329): larger "
                          "packets are cut to pieces or lost on the way to and from there"));
  EXPECT_THAT(warnings_of_network("plain"), IsEmpty());
  EXPECT_THAT(warnings_of_node("b"), IsEmpty());
  EXPECT_THAT(warnings_of_node("c"), ElementsAre(HasSubstr("network dual (1280) may send")));
  // Over IPv6 there are 20 bytes more around it.
  put(node("d", "fd00::4", 1500));
  EXPECT_THAT(warnings_of_node("b"), ElementsAre(HasSubstr("with an MTU of 1330")));
}

}  // namespace
}  // namespace muster::manager::control
