#include "manager/dispatcher/network_feed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "base/rng.h"
#include "base/sim_executor.h"
#include "manager/dispatcher/network_changes.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::dispatcher {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

// Somebody who was told of one network, as an agent keeps it.
struct Mirror {
  std::string network;
  std::map<std::string, std::string> endpoints, services, nodes;
  uint64_t version = 0;
  std::string pieces;
  v1::NetworkFeed last;

  void hear(const std::vector<Bytes>& messages) {
    for (const Bytes& bytes : messages) {
      v1::ManagerMessage message;
      ASSERT_TRUE(message.ParseFromString(*bytes));
      const v1::FeedUpdate& step = message.feed();
      if (step.complete()) {
        network.clear(), endpoints.clear(), services.clear(), nodes.clear();
      } else {
        ASSERT_EQ(step.base_version(), version) << "a step is missing";
      }
      pieces += step.network();
      if (!step.last()) continue;
      version = step.version();
      ASSERT_TRUE(last.ParseFromString(pieces));
      pieces.clear();
      if (last.has_network()) network = last.network().SerializeAsString();
      for (const auto& e : last.endpoints()) endpoints[e.task_id()] = e.SerializeAsString();
      for (const auto& s : last.services()) services[s.service_id()] = s.SerializeAsString();
      for (const auto& n : last.ingress_nodes()) nodes[n.node_id()] = n.SerializeAsString();
      for (const auto& id : last.removed_task_ids()) endpoints.erase(id);
      for (const auto& id : last.removed_service_ids()) services.erase(id);
      for (const auto& id : last.removed_ingress_node_ids()) nodes.erase(id);
    }
  }
  friend bool operator==(const Mirror& a, const Mirror& b) {
    return a.network == b.network && a.endpoints == b.endpoints && a.services == b.services &&
           a.nodes == b.nodes;
  }
};

class NetworkFeedTest : public ::testing::Test {
 protected:
  NetworkFeedTest() {
    store_.lead(1);
    for (const char* id : {"net", "other", "in"}) {
      v1::Network network;
      network.set_id(id);
      network.mutable_spec()->mutable_annotations()->set_name(id);
      network.mutable_spec()->set_ingress(network.id() == "in");
      put(network);
      subscribers_[id].insert("n1");
    }
    subscription_ = store_.watch([this](const store::CommitEvent& event) {
      for (auto& [id, increment] : feeds_.increments(event, subscribers_)) {
        mirrors_[id].hear(increment.messages);
        heard_.push_back(id);
      }
    });
    for (const auto& [id, nodes] : subscribers_) {
      mirrors_[id].hear(feeds_.complete(store_.snapshot(), id));
    }
  }

  template <class T>
  static Status put_in(store::Transaction& tx, T object) {
    const auto known = tx.view().get<T>(object.id());
    if (known == nullptr) return tx.create(std::move(object));
    *object.mutable_meta() = known->meta();
    return tx.update(std::move(object));
  }
  template <class T>
  void put(const T& object) {
    write([&](store::Transaction& tx) { return put_in(tx, object); });
  }
  template <class T>
  void remove(const std::string& id) {
    write([&](store::Transaction& tx) { return tx.remove<T>(id); });
  }
  void write(store::Store::Body body) {
    heard_.clear();
    Status outcome(StatusCode::kUnknown, "never committed");
    store_.update(std::move(body), [&](const store::Commit& commit) { outcome = commit.status; });
    world_.settle();
    ASSERT_TRUE(outcome.ok()) << outcome.to_string();
  }

  static v1::Node node(const std::string& id, const std::string& path,
                       v1::NodeStatus::State state = v1::NodeStatus::READY, uint32_t index = 0) {
    v1::Node n;
    n.set_id(id);
    n.mutable_status()->set_state(state);
    n.mutable_description()->mutable_data_path()->set_address(path);
    if (index == 0) return n;
    n.mutable_ingress()->set_index(index);
    n.mutable_ingress()->add_addresses(fmt::format("10.1.0.{}/16", index));
    n.mutable_ingress()->set_mac(fmt::format("02:42:0a:01:00:{:02x}", index));
    return n;
  }
  static v1::Task task(const std::string& id, const std::string& node,
                       const std::vector<std::string>& networks, int address = 5,
                       v1::TaskState state = v1::TASK_RUNNING,
                       v1::EndpointState endpoint = v1::ENDPOINT_READY) {
    v1::Task t;
    t.set_id(id);
    t.set_name("web." + id);
    t.set_service_id("s1");
    t.set_node_id(node);
    t.set_desired_state(v1::TASK_RUNNING);
    t.mutable_status()->set_state(state);
    t.set_endpoint_state(endpoint);
    for (const auto& network : networks) {
      auto* attachment = t.add_networks();
      attachment->set_network_id(network);
      attachment->add_addresses(fmt::format("10.0.1.{}/24", address));
      attachment->set_mac(fmt::format("02:42:0a:00:01:{:02x}", address));
    }
    return t;
  }
  static v1::Service service(const std::string& id, const std::vector<std::string>& networks,
                             bool published) {
    v1::Service s;
    s.set_id(id);
    s.mutable_spec()->mutable_annotations()->set_name("name-" + id);
    for (const auto& n : networks) {
      s.mutable_spec()->mutable_task()->add_networks()->set_target(n);
      auto* vip = s.mutable_endpoint()->add_virtual_ips();
      vip->set_network_id(n);
      vip->set_address("10.0.1.2/24");
    }
    if (!published) return s;
    auto* port = s.mutable_endpoint()->add_ports();
    port->set_target_port(80);
    port->set_published_port(8080);
    return s;
  }
  // What was heard last of a network.
  const v1::NetworkFeed& last(const std::string& network) { return mirrors_[network].last; }
  v1::NetworkEndpoint endpoint(const std::string& network, const std::string& task) {
    v1::NetworkEndpoint out;
    out.ParseFromString(mirrors_[network].endpoints[task]);
    return out;
  }

  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer log_{strand_};
  store::Store store_{strand_, &log_, null_log()};
  NetworkFeeds feeds_;
  Subscribers subscribers_;
  std::map<std::string, Mirror> mirrors_;
  std::vector<std::string> heard_;  // networks the last commit had increments of
  store::Store::Subscription subscription_;
};

TEST(ShownState, OnlyWhatRunsAndIsToGoOnIsReady) {
  struct Case {
    v1::EndpointState said;
    v1::TaskState state;
    v1::TaskState desired;
    int node;  // -1 none
    v1::EndpointState want;
  };
  const Case cases[] = {
      {v1::ENDPOINT_READY, v1::TASK_RUNNING, v1::TASK_RUNNING, v1::NodeStatus::READY,
       v1::ENDPOINT_READY},
      {v1::ENDPOINT_READY, v1::TASK_RUNNING, v1::TASK_COMPLETE, v1::NodeStatus::READY,
       v1::ENDPOINT_READY},
      {v1::ENDPOINT_READY, v1::TASK_RUNNING, v1::TASK_RUNNING, v1::NodeStatus::UNKNOWN,
       v1::ENDPOINT_READY},
      {v1::ENDPOINT_READY, v1::TASK_STARTING, v1::TASK_RUNNING, v1::NodeStatus::READY,
       v1::ENDPOINT_ABSENT},
      {v1::ENDPOINT_READY, v1::TASK_RUNNING, v1::TASK_RUNNING, v1::NodeStatus::DOWN,
       v1::ENDPOINT_ABSENT},
      {v1::ENDPOINT_READY, v1::TASK_RUNNING, v1::TASK_RUNNING, -1, v1::ENDPOINT_ABSENT},
      {v1::ENDPOINT_READY, v1::TASK_RUNNING, v1::TASK_SHUTDOWN, v1::NodeStatus::READY,
       v1::ENDPOINT_DRAINING},
      {v1::ENDPOINT_READY, v1::TASK_RUNNING, v1::TASK_REMOVE, v1::NodeStatus::READY,
       v1::ENDPOINT_DRAINING},
      {v1::ENDPOINT_DRAINING, v1::TASK_RUNNING, v1::TASK_SHUTDOWN, v1::NodeStatus::READY,
       v1::ENDPOINT_DRAINING},
      {v1::ENDPOINT_RELEASED, v1::TASK_RUNNING, v1::TASK_SHUTDOWN, v1::NodeStatus::READY,
       v1::ENDPOINT_RELEASED},
      {v1::ENDPOINT_ABSENT, v1::TASK_RUNNING, v1::TASK_RUNNING, v1::NodeStatus::READY,
       v1::ENDPOINT_ABSENT},
  };
  for (const Case& c : cases) {
    v1::Task task;
    task.set_endpoint_state(c.said);
    task.mutable_status()->set_state(c.state);
    task.set_desired_state(c.desired);
    v1::Node node;
    if (c.node >= 0) node.mutable_status()->set_state(static_cast<v1::NodeStatus::State>(c.node));
    EXPECT_EQ(shown_state(task, c.node < 0 ? nullptr : &node), c.want) << &c - cases;
  }
}

TEST_F(NetworkFeedTest, AnEndpointSaysWhereFramesForItGo) {
  put(node("n1", "192.0.2.1"));
  put(task("t1", "n1", {"net"}));
  EXPECT_EQ(endpoint("net", "t1").data_path_addr(), "192.0.2.1");
  EXPECT_THAT(heard_, ElementsAre("net"));
  put(node("n1", "192.0.2.9"));
  EXPECT_EQ(endpoint("net", "t1").data_path_addr(), "192.0.2.9");
  // What else changes of a node is nobody's business here.
  v1::Node busy = node("n1", "192.0.2.9", v1::NodeStatus::UNKNOWN);
  busy.mutable_description()->set_hostname("host");
  put(busy);
  EXPECT_THAT(heard_, IsEmpty());
}

TEST(WeightOf, WhatTheNodesLabelSays) {
  struct Case {
    const char* label;
    uint32_t want;
  };
  for (const Case& c :
       {Case{"1", 1}, Case{"7", 7}, Case{"100", 100}, Case{"0", 1}, Case{"101", 1}, Case{"-3", 1},
        Case{"7 ", 1}, Case{"big", 1}, Case{"", 1}, Case{"99999999999", 1}}) {
    v1::Node node;
    auto* label = node.mutable_spec()->mutable_annotations()->add_labels();
    label->set_key("size");
    label->set_value(c.label);
    v1::Service service;
    EXPECT_EQ(weight_of(&service, &node), 1u);
    service.mutable_spec()->mutable_endpoint()->set_weight_label("size");
    EXPECT_EQ(weight_of(&service, &node), c.want) << c.label;
    EXPECT_EQ(weight_of(nullptr, &node), 1u);
    EXPECT_EQ(weight_of(&service, nullptr), 1u);
  }
}

TEST_F(NetworkFeedTest, WeightsFollowNodeLabelsAndTheServicesChoice) {
  const auto labelled = [](const std::string& value) {
    v1::Node n = node("n1", "192.0.2.1");
    auto* label = n.mutable_spec()->mutable_annotations()->add_labels();
    label->set_key("size");
    label->set_value(value);
    return n;
  };
  put(labelled("5"));
  v1::Service weighed = service("s1", {"net"}, true);
  put(weighed);
  put(task("t1", "n1", {"net", "in"}));
  EXPECT_EQ(endpoint("net", "t1").weight(), 0u);
  // Labels that nobody weighs by are nobody's business.
  put(labelled("6"));
  EXPECT_THAT(heard_, IsEmpty());
  weighed.mutable_spec()->mutable_endpoint()->set_weight_label("size");
  put(weighed);
  EXPECT_THAT(heard_, UnorderedElementsAre("net", "in"));
  EXPECT_EQ(endpoint("net", "t1").weight(), 6u);
  EXPECT_EQ(endpoint("in", "t1").weight(), 6u);
  put(labelled("7"));
  EXPECT_THAT(heard_, UnorderedElementsAre("net", "in"));
  EXPECT_EQ(endpoint("net", "t1").weight(), 7u);
  EXPECT_EQ(endpoint("in", "t1").weight(), 7u);
  v1::Node other = labelled("7");
  other.mutable_spec()->mutable_annotations()->mutable_labels(0)->set_key("width");
  put(other);
  EXPECT_EQ(endpoint("net", "t1").weight(), 0u);
}

TEST_F(NetworkFeedTest, HowAServiceIsBalancedIsSent) {
  v1::Service s = service("s1", {"net"}, true);
  put(s);
  s.mutable_spec()->mutable_endpoint()->set_balancing(v1::EndpointSpec::SOURCE_HASH);
  put(s);
  EXPECT_THAT(heard_, UnorderedElementsAre("net", "in"));
  EXPECT_EQ(last("net").services(0).balancing(), v1::EndpointSpec::SOURCE_HASH);
  s.mutable_spec()->mutable_endpoint()->set_affinity_ns(5'000'000'000);
  put(s);
  EXPECT_EQ(last("in").services(0).affinity_ns(), 5'000'000'000);
  EXPECT_EQ(last("in").services(0).balancing(), v1::EndpointSpec::SOURCE_HASH);
}

v1::ContainerStatus* container_of(v1::Task& task) {
  return task.mutable_status()->mutable_container();
}

TEST_F(NetworkFeedTest, AContainersNamesAreToldWhenItIsReady) {
  put(node("n1", "192.0.2.1"));
  v1::Task starting = task("t1", "n1", {"net"});
  starting.set_endpoint_state(v1::ENDPOINT_ABSENT);
  put(starting);
  container_of(starting)->set_container_id("0123456789abcdef");
  container_of(starting)->set_hostname("box");
  put(starting);
  EXPECT_THAT(heard_, IsEmpty()) << "nobody is led there by them yet";
  v1::Task ready = starting;
  ready.set_endpoint_state(v1::ENDPOINT_READY);
  put(ready);
  EXPECT_THAT(endpoint("net", "t1").own_names(), ElementsAre("0123456789ab", "box"));
  container_of(ready)->set_hostname("0123456789ab");
  put(ready);
  EXPECT_THAT(endpoint("net", "t1").own_names(), ElementsAre("0123456789ab"));
}

TEST_F(NetworkFeedTest, EveryFieldThatIsSentIsSentWhenItChanges) {
  put(node("n1", "192.0.2.1"));
  const v1::Task base = task("t1", "n1", {"net"});
  struct Case {
    const char* what;
    std::function<void(v1::Task&)> change;
    bool sent;
  };
  const Case cases[] = {
      {"address", [](auto& t) { t.mutable_networks(0)->set_addresses(0, "10.0.1.9/24"); }, true},
      {"a second address", [](auto& t) { t.mutable_networks(0)->add_addresses("fd00::9/64"); },
       true},
      {"mac", [](auto& t) { t.mutable_networks(0)->set_mac("02:42:00:00:00:01"); }, true},
      {"alias", [](auto& t) { t.mutable_networks(0)->add_aliases("db"); }, true},
      {"state", [](auto& t) { t.set_endpoint_state(v1::ENDPOINT_DRAINING); }, true},
      {"name", [](auto& t) { t.set_name("api.1"); }, true},
      {"container", [](auto& t) { container_of(t)->set_container_id("0123456789abcdef"); }, true},
      {"host name", [](auto& t) { container_of(t)->set_hostname("box"); }, true},
      {"process", [](auto& t) { container_of(t)->set_pid(7); }, false},
      {"runs no more", [](auto& t) { t.mutable_status()->set_state(v1::TASK_STARTING); }, true},
      {"to be stopped", [](auto& t) { t.set_desired_state(v1::TASK_SHUTDOWN); }, true},
      {"ended", [](auto& t) { t.mutable_status()->set_state(v1::TASK_FAILED); }, true},
      {"message", [](auto& t) { t.mutable_status()->set_message("busy"); }, false},
      {"health", [](auto& t) { t.mutable_status()->mutable_health()->set_failing_streak(1); },
       false},
  };
  for (const Case& c : cases) {
    put(base);
    v1::Task changed = base;
    c.change(changed);
    put(changed);
    EXPECT_EQ(!heard_.empty(), c.sent) << c.what;
  }
}

TEST_F(NetworkFeedTest, ANetworkThatIsLeftLosesTheEndpoint) {
  put(node("n1", "192.0.2.1"));
  put(task("t1", "n1", {"net", "other"}));
  EXPECT_THAT(heard_, ElementsAre("net", "other"));
  put(task("t1", "n1", {"other"}));
  EXPECT_THAT(mirrors_["net"].endpoints, IsEmpty());
  EXPECT_EQ(mirrors_["other"].endpoints.size(), 1u);
  remove<v1::Task>("t1");
  EXPECT_THAT(heard_, ElementsAre("other"));
  EXPECT_THAT(mirrors_["other"].endpoints, IsEmpty());
}

TEST_F(NetworkFeedTest, TheEndpointsOfADeadNodeLeaveAtOnceAndReturnWithIt) {
  put(node("n1", "192.0.2.1"));
  put(node("n2", "192.0.2.2"));
  put(task("t1", "n1", {"net"}));
  put(task("t2", "n2", {"net", "in"}, 6));
  put(task("gone", "n2", {"net"}, 7, v1::TASK_FAILED));
  put(node("n2", "192.0.2.2", v1::NodeStatus::DOWN));
  EXPECT_THAT(heard_, ElementsAre("in", "net"));
  ASSERT_EQ(last("net").endpoints_size(), 1) << "of its own tasks alone";
  EXPECT_EQ(endpoint("net", "t2").state(), v1::ENDPOINT_ABSENT);
  EXPECT_EQ(endpoint("in", "t2").state(), v1::ENDPOINT_ABSENT);
  // Where its frames go stays known: connections go on if only the managers miss it.
  EXPECT_EQ(endpoint("net", "t2").data_path_addr(), "192.0.2.2");
  EXPECT_EQ(endpoint("net", "t1").state(), v1::ENDPOINT_READY);
  // A task that was replaced meanwhile does not come back.
  put(task("t3", "n2", {"net"}, 8));
  v1::Task replaced = task("t3", "n2", {"net"}, 8);
  replaced.set_desired_state(v1::TASK_SHUTDOWN);
  put(replaced);
  put(node("n2", "192.0.2.2"));
  EXPECT_EQ(endpoint("net", "t2").state(), v1::ENDPOINT_READY);
  EXPECT_EQ(endpoint("net", "t3").state(), v1::ENDPOINT_DRAINING);
  // It is removed with its tasks given up.
  write([](store::Transaction& tx) -> Status {
    for (const char* id : {"t2", "t3"}) {
      v1::Task t = *tx.view().get<v1::Task>(id);
      t.mutable_status()->set_state(v1::TASK_ORPHANED);
      MUSTER_TRY(tx.update(std::move(t)));
    }
    return tx.remove<v1::Node>("n2");
  });
  EXPECT_THAT(last("net").removed_task_ids(), UnorderedElementsAre("t2", "t3"));
  EXPECT_EQ(mirrors_["net"].endpoints.size(), 1u);
}

TEST_F(NetworkFeedTest, TheIngressNetworkTellsByWhichNodesConnectionsComeIn) {
  put(node("n1", "192.0.2.1"));
  EXPECT_THAT(heard_, IsEmpty()) << "it has no place yet";
  put(node("n1", "192.0.2.1", v1::NodeStatus::READY, 4));
  ASSERT_EQ(last("in").ingress_nodes_size(), 1);
  EXPECT_EQ(last("in").ingress_nodes(0).ShortDebugString(),
            "node_id: \"n1\" index: 4 addresses: \"10.1.0.4\" mac: \"02:42:0a:01:00:04\" "
            "data_path_addr: \"192.0.2.1\"");
  put(node("n2", "", v1::NodeStatus::READY, 5));
  EXPECT_THAT(heard_, IsEmpty()) << "frames do not reach it";
  put(node("n2", "192.0.2.2", v1::NodeStatus::READY, 5));
  EXPECT_EQ(mirrors_["in"].nodes.size(), 2u);
  EXPECT_EQ(last("in").ingress_nodes_size(), 1);
  put(node("n2", "192.0.2.2", v1::NodeStatus::DOWN, 5));
  EXPECT_EQ(mirrors_["in"].nodes.size(), 2u) << "it is a member";
  put(node("n2", "192.0.2.3", v1::NodeStatus::DOWN, 6));
  EXPECT_EQ(last("in").ingress_nodes(0).index(), 6u);
  remove<v1::Node>("n2");
  EXPECT_THAT(last("in").removed_ingress_node_ids(), ElementsAre("n2"));
  EXPECT_EQ(mirrors_["net"].nodes.size(), 0u);
}

TEST_F(NetworkFeedTest, OfANetworkThatWasRemovedNothingIsLeft) {
  put(node("n1", "192.0.2.1", v1::NodeStatus::READY, 1));
  ASSERT_EQ(mirrors_["in"].nodes.size(), 1u);
  remove<v1::Network>("in");
  EXPECT_THAT(heard_, ElementsAre("in"));
  EXPECT_EQ(mirrors_["in"], Mirror());
}

TEST_F(NetworkFeedTest, TheIngressNetworkHasEveryServiceThatPublishes) {
  put(service("quiet", {"net"}, false));
  EXPECT_THAT(heard_, ElementsAre("net"));
  put(service("loud", {"net"}, true));
  EXPECT_THAT(heard_, ElementsAre("in", "net"));
  ASSERT_EQ(last("in").services_size(), 1);
  EXPECT_EQ(last("in").services(0).ports(0).published_port(), 8080u);
  EXPECT_EQ(last("in").services(0).virtual_ips_size(), 0);
  EXPECT_EQ(last("net").services(0).virtual_ips(0), "10.0.1.2");
  v1::Service updating = service("loud", {"net"}, true);
  updating.mutable_update_status()->set_state(v1::UpdateStatus::UPDATING);
  put(updating);
  EXPECT_THAT(heard_, IsEmpty());
  put(service("loud", {"other"}, false));
  EXPECT_THAT(heard_, ElementsAre("in", "net", "other"));
  EXPECT_THAT(last("in").removed_service_ids(), ElementsAre("loud"));
  EXPECT_THAT(last("net").removed_service_ids(), ElementsAre("loud"));
  remove<v1::Service>("loud");
  EXPECT_THAT(heard_, ElementsAre("other"));
  EXPECT_THAT(mirrors_["other"].services, IsEmpty());
}

// After any change, who followed the increments and who came just now know the same, which is what
// the state says.
TEST_F(NetworkFeedTest, IncrementsAddUpToTheWhole) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SeededRng rng(seed);
    const auto below = [&](uint64_t n) { return static_cast<int>(rng.below(n)); };
    const std::vector<std::string> ids = {"net", "other", "in"};
    for (int step = 0; step < 60; ++step) {
      write([&](store::Transaction& tx) -> Status {
        for (int i = below(3); i >= 0; --i) {
          const std::string n = fmt::format("n{}", below(4));
          const std::string t = fmt::format("t{}", below(12));
          const std::string s = fmt::format("s{}", below(4));
          std::vector<std::string> in;
          for (const auto& id : ids) {
            if (below(2) == 0) in.push_back(id);
          }
          switch (below(6)) {
            case 0:
              MUSTER_TRY(
                  put_in(tx, node(n, below(3) == 0 ? "" : fmt::format("192.0.2.{}", below(9)),
                                  below(2) == 0 ? v1::NodeStatus::DOWN : v1::NodeStatus::READY,
                                  static_cast<uint32_t>(below(3)))));
              break;
            case 1:
              if (tx.view().get<v1::Node>(n)) MUSTER_TRY(tx.remove<v1::Node>(n));
              break;
            case 2:
              if (tx.view().get<v1::Task>(t)) MUSTER_TRY(tx.remove<v1::Task>(t));
              break;
            case 3: {
              std::erase(in, "in");
              MUSTER_TRY(put_in(tx, service(s, in, below(2) == 0)));
              break;
            }
            case 4:
              if (tx.view().get<v1::Service>(s)) MUSTER_TRY(tx.remove<v1::Service>(s));
              break;
            default: {
              v1::Task object =
                  task(t, n, in, below(200), below(3) == 0 ? v1::TASK_FAILED : v1::TASK_RUNNING,
                       static_cast<v1::EndpointState>(below(4)));
              if (below(4) == 0) object.set_desired_state(v1::TASK_SHUTDOWN);
              MUSTER_TRY(put_in(tx, std::move(object)));
            }
          }
        }
        return ok_status();
      });
      for (const std::string& id : ids) {
        Mirror fresh, late;
        fresh.hear(NetworkFeeds().complete(store_.snapshot(), id));
        ASSERT_EQ(mirrors_[id], fresh) << id << " seed " << seed << " step " << step;
        late.hear(feeds_.complete(store_.snapshot(), id));
        ASSERT_EQ(late, fresh) << id << " seed " << seed << " step " << step;
        ASSERT_EQ(late.version, mirrors_[id].version);
      }
    }
  }
}

TEST_F(NetworkFeedTest, OneChangeAmongThousandsIsOneEndpointAndAWholeFeedIsNotWrittenAnew) {
  constexpr int kEndpoints = 10'000;
  write([](store::Transaction& tx) -> Status {
    for (int i = 0; i < 100; ++i) {
      MUSTER_TRY(tx.create(node(fmt::format("n{}", i), fmt::format("192.0.2.{}", i))));
    }
    return ok_status();
  });
  for (int from = 0; from < kEndpoints; from += 1000) {
    write([from](store::Transaction& tx) -> Status {
      for (int i = from; i < from + 1000; ++i) {
        MUSTER_TRY(tx.create(task(fmt::format("{:025}", i), fmt::format("n{}", i % 100), {"net"})));
      }
      return ok_status();
    });
  }
  feeds_.forget("net");
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  };
  auto start = Clock::now();
  const auto whole = feeds_.complete(store_.snapshot(), "net");
  const double first = since(start);
  size_t bytes = 0;
  for (const Bytes& message : whole) bytes += message->size();
  v1::Task one = *store_.snapshot().get<v1::Task>(fmt::format("{:025}", 77));
  one.set_endpoint_state(v1::ENDPOINT_DRAINING);
  put(one);
  ASSERT_EQ(last("net").endpoints_size(), 1);
  start = Clock::now();
  const auto again = feeds_.complete(store_.snapshot(), "net");
  const double second = since(start);
  // The same messages, not their like; and the change behind them.
  ASSERT_EQ(again.size(), whole.size() + 1);
  EXPECT_EQ(again.front(), whole.front());
  start = Clock::now();
  put(node("n7", "192.0.2.7", v1::NodeStatus::DOWN));
  const double down = since(start);
  EXPECT_EQ(last("net").endpoints_size(), kEndpoints / 100);
  std::printf(
      "%d endpoints: %zu bytes in %zu messages, written in %.1f ms, again after a change in %.3f "
      "ms; a node with 100 of them down in %.2f ms\n",
      kEndpoints, bytes, whole.size(), first, second, down);
  // Many changes: it is written anew rather than told as a long story.
  for (int i = 0; i < 80; ++i) {
    put(node(fmt::format("n{}", i), "", v1::NodeStatus::DOWN));
  }
  size_t now = 0;
  for (const Bytes& message : feeds_.complete(store_.snapshot(), "net")) now += message->size();
  EXPECT_LT(now, bytes * 3 / 2 + 1000);
}

}  // namespace
}  // namespace muster::manager::dispatcher
