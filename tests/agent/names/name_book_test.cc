#include "agent/names/name_book.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "overlay/dns/netd/records.h"

namespace muster::agent {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAre;

v1::Network network(const std::string& id, bool ingress = false) {
  v1::Network out;
  out.set_id(id);
  out.mutable_spec()->mutable_annotations()->set_name(id + "-name");
  out.mutable_spec()->set_ingress(ingress);
  out.mutable_spec()->set_driver("overlay");
  out.mutable_state()->add_pools()->set_subnet("10.0.1.0/24");
  return out;
}

v1::LocalTask local_task(const std::string& id, const std::string& net, bool ready) {
  v1::LocalTask out;
  v1::Task& task = *out.mutable_assignment()->mutable_task();
  task.set_id(id);
  task.set_service_id("svc");
  task.set_name("web.1");
  auto& attachment = *task.add_networks();
  attachment.set_network_id(net);
  attachment.add_addresses("10.0.1.5/24");
  attachment.add_aliases("api");
  *out.mutable_assignment()->add_networks() = network(net);
  out.mutable_revision()->set_service_name("web");
  out.set_container_id("0123456789abcdef");
  out.mutable_status()->mutable_container()->set_hostname("box");
  out.set_endpoint_state(ready ? v1::ENDPOINT_READY : v1::ENDPOINT_ABSENT);
  return out;
}

v1::NetworkEndpoint remote(const std::string& task, const std::string& node) {
  v1::NetworkEndpoint out;
  out.set_task_id(task);
  out.set_service_id("svc");
  out.set_name("web.2");
  out.add_own_names("far-box");
  out.set_node_id(node);
  out.add_addresses("10.0.1.9");
  out.set_state(v1::ENDPOINT_READY);
  return out;
}

overlay::NetworkStep step(const std::string& net, const v1::NetworkFeed& feed, bool complete) {
  return {net, complete, feed};
}

// A receiver: what netd holds after the updates.
class NameBookTest : public testing::Test {
 protected:
  std::vector<std::string> keys() {
    told(book_.increment());
    std::vector<std::string> out;
    for (const auto& [key, record] : held_) out.push_back(key);
    return out;
  }
  void told(const v1::NetdUpdate& update) {
    if (update.complete()) held_.clear();
    for (const auto& record : update.records()) held_[record.key()] = record;
    for (const auto& key : update.removed_keys()) held_.erase(key);
  }
  const v1::NetdEndpoint& endpoint(const std::string& key) { return held_.at(key).endpoint(); }

  NameBook book_{"here", false};
  std::map<std::string, v1::NetdRecord> held_;
};

TEST_F(NameBookTest, ATaskHasItsNamesInItsNetworks) {
  book_.set_task(local_task("t1", "n1", true));
  EXPECT_THAT(keys(), ElementsAre("endpoint/n1/t1", "network/n1"));
  const auto& out = endpoint("endpoint/n1/t1");
  EXPECT_EQ(out.service_name(), "web");
  EXPECT_EQ(out.name(), "web.1.t1");
  EXPECT_THAT(out.own_names(), ElementsAre("web.1", "0123456789ab", "box"));
  EXPECT_THAT(out.aliases(), ElementsAre("api"));
  EXPECT_THAT(out.addresses(), ElementsAre("10.0.1.5"));
  EXPECT_TRUE(out.ready());
  EXPECT_THAT(held_.at("network/n1").network().subnets(), ElementsAre("10.0.1.0/24"));
  book_.remove_task("t1");
  EXPECT_THAT(keys(), IsEmpty());
}

TEST_F(NameBookTest, OnlyWhatChangedIsTold) {
  book_.set_task(local_task("t1", "n1", false));
  keys();
  book_.set_task(local_task("t1", "n1", false));
  EXPECT_FALSE(book_.changed());
  book_.set_task(local_task("t1", "n1", true));
  const v1::NetdUpdate update = book_.increment();
  ASSERT_EQ(update.records_size(), 1);
  EXPECT_TRUE(update.records(0).endpoint().ready());
  EXPECT_FALSE(book_.changed());
}

TEST_F(NameBookTest, ATaskThatIsLetGoIsFoundUntilTheFeedSaysWhoTakesItsPlace) {
  book_.set_task(local_task("t1", "n1", true));
  v1::NetworkFeed feed;
  *feed.add_endpoints() = remote("t1", "here");
  book_.apply(step("n1", feed, true));
  v1::LocalTask leaves = local_task("t1", "n1", true);
  leaves.set_stop_asked(true);
  leaves.set_endpoint_state(v1::ENDPOINT_DRAINING);
  leaves.mutable_assignment()->mutable_task()->set_endpoint_state(v1::ENDPOINT_DRAINING);
  book_.set_task(leaves);
  keys();
  EXPECT_TRUE(endpoint("endpoint/n1/t1").ready());
  v1::NetworkFeed news;
  *news.add_endpoints() = remote("t2", "there");
  *news.add_endpoints() = remote("t1", "here");
  news.mutable_endpoints(1)->set_state(v1::ENDPOINT_DRAINING);
  book_.apply(step("n1", news, false));
  keys();
  EXPECT_FALSE(endpoint("endpoint/n1/t1").ready());
  EXPECT_TRUE(endpoint("endpoint/n1/t2").ready());
  // Its own word again, should they say nothing of it any more; it was not released.
  for (const bool complete : {false, true}) {
    book_.set_task(local_task("t1", "n1", true));
    book_.apply(step("n1", news, false));
    keys();
    ASSERT_FALSE(endpoint("endpoint/n1/t1").ready());
    v1::NetworkFeed without;
    if (complete) *without.add_endpoints() = remote("t2", "there");
    if (!complete) without.add_removed_task_ids("t1");
    book_.apply(step("n1", without, complete));
    keys();
    EXPECT_TRUE(endpoint("endpoint/n1/t1").ready());
  }
}

TEST_F(NameBookTest, AContainerIsToldEvenWhenItIsTheSame) {
  v1::NetdContainer container;
  container.set_id("c1");
  book_.set_container(container);
  keys();
  book_.set_container(container);
  EXPECT_TRUE(book_.changed()) << "its namespace may be another";
  EXPECT_EQ(book_.increment().records_size(), 1);
  book_.remove_container("c1");
  EXPECT_THAT(keys(), IsEmpty());
}

TEST_F(NameBookTest, TheMeshHasNoNames) {
  auto task = local_task("t1", "n1", true);
  *task.mutable_assignment()->mutable_networks(0) = network("n1", true);
  book_.set_task(task);
  EXPECT_FALSE(book_.changed());
}

TEST_F(NameBookTest, AFeedIsToldWhileATaskHereIsInTheNetwork) {
  v1::NetworkFeed feed;
  *feed.add_endpoints() = remote("t2", "there");
  *feed.add_endpoints() = remote("t3", "here");
  auto& service = *feed.add_services();
  service.set_service_id("svc");
  service.set_name("web");
  auto& port = *service.add_ports();
  port.set_name("http");
  port.set_target_port(80);
  book_.apply(step("n1", feed, true));
  EXPECT_FALSE(book_.changed()) << "nobody here is in it";
  book_.set_task(local_task("t1", "n1", true));
  EXPECT_THAT(keys(),
              ElementsAre("endpoint/n1/t1", "endpoint/n1/t2", "network/n1", "service/n1/svc"));
  EXPECT_EQ(endpoint("endpoint/n1/t2").name(), "web.2.t2");
  EXPECT_TRUE(held_.at("endpoint/n1/t2").fed());
  EXPECT_THAT(endpoint("endpoint/n1/t2").own_names(), ElementsAre("web.2", "far-box"));
  EXPECT_EQ(held_.at("service/n1/svc").service().ports(0).protocol(), "tcp");
  book_.remove_task("t1");
  EXPECT_THAT(keys(), IsEmpty());
  book_.set_task(local_task("t4", "n1", true));
  EXPECT_THAT(keys(), testing::Contains("endpoint/n1/t2")) << "the feed is still known";
}

TEST_F(NameBookTest, VirtualAddressesAreToldOnlyWhereTheyLeadSomewhere) {
  v1::NetworkFeed feed;
  auto& service = *feed.add_services();
  service.set_service_id("svc");
  service.set_name("web");
  service.add_virtual_ips("10.0.1.2");
  for (const bool balanced : {false, true}) {
    book_ = NameBook("here", balanced);
    held_.clear();
    book_.set_task(local_task("t1", "n1", true));
    book_.apply(step("n1", feed, true));
    keys();
    EXPECT_EQ(held_.at("service/n1/svc").service().virtual_ips_size(), balanced ? 1 : 0);
  }
  // A network that ends at the node has none.
  v1::LocalTask bridged = local_task("t2", "n2", true);
  bridged.mutable_assignment()->mutable_networks(0)->mutable_spec()->set_driver("bridge");
  book_.set_task(bridged);
  book_.apply(step("n2", feed, true));
  keys();
  EXPECT_EQ(held_.at("service/n2/svc").service().virtual_ips_size(), 0);
}

TEST_F(NameBookTest, FeedsGrowAndAreReplaced) {
  book_.set_task(local_task("t1", "n1", true));
  v1::NetworkFeed first;
  *first.add_endpoints() = remote("t2", "there");
  *first.add_endpoints() = remote("t3", "there");
  book_.apply(step("n1", first, true));
  EXPECT_THAT(keys(), UnorderedElementsAre("network/n1", "endpoint/n1/t1", "endpoint/n1/t2",
                                           "endpoint/n1/t3"));
  v1::NetworkFeed less;
  less.add_removed_task_ids("t3");
  less.add_removed_task_ids("t1");  // of ours; known better here
  book_.apply(step("n1", less, false));
  EXPECT_THAT(keys(), UnorderedElementsAre("network/n1", "endpoint/n1/t1", "endpoint/n1/t2"));
  v1::NetworkFeed other;
  *other.add_endpoints() = remote("t5", "there");
  book_.apply(step("n1", other, true));
  EXPECT_THAT(keys(), UnorderedElementsAre("network/n1", "endpoint/n1/t1", "endpoint/n1/t5"));
}

TEST_F(NameBookTest, WhatWasToldOfANetworkIsForgottenWithIt) {
  v1::NetworkFeed feed;
  *feed.add_endpoints() = remote("t2", "there");
  book_.set_task(local_task("t1", "n1", true));
  book_.apply(step("n1", feed, true));
  book_.forget_network("n1");
  EXPECT_THAT(keys(), UnorderedElementsAre("network/n1", "endpoint/n1/t1", "endpoint/n1/t2"))
      << "a task is in it yet";
  // Forgotten before its last task is out of it, what was told goes with that.
  book_.remove_task("t1");
  const v1::NetdUpdate all = book_.complete();
  EXPECT_THAT(all.fed_network_ids(), IsEmpty());
  held_.clear();
  told(all);
  book_.set_task(local_task("t2b", "n1", true));
  EXPECT_THAT(keys(), UnorderedElementsAre("network/n1", "endpoint/n1/t2b")) << "no stale name";
  book_.apply(step("n1", feed, true));
  book_.remove_task("t2b");
  // Entered again before it was forgotten, what was told goes on.
  book_.set_task(local_task("t3", "n1", true));
  EXPECT_THAT(keys(), UnorderedElementsAre("network/n1", "endpoint/n1/t3", "endpoint/n1/t2"));
  book_.remove_task("t3");
  book_.forget_network("n1");
  EXPECT_THAT(book_.complete().fed_network_ids(), IsEmpty());
  book_.set_task(local_task("t4", "n1", true));
  held_.clear();
  told(book_.complete());
  EXPECT_THAT(keys(), UnorderedElementsAre("network/n1", "endpoint/n1/t4")) << "no stale name";
}

TEST_F(NameBookTest, RelaysAndSocketsOfEncryptedNetworksAreToldApart) {
  v1::NetdRelay relay;
  relay.set_id("tcp/80");
  EXPECT_TRUE(book_.set_relays({relay}, false)) << "for the first time";
  EXPECT_TRUE(book_.set_encapsulation(4500, false));
  EXPECT_THAT(keys(), ElementsAre("relay/esp/4500", "relay/tcp/80"));
  EXPECT_FALSE(book_.set_relays({}, false));
  EXPECT_FALSE(book_.set_encapsulation(4501, false));
  EXPECT_THAT(keys(), ElementsAre("relay/esp/4501"));
  EXPECT_THAT(held_.at("relay/esp/4501").relay().listen(),
              ElementsAre("0.0.0.0:4501", "[::]:4501"));
  book_.set_encapsulation(4501, false);
  EXPECT_FALSE(book_.changed());
  book_.set_encapsulation(4501, true);
  EXPECT_TRUE(book_.changed()) << "once more, as it had failed";
  book_.set_encapsulation(0, false);
  EXPECT_THAT(keys(), IsEmpty());
}

TEST_F(NameBookTest, ACompleteUpdateNamesTheFeedsItKnows) {
  book_.set_task(local_task("t1", "n1", true));
  EXPECT_THAT(book_.complete().fed_network_ids(), IsEmpty());
  v1::NetworkFeed feed;
  *feed.add_endpoints() = remote("t3", "here");
  book_.apply(step("n1", feed, true));
  const v1::NetdUpdate update = book_.complete();
  EXPECT_THAT(update.fed_network_ids(), ElementsAre("n1"));
  EXPECT_TRUE(update.complete());
  EXPECT_FALSE(book_.changed());
}

// netd outlives musterd, and a task may be gone by when the next one is told of its network.
TEST_F(NameBookTest, WhatAnEarlierMusterdWasToldDoesNotStay) {
  v1::NetworkFeed two;
  *two.add_endpoints() = remote("t2", "there");
  *two.add_endpoints() = remote("t3", "there");
  overlay::dns::Records netd;
  book_.set_task(local_task("t1", "n1", true));
  book_.apply(step("n1", two, true));
  netd.apply(book_.complete());

  book_ = NameBook("here", false);
  book_.set_task(local_task("t1", "n1", true));
  netd.apply(book_.complete());
  EXPECT_EQ(netd.all().records_size(), 4) << "nothing has been heard of the network yet";
  v1::NetworkFeed one;
  *one.add_endpoints() = remote("t2", "there");
  EXPECT_TRUE(book_.apply(step("n1", one, true)));
  netd.apply(book_.complete());
  EXPECT_EQ(netd.all().records_size(), 3);
  EXPECT_FALSE(book_.apply(step("n1", two, true))) << "from now on increments say all";
  EXPECT_FALSE(book_.apply(step("n2", two, true))) << "nobody here is in it";
  netd.apply(book_.increment());
  EXPECT_EQ(netd.all().records_size(), 4);
}

TEST_F(NameBookTest, ATaskEntersAndLeavesNetworksWhileItRuns) {
  v1::NetworkFeed feed;
  *feed.add_endpoints() = remote("far", "there");
  book_.apply(step("n2", feed, true));
  v1::LocalTask task = local_task("t1", "n1", true);
  book_.set_task(task);
  EXPECT_THAT(keys(), UnorderedElementsAre("network/n1", "endpoint/n1/t1"));
  auto& attachment = *task.mutable_assignment()->mutable_task()->add_networks();
  attachment.set_network_id("n2");
  attachment.add_addresses("10.0.2.5/24");
  attachment.add_aliases("debug");
  *task.mutable_assignment()->add_networks() = network("n2");
  book_.set_task(task);
  EXPECT_THAT(keys(), UnorderedElementsAre("network/n1", "endpoint/n1/t1", "network/n2",
                                           "endpoint/n2/t1", "endpoint/n2/far"));
  EXPECT_THAT(endpoint("endpoint/n2/t1").aliases(), ElementsAre("debug"));
  book_.set_task(local_task("t1", "n1", true));
  EXPECT_THAT(keys(), UnorderedElementsAre("network/n1", "endpoint/n1/t1"));
}

TEST_F(NameBookTest, ANetworkThatGrowsIsKnownWithAllOfItsSubnets) {
  book_.set_task(local_task("t1", "n1", true));
  v1::NetworkFeed feed;
  *feed.mutable_network() = network("n1");
  feed.mutable_network()->mutable_meta()->set_version(7);
  feed.mutable_network()->mutable_state()->add_pools()->set_subnet("10.0.9.0/24");
  book_.apply(step("n1", feed, false));
  (void)keys();
  EXPECT_THAT(held_.at("network/n1").network().subnets(),
              ElementsAre("10.0.1.0/24", "10.0.9.0/24"));
  // The task says it again with what it was made with.
  book_.set_task(local_task("t1", "n1", false));
  (void)keys();
  EXPECT_EQ(held_.at("network/n1").network().subnets_size(), 2);
}

}  // namespace
}  // namespace muster::agent
