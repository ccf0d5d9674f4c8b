#include "manager/drainer/drainer.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "base/sim_executor.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::drainer {
namespace {

class FakeRoutes final : public dispatcher::Routes {
 public:
  void listen(dispatcher::RouteEvents e) override { events = std::move(e); }
  dispatcher::Routers routers(const std::string& network_id) const override {
    const auto known = by_network.find(network_id);
    return known == by_network.end() ? dispatcher::Routers() : known->second;
  }
  void acknowledge(const std::string& node, uint64_t version, const std::string& net = "net") {
    by_network[net][node] = version;
    if (events.routes) events.routes(node, net, version);
  }

  dispatcher::RouteEvents events;
  std::map<std::string, dispatcher::Routers> by_network;
};

class DrainerTest : public ::testing::Test {
 protected:
  DrainerTest() {
    store_.lead(1);
    write([](store::Transaction& tx) -> Status {
      v1::Cluster cluster;
      cluster.set_id("c1");
      cluster.mutable_spec()->mutable_annotations()->set_name("default");
      MUSTER_TRY(tx.create(cluster));
      for (const char* id : {"n1", "n2", "n3"}) {
        v1::Node node;
        node.set_id(id);
        node.mutable_description()->set_hostname(std::string("host-") + id);
        MUSTER_TRY(tx.create(node));
      }
      for (const char* id : {"net", "local"}) {
        v1::Network network;
        network.set_id(id);
        network.mutable_spec()->mutable_annotations()->set_name(id);
        network.mutable_spec()->set_driver(network.id() == "net" ? "overlay" : "bridge");
        MUSTER_TRY(tx.create(network));
      }
      return ok_status();
    });
    routes_.by_network["net"] = {{"n1", 0}, {"n2", 0}};
    routes_.by_network["local"] = {{"n3", 0}};
    drainer_.start();
    world_.settle();
  }

  void write(store::Store::Body body) {
    Status outcome(StatusCode::kUnknown, "never committed");
    store_.update(std::move(body), [&](const store::Commit& commit) { outcome = commit.status; });
    world_.settle();
    ASSERT_TRUE(outcome.ok()) << outcome.to_string();
  }
  void change(const std::string& id, const std::function<void(v1::Task&)>& edit) {
    write([&](store::Transaction& tx) {
      v1::Task task = *tx.view().get<v1::Task>(id);
      edit(task);
      return tx.update(std::move(task));
    });
  }
  static v1::Task ready(const std::string& id) {
    v1::Task task;
    task.set_id(id);
    task.set_node_id("n1");
    task.mutable_status()->set_state(v1::TASK_RUNNING);
    task.set_endpoint_state(v1::ENDPOINT_READY);
    task.add_networks()->set_network_id("net");
    task.add_networks()->set_network_id("local");
    return task;
  }
  // Returns the version of the commit.
  uint64_t leave(const std::vector<std::string>& ids) {
    write([&](store::Transaction& tx) -> Status {
      for (const std::string& id : ids) {
        v1::Task task = *tx.view().get<v1::Task>(id);
        task.set_desired_state(v1::TASK_SHUTDOWN);
        task.set_endpoint_state(v1::ENDPOINT_DRAINING);
        task.mutable_drain()->set_timeout_ns(1);
        MUSTER_TRY(tx.update(std::move(task)));
      }
      return ok_status();
    });
    return store_.snapshot().version();
  }
  void create(const std::string& id) {
    write([&](store::Transaction& tx) { return tx.create(ready(id)); });
  }
  v1::EndpointState endpoint(const std::string& id) {
    return store_.snapshot().get<v1::Task>(id)->endpoint_state();
  }
  std::vector<std::string> missing_of(const std::string& id) {
    const auto task = store_.snapshot().get<v1::Task>(id);
    const auto& named = task->drain().missing_nodes();
    return {named.begin(), named.end()};
  }
  std::string error(const std::string& id) {
    return store_.snapshot().get<v1::Task>(id)->status().error();
  }

  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer log_{strand_};
  store::Store store_{strand_, &log_, null_log()};
  FakeRoutes routes_;
  Drainer drainer_{strand_, store_, routes_, null_log()};
};

TEST_F(DrainerTest, ReleasedWhenEveryNodeLeadsElsewhere) {
  create("t1");
  EXPECT_EQ(endpoint("t1"), v1::ENDPOINT_READY);
  const uint64_t version = leave({"t1"});
  routes_.acknowledge("n1", version);
  world_.settle();
  EXPECT_EQ(endpoint("t1"), v1::ENDPOINT_DRAINING);
  routes_.acknowledge("n2", version);
  world_.settle();
  EXPECT_EQ(endpoint("t1"), v1::ENDPOINT_RELEASED) << "nobody else has it in a network of a node";
  EXPECT_EQ(error("t1"), "");
  world_.advance(10s);
  EXPECT_TRUE(world_.idle());
}

TEST_F(DrainerTest, TheTaskSaysWhoDidNotAnswer) {
  create("t1");
  create("t2");
  change("t2", [](v1::Task& task) { task.mutable_status()->set_error("node was drained"); });
  leave({"t1", "t2"});
  world_.advance(1999ms);
  EXPECT_EQ(endpoint("t1"), v1::ENDPOINT_DRAINING);
  world_.advance(2ms);
  EXPECT_EQ(endpoint("t1"), v1::ENDPOINT_RELEASED);
  const std::string missing =
      "did not learn within 2s from nodes host-n1, host-n2 that new connections go elsewhere";
  EXPECT_EQ(error("t1"), missing);
  EXPECT_EQ(error("t2"), "node was drained; " + missing);
  EXPECT_EQ(missing_of("t1"), (std::vector<std::string>{"host-n1", "host-n2"}));
}

TEST_F(DrainerTest, ATaskKeepsTheNamesOfManyNodesButNotOfAll) {
  routes_.by_network["net"].clear();
  write([this](store::Transaction& tx) -> Status {
    for (int i = 100; i < 200; ++i) {
      v1::Node node;
      node.set_id(fmt::format("m{}", i));
      node.mutable_description()->set_hostname(fmt::format("host-m{}", i));
      routes_.by_network["net"][node.id()] = 0;
      MUSTER_TRY(tx.create(node));
    }
    return ok_status();
  });
  create("t1");
  leave({"t1"});
  world_.advance(2001ms);
  const std::vector<std::string> named = missing_of("t1");
  ASSERT_EQ(named.size(), 64u);
  EXPECT_EQ(named.back(), "host-m163");
  EXPECT_EQ(store_.snapshot().get<v1::Task>("t1")->drain().missing_more(), 36u);
}

TEST_F(DrainerTest, WhoAnsweredIsNotNamed) {
  create("t1");
  const uint64_t version = leave({"t1"});
  routes_.acknowledge("n1", version);
  world_.advance(2001ms);
  EXPECT_EQ(missing_of("t1"), std::vector<std::string>{"host-n2"});
}

TEST_F(DrainerTest, TheClusterSaysHowLongNodesAreWaitedFor) {
  write([](store::Transaction& tx) {
    v1::Cluster cluster = *tx.view().cluster();
    cluster.mutable_spec()->set_drain_ack_timeout_ns(Duration(500ms).count());
    return tx.update(std::move(cluster));
  });
  create("t1");
  routes_.acknowledge("n1", leave({"t1"}));
  world_.advance(501ms);
  EXPECT_EQ(error("t1"),
            "did not learn within 500ms from node host-n2 that new connections go elsewhere");
}

TEST_F(DrainerTest, ANewLeaderGoesOn) {
  create("t1");
  const uint64_t version = leave({"t1"});
  drainer_.stop();
  routes_.by_network["net"] = {{"n1", version}, {"n2", 0}};
  world_.advance(10s);
  EXPECT_EQ(endpoint("t1"), v1::ENDPOINT_DRAINING) << "who does not lead writes nothing";
  drainer_.start();
  world_.settle();
  EXPECT_EQ(endpoint("t1"), v1::ENDPOINT_DRAINING) << "n2 is on its way";
  // Its session begins: what was awaited of it is said anew, in one go.
  routes_.events.gone("n2");
  routes_.acknowledge("n2", version - 1);
  world_.settle();
  EXPECT_EQ(endpoint("t1"), v1::ENDPOINT_DRAINING);
  routes_.acknowledge("n2", version);
  world_.settle();
  EXPECT_EQ(endpoint("t1"), v1::ENDPOINT_RELEASED);
}

TEST_F(DrainerTest, WhatHappensToATaskMeanwhileDoesNotMakeItWaitAnew) {
  create("t1");
  const uint64_t version = leave({"t1"});
  change("t1", [](v1::Task& task) { task.mutable_status()->set_message("draining"); });
  routes_.acknowledge("n1", version);
  routes_.acknowledge("n2", version);
  world_.settle();
  EXPECT_EQ(endpoint("t1"), v1::ENDPOINT_RELEASED);
}

TEST_F(DrainerTest, OneThatEndsIsNotWaitedForAndNotTouched) {
  create("t1");
  leave({"t1"});
  change("t1", [](v1::Task& task) {
    task.mutable_status()->set_state(v1::TASK_SHUTDOWN);
    task.set_endpoint_state(v1::ENDPOINT_ABSENT);
  });
  const uint64_t version = store_.snapshot().version();
  world_.advance(10s);
  EXPECT_EQ(store_.snapshot().version(), version);
}

TEST_F(DrainerTest, ManyAreReleasedInFewWrites) {
  std::vector<std::string> ids;
  for (size_t i = 0; i < Drainer::kTasksMax + 10; ++i) {
    ids.push_back(fmt::format("t{}", i));
    create(ids.back());
  }
  const uint64_t version = leave(ids);
  const uint64_t before = log_.entries();
  routes_.acknowledge("n1", version);
  routes_.acknowledge("n2", version);
  world_.settle();
  EXPECT_EQ(log_.entries(), before + 2);
  for (const std::string& id : ids) EXPECT_EQ(endpoint(id), v1::ENDPOINT_RELEASED);
}

TEST_F(DrainerTest, LargeTasksFitToo) {
  std::vector<std::string> ids;
  for (int i = 0; i < 100; ++i) {
    v1::Task task = ready(fmt::format("t{}", i));
    task.mutable_status()->mutable_health()->add_probes()->set_output(std::string(20'000, 'x'));
    ids.push_back(task.id());
    write([&](store::Transaction& tx) { return tx.create(task); });
  }
  uint64_t version = 0;
  for (const std::string& id : ids) version = leave({id});
  routes_.acknowledge("n1", version);
  routes_.acknowledge("n2", version);
  world_.settle();
  for (const std::string& id : ids) EXPECT_EQ(endpoint(id), v1::ENDPOINT_RELEASED) << id;
}

TEST(MissingNodes, AreNamedUpToAPoint) {
  std::vector<std::string> nodes;
  for (int i = 1; i <= 7; ++i) nodes.push_back(fmt::format("w{}", i));
  EXPECT_EQ(missing_nodes_message(nodes, 2s),
            "did not learn within 2s from nodes w1, w2, w3, w4, w5 and 2 more that new connections "
            "go elsewhere");
}

}  // namespace
}  // namespace muster::manager::drainer
