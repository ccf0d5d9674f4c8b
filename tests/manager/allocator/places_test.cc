#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "manager/allocator/ingress_places.h"
#include "tests/manager/allocator/fixture.h"

namespace muster::manager::allocator {
namespace {

using ::testing::HasSubstr;

// Places of nodes in the routing mesh, and what the MTUs of networks follow from.
class PlacesTest : public AllocatorTest {
 protected:
  static v1::Network ingress(const std::string& name, const std::string& subnet = "") {
    v1::Network n = network(name, subnet);
    n.mutable_spec()->set_ingress(true);
    return n;
  }
  static v1::Node node(const std::string& id, const std::string& path = "", uint32_t mtu = 0) {
    v1::Node n;
    n.set_id(id);
    n.mutable_description()->mutable_data_path()->set_address(path);
    n.mutable_description()->mutable_data_path()->set_mtu(mtu);
    return n;
  }
  // "1 10.0.0.2/16 02:42:0a:00:00:02"
  std::string place(const std::string& node_id) {
    const auto n = get<v1::Node>(node_id);
    std::string out = std::to_string(n->ingress().index());
    for (const auto& address : n->ingress().addresses()) out += " " + address;
    return n->ingress().mac().empty() ? out : out + " " + n->ingress().mac();
  }
  uint32_t mtu(const std::string& name) { return get<v1::Network>("id-" + name)->state().mtu(); }
  void option(const std::string& name, const std::string& key, const std::string& value,
              bool ipv6 = false) {
    auto n = network(name);
    auto* o = n.mutable_spec()->add_driver_options();
    o->set_key(key);
    o->set_value(value);
    n.mutable_spec()->set_ipv6(ipv6);
    create(n);
  }
};

TEST_F(PlacesTest, EveryNodeHasAPlaceTheLowestIndexThatIsFree) {
  create(node("before"));
  EXPECT_EQ(place("before"), "0");
  create(ingress("in"));
  EXPECT_EQ(get<v1::Network>("id-in")->state().pools(0).subnet(), "10.0.0.0/16");
  EXPECT_EQ(place("before"), "1 10.0.0.2/16 02:42:0a:00:00:02");
  create(node("b"));
  create(node("c"));
  EXPECT_EQ(place("b"), "2 10.0.0.3/16 02:42:0a:00:00:03");
  EXPECT_EQ(place("c"), "3 10.0.0.4/16 02:42:0a:00:00:04");
  remove<v1::Node>("b");
  create(node("d"));
  // An address rests for a while, an index does not: marks have few bits.
  EXPECT_EQ(place("d"), "2 10.0.0.5/16 02:42:0a:00:00:05");
  create(node("e"));
  EXPECT_EQ(place("e"), "4 10.0.0.6/16 02:42:0a:00:00:06");
  // What a node says of itself changes nothing.
  const uint64_t entries = proposer_.entries();
  change<v1::Node>("e", [](v1::Node& n) { n.mutable_description()->set_hostname("e"); });
  EXPECT_EQ(proposer_.entries(), entries + 1);
}

TEST_F(PlacesTest, ANewLeaderKnowsThePlaces) {
  create(ingress("in"));
  for (const char* id : {"a", "b", "c"}) create(node(id));
  allocator_.reset();
  remove<v1::Node>("a");
  create(node("d"));
  const std::string b = place("b");
  restart();
  EXPECT_EQ(place("b"), b);
  EXPECT_EQ(place("d"), "1 10.0.0.5/16 02:42:0a:00:00:05");
  // One that only looks like another's is given anew; the first keeps it.
  allocator_.reset();
  v1::Node copy = node("copy");
  *copy.mutable_ingress() = get<v1::Node>("b")->ingress();
  create(copy);
  restart();
  EXPECT_EQ(place("b"), b);
  EXPECT_EQ(place("copy"), "4 10.0.0.6/16 02:42:0a:00:00:06");
}

TEST_F(PlacesTest, NodesGetPlacesInAFurtherSubnetOfAFullNetwork) {
  create(ingress("in", "10.7.0.0/30"));
  create(node("a"));
  create(node("b"));
  EXPECT_EQ(place("a"), "1 10.7.0.2/30 02:42:0a:07:00:02");
  EXPECT_EQ(place("b"), "0");
  change<v1::Network>(
      "id-in", [](v1::Network& n) { n.mutable_spec()->add_pools()->set_subnet("10.6.0.0/24"); });
  EXPECT_EQ(get<v1::Network>("id-in")->state().pools_size(), 2);
  EXPECT_EQ(place("a"), "1 10.7.0.2/30 02:42:0a:07:00:02");
  EXPECT_EQ(place("b"), "2 10.6.0.2/24 02:42:0a:06:00:02");
  const auto s = service("web", {}, {80});
  create_service(s, 1);
  EXPECT_EQ(address("id-web.0"), "10.6.0.3/24");
  restart();
  EXPECT_EQ(place("b"), "2 10.6.0.2/24 02:42:0a:06:00:02");
}

TEST_F(PlacesTest, AnotherIngressNetworkGivesOtherAddresses) {
  create(ingress("in", "10.5.0.0/24"));
  create(node("a"));
  create(node("b"));
  remove<v1::Node>("a");
  remove<v1::Network>("id-in");
  EXPECT_EQ(place("b"), "2");  // its index is its own
  create(node("c"));
  EXPECT_EQ(place("c"), "0");
  create(ingress("again", "10.5.0.0/24"));
  EXPECT_EQ(place("b"), "2 10.5.0.2/24 02:42:0a:05:00:02");
  EXPECT_EQ(place("c"), "1 10.5.0.3/24 02:42:0a:05:00:03");
  // In one go, and with nobody leading in between.
  write([](store::Transaction& tx) -> Status {
    MUSTER_TRY(tx.remove<v1::Network>("id-again"));
    return tx.create(ingress("third", "10.6.0.0/24"));
  });
  EXPECT_EQ(place("b"), "2 10.6.0.2/24 02:42:0a:06:00:02");
  allocator_.reset();
  write([](store::Transaction& tx) -> Status {
    MUSTER_TRY(tx.remove<v1::Network>("id-third"));
    return tx.create(ingress("fourth", "10.7.0.0/24"));
  });
  restart();
  EXPECT_EQ(place("b"), "2 10.7.0.2/24 02:42:0a:07:00:02");
  EXPECT_EQ(place("c"), "1 10.7.0.3/24 02:42:0a:07:00:03");
  // The new one may come before the old one in the order of what changed.
  write([](store::Transaction& tx) -> Status {
    MUSTER_TRY(tx.create(ingress("eighth", "10.8.0.0/24")));
    return tx.remove<v1::Network>("id-fourth");
  });
  EXPECT_EQ(place("b"), "2 10.8.0.2/24 02:42:0a:08:00:02");
}

TEST_F(PlacesTest, BothFamiliesWhereTheNetworkHasThem) {
  auto both = ingress("in");
  both.mutable_spec()->set_ipv6(true);
  create(both);
  create(node("a"));
  EXPECT_EQ(place("a"), "1 10.0.0.2/16 fd6d:7573:7465::2/64 02:42:0a:00:00:02");
}

TEST_F(PlacesTest, WhoFindsNoAddressGetsTheNextThatIsGivenBack) {
  create(ingress("in", "10.5.0.0/29"));
  create_service(service("web", {}, {80}), 3);
  EXPECT_EQ(address("id-web.2"), "10.5.0.4/29");
  create(node("a"));
  create(node("b"));
  EXPECT_EQ(place("b"), "2 10.5.0.6/29 02:42:0a:05:00:06");
  create(node("c"));
  create(node("d"));
  EXPECT_EQ(place("c"), "0");
  const uint64_t entries = proposer_.entries();
  world_.settle();
  EXPECT_EQ(proposer_.entries(), entries);
  end_task("id-web.1");
  EXPECT_EQ(place("c"), "3 10.5.0.3/29 02:42:0a:05:00:03");
  EXPECT_EQ(place("d"), "0");
  remove<v1::Node>("a");
  EXPECT_EQ(place("d"), "1 10.5.0.5/29 02:42:0a:05:00:05");
}

TEST_F(PlacesTest, APlaceThatWasNotStoredIsGivenOnceMore) {
  create(ingress("in", "10.5.0.0/29"));
  create(node("a"));
  store_.update([](store::Transaction& tx) { return tx.create(node("b")); },
                [&](const store::Commit&) { proposer_.rejections = 4; });
  world_.settle();
  EXPECT_EQ(place("b"), "0");
  // What is said of the node meanwhile finds it with a place that is not stored.
  store_.update(
      [](store::Transaction& tx) {
        v1::Node n = *tx.view().get<v1::Node>("b");
        n.mutable_description()->set_hostname("b");
        return tx.update(n);
      },
      [](const store::Commit&) {});
  world_.advance(5s);
  EXPECT_THAT(place("b"), HasSubstr("2 10.5.0."));
  // Nothing was lost on the way: the gateway and five nodes fill the subnet.
  for (const char* id : {"c", "d", "e"}) {
    create(node(id));
    EXPECT_THAT(place(id), HasSubstr(" 10.5.0.")) << id;
  }
}

TEST_F(PlacesTest, WhatIsVoidBeforeItIsCommittedComesBack) {
  create(ingress("in", "10.5.0.0/29"));
  for (int round = 0; round < 6; ++round) {
    // The node goes in the transaction behind the one that gives it its place.
    store_.update([](store::Transaction& tx) { return tx.create(node("brief")); },
                  [&](const store::Commit&) {
                    store_.update(
                        [](store::Transaction& tx) { return tx.remove<v1::Node>("brief"); },
                        [](const store::Commit&) {});
                  });
    world_.settle();
    ASSERT_EQ(get<v1::Node>("brief"), nullptr);
  }
  for (const char* id : {"a", "b", "c", "d", "e"}) {
    create(node(id));
    EXPECT_THAT(place(id), HasSubstr(" 10.5.0.")) << id;
  }
  EXPECT_THAT(place("e"), HasSubstr("5 10.5.0."));
}

TEST_F(PlacesTest, ThousandsOfNodesJoinAtOnce) {
  create(ingress("in"));
  write([](store::Transaction& tx) -> Status {
    for (int i = 0; i < 3000; ++i) MUSTER_TRY(tx.create(node(fmt::format("n{:04}", i))));
    return ok_status();
  });
  std::set<uint32_t> indexes;
  std::set<std::string> addresses;
  store_.snapshot().each<v1::Node>([&](const auto& n) {
    indexes.insert(n->ingress().index());
    for (const auto& cidr : n->ingress().addresses()) addresses.insert(cidr);
    return true;
  });
  EXPECT_EQ(indexes.size(), 3000u);
  EXPECT_EQ(*indexes.rbegin(), 3000u);
  EXPECT_EQ(addresses.size(), 3000u);
}

TEST_F(PlacesTest, TheMtuIsWhatTheNarrowestDataPathCarries) {
  create(network("net"));
  option("set", "com.docker.network.driver.mtu", "9000");
  option("dual", "com.docker.network.driver.mtux", "", true);
  option("secret", "encrypted", "");
  create(network("local", "", "bridge"));
  const auto all = [&] {
    return fmt::format("{} {} {} {} {}", mtu("net"), mtu("set"), mtu("dual"), mtu("secret"),
                       mtu("local"));
  };
  EXPECT_EQ(all(), "1450 9000 1450 1408 0");  // nothing is known
  create(node("a", "10.1.0.1", 9001));
  EXPECT_EQ(all(), "8951 9000 8951 8908 0");
  create(node("b", "10.1.0.2", 1500));
  EXPECT_EQ(all(), "1450 9000 1450 1408 0");
  create(node("c", "10.1.0.3", 0));
  create(node("d", "", 1000));  // in no swarm
  EXPECT_EQ(all(), "1450 9000 1450 1408 0");
  change<v1::Node>("c", [](v1::Node& n) {
    n.mutable_description()->mutable_data_path()->set_address("fd00::3");
  });
  EXPECT_EQ(all(), "1430 9000 1430 1388 0");
  // A new leader, and a network that is made then.
  restart();
  create(network("late"));
  EXPECT_EQ(mtu("late"), 1430u);
  remove<v1::Node>("c");
  EXPECT_EQ(all(), "1450 9000 1450 1408 0");
  change<v1::Node>(
      "b", [](v1::Node& n) { n.mutable_description()->mutable_data_path()->set_mtu(1300); });
  EXPECT_EQ(all(), "1250 9000 1280 1208 0");  // IPv6 never goes below 1280
  const uint64_t entries = proposer_.entries();
  change<v1::Node>("a", [](v1::Node& n) { n.mutable_description()->set_hostname("a"); });
  EXPECT_EQ(proposer_.entries(), entries + 1);
  remove<v1::Node>("b");
  EXPECT_EQ(all(), "8951 9000 8951 8908 0");
}

TEST_F(PlacesTest, MtusOfMoreNetworksThanOneEntryHolds) {
  write([](store::Transaction& tx) -> Status {
    for (int i = 0; i < 1000; ++i) {
      v1::Network n = network(fmt::format("n{}", i));
      n.mutable_spec()->mutable_annotations()->add_labels()->set_key(std::string(1000, 'x'));
      MUSTER_TRY(tx.create(std::move(n)));
    }
    return ok_status();
  });
  create(node("a", "10.1.0.1", 1400));
  store_.snapshot().each<v1::Network>([&](const auto& n) {
    EXPECT_EQ(n->state().mtu(), 1350u) << n->id();
    return true;
  });
}

TEST(IngressPlaces, AFullMeshSaysSo) {
  overlay::Ipam ipam(overlay::SubnetPoolOptions::defaults());
  v1::Network n;
  n.set_id("in");
  n.mutable_spec()->add_pools()->set_subnet("10.0.0.0/8");
  ASSERT_TRUE(ipam.take_network(n));
  const uint64_t before = ipam.free_addresses("in");
  IngressPlaces places;
  for (uint32_t i = 1; i <= IngressPlaces::kIndexMax; ++i) {
    const auto place = places.take(ipam, "in", fmt::format("n{}", i));
    ASSERT_TRUE(place);
    ASSERT_EQ(place->index(), i);
  }
  const auto more = places.take(ipam, "in", "more");
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().message(), "the routing mesh is full: it has 65535 nodes");
  EXPECT_FALSE(places.has_index("more"));
  EXPECT_EQ(ipam.free_addresses("in"), before - IngressPlaces::kIndexMax);
  places.put_back(ipam, "n77");
  EXPECT_EQ(places.take(ipam, "in", "more")->index(), 77u);
}

}  // namespace
}  // namespace muster::manager::allocator
