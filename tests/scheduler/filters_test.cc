#include <gtest/gtest.h>

#include <functional>

#include "tests/scheduler/fixture.h"

namespace muster::scheduler::testing {
namespace {

constexpr int64_t kGib = 1 << 30;

struct Case {
  const char* name;
  std::function<void(v1::Node&)> node;          // changes node "a"
  std::function<void(v1::Revision&)> revision;  // changes the service's revision
  std::string expected;                         // "placed" or the reason
};

// One node, one task: each filter alone, and the words it uses.
TEST(Filters, OneNode) {
  auto reserve = [](int64_t cpus, int64_t memory) {
    return [=](v1::Revision& r) {
      auto& res = *r.mutable_spec()->mutable_resources()->mutable_reservations();
      res.set_nano_cpus(cpus);
      res.set_memory_bytes(memory);
    };
  };
  auto constraint = [](std::string text) {
    return [=](v1::Revision& r) { r.mutable_spec()->mutable_placement()->add_constraints(text); };
  };
  auto platform = [](std::string os, std::string arch) {
    return [=](v1::Revision& r) {
      auto& p = *r.mutable_spec()->mutable_placement()->add_platforms();
      p.set_os(os);
      p.set_architecture(arch);
    };
  };
  auto log_driver = [](std::string name) {
    return [=](v1::Revision& r) { r.mutable_spec()->mutable_log_driver()->set_name(name); };
  };
  auto plugin = [](std::string type, std::string name) {
    return [=](v1::Node& n) {
      auto& p = *n.mutable_description()->mutable_engine()->add_plugins();
      p.set_type(type);
      p.set_name(name);
    };
  };
  auto volume_driver = [](std::string name) {
    return [=](v1::Revision& r) {
      r.mutable_spec()->mutable_container()->add_mounts()->mutable_volume()->set_driver(name);
    };
  };
  auto generic = [](int64_t count) {
    return [=](v1::Revision& r) {
      auto& g = *r.mutable_spec()->mutable_resources()->mutable_reservations()->add_generic();
      g.set_kind("GPU");
      g.set_count(count);
    };
  };
  auto named_gpus = [](v1::Node& n) {
    auto& g = *n.mutable_description()->mutable_resources()->add_generic();
    g.set_kind("GPU");
    g.add_names("u2");
    g.add_names("u1");
  };
  auto none = [](auto&) {};
  const Case kCases[] = {
      {"nothing asked", none, none, "placed"},
      {"down", [](v1::Node& n) { n.mutable_status()->set_state(v1::NodeStatus::DOWN); }, none,
       "no suitable node (1 node not available for new tasks): status down on 1 node"},
      {"drained", [](v1::Node& n) { n.mutable_spec()->set_availability(v1::NodeSpec::DRAIN); },
       none, "no suitable node (1 node not available for new tasks): availability drain on 1 node"},
      {"paused", [](v1::Node& n) { n.mutable_spec()->set_availability(v1::NodeSpec::PAUSE); }, none,
       "no suitable node (1 node not available for new tasks): availability pause on 1 node"},
      {"fits exactly", none, reserve(4'000'000'000, 8 * kGib), "placed"},
      {"cpu", none, reserve(4'000'000'001, 0),
       "no suitable node (insufficient resources on 1 node): insufficient cpu on 1 node"},
      {"memory", none, reserve(0, 8 * kGib + 1),
       "no suitable node (insufficient resources on 1 node): insufficient memory on 1 node"},
      {"generic absent", none, generic(1),
       "no suitable node (insufficient resources on 1 node): "
       "insufficient generic resource GPU on 1 node"},
      {"generic named enough", named_gpus, generic(2), "placed"},
      {"generic named too few", named_gpus, generic(3),
       "no suitable node (insufficient resources on 1 node): "
       "insufficient generic resource GPU on 1 node"},
      {"log driver, none reported", none, log_driver("journald"), "placed"},
      {"log driver present", plugin("Log", "journald"), log_driver("journald"), "placed"},
      {"log driver none", plugin("Log", "json-file"), log_driver("none"), "placed"},
      {"log driver missing", plugin("Log", "json-file"), log_driver("syslog"),
       "no suitable node (missing plugin on 1 node): missing log driver syslog on 1 node"},
      {"volume driver missing", plugin("Volume", "local"), volume_driver("nfs"),
       "no suitable node (missing plugin on 1 node): missing volume driver nfs on 1 node"},
      {"volume driver local", plugin("Volume", "nfs"), volume_driver("local"), "placed"},
      {"constraint holds", none, constraint("node.hostname == host-a"), "placed"},
      {"constraint fails", none, constraint("node.labels.x == y"),
       "no suitable node (scheduling constraints not satisfied on 1 node): "
       "node.labels.x==y does not hold on 1 node"},
      {"constraint does not parse", none, constraint("node.id"),
       "no suitable node (scheduling constraints not satisfied on 1 node): "
       "constraint expected one operator from ==, != on 1 node"},
      {"platform alias", none, platform("linux", "amd64"), "placed"},
      {"platform any arch", none, platform("linux", ""), "placed"},
      {"platform other", none, platform("linux", "aarch64"),
       "no suitable node (unsupported platform on 1 node): "
       "image not built for linux/amd64 on 1 node"},
      {"cluster volume", none,
       [](v1::Revision& r) {
         r.mutable_spec()->mutable_container()->add_mounts()->set_type(
             static_cast<v1::Mount::Type>(4));
       },
       "no suitable node (cannot fulfill requested CSI volume mounts on 1 node)"},
  };
  for (const Case& c : kCases) {
    Cluster cluster;
    v1::Node node = ready_node("a", 4'000'000'000, 8 * kGib);
    c.node(node);
    cluster.state.put_node(node);
    v1::Revision revision = revision_of("web");
    c.revision(revision);
    cluster.state.put_revision(revision);
    cluster.pending("web", 1, 1);
    EXPECT_EQ(cluster.reason(), c.expected) << c.name;
  }
}

TEST(Filters, TasksOfEncryptedNetworksGoWhereTheyCanBeEncrypted) {
  const std::string refused =
      "no suitable node (encrypted networks not possible on 1 node): cannot encrypt: no ESP on 1 "
      "node";
  struct {
    const char* name;
    bool network, port, encrypted, ingress;
    std::string expected;
  } const kCases[] = {
      {"in it", true, false, true, false, refused},
      {"in another", false, false, true, false, "placed"},
      {"not encrypted", true, false, false, false, "placed"},
      {"published through it", false, true, true, true, refused},
      {"published, but not through it", false, true, true, false, "placed"},
  };
  for (const auto& c : kCases) {
    Cluster cluster;
    cluster.state.set_network("net", {true, c.encrypted, c.ingress});
    v1::Node node = ready_node("a");
    node.mutable_description()->set_no_encryption("no ESP");
    cluster.state.put_node(node);
    v1::Revision revision = revision_of("web");
    revision.mutable_spec()->add_networks()->set_target(c.network ? "net" : "other");
    if (c.port) revision.add_ports()->set_target_port(80);
    cluster.state.put_revision(revision);
    cluster.pending("web", 1, 1);
    EXPECT_EQ(cluster.reason(), c.expected) << c.name;
    if (c.expected == "placed") continue;
    // Once the node can, or the network is gone.
    node.mutable_description()->clear_no_encryption();
    cluster.state.put_node(node);
    EXPECT_EQ(cluster.reason(), "placed") << c.name;
  }
}

TEST(Filters, TasksOfOverlayNetworksGoWhereThereAreAny) {
  const std::string refused =
      "no suitable node (overlay networks not possible on 1 node): no VXLAN on 1 node";
  struct {
    const char* name;
    bool network, port, overlay;
    std::string expected;
  } const kCases[] = {
      {"in it", true, false, true, refused},
      {"in another", false, false, true, "placed"},
      {"in one of this node", true, false, false, "placed"},
      {"published", false, true, false, refused},
  };
  for (const auto& c : kCases) {
    Cluster cluster;
    cluster.state.set_network("net", {c.overlay, false, false});
    v1::Node node = ready_node("a");
    // Sentences are for people.
    node.mutable_description()->add_limitations("something else");
    node.mutable_description()->set_no_overlays("no VXLAN");
    cluster.state.put_node(node);
    v1::Revision revision = revision_of("web");
    revision.mutable_spec()->add_networks()->set_target(c.network ? "net" : "other");
    if (c.port) revision.add_ports()->set_target_port(80);
    cluster.state.put_revision(revision);
    cluster.pending("web", 1, 1);
    EXPECT_EQ(cluster.reason(), c.expected) << c.name;
    if (c.expected == "placed") continue;
    // The other nodes are as good as ever, and so is this one once it can.
    cluster.state.put_node(ready_node("b"));
    EXPECT_EQ(cluster.reason(), "placed") << c.name;
    cluster.state.remove_node("b");
    cluster.pending("web", 2, 2);
    EXPECT_EQ(cluster.reason(), refused) << c.name;
    node.mutable_description()->clear_no_overlays();
    cluster.state.put_node(node);
    EXPECT_FALSE(cluster.state.some_lack_overlays());
    EXPECT_EQ(cluster.reason(), "placed") << c.name;
  }
}

TEST(Filters, NoNodeAtAll) {
  Cluster cluster;
  cluster.state.put_revision(revision_of("web"));
  cluster.pending("web", 1, 1);
  EXPECT_EQ(cluster.reason(), "no suitable node");
}

TEST(Filters, MostNodesFirstThenFilterOrder) {
  Cluster cluster;
  for (const char* id : {"a", "b", "c"}) cluster.state.put_node(ready_node(id, 1, 1));
  auto down = ready_node("d");
  down.mutable_status()->set_state(v1::NodeStatus::DOWN);
  cluster.state.put_node(down);
  auto revision = revision_of("web");
  revision.mutable_spec()->mutable_resources()->mutable_reservations()->set_memory_bytes(kGib);
  cluster.state.put_revision(revision);
  cluster.pending("web", 1, 1);
  EXPECT_EQ(cluster.reason(),
            "no suitable node (insufficient resources on 3 nodes; 1 node not available for new "
            "tasks): insufficient memory on 3 nodes; status down on 1 node");
}

TEST(Filters, HostPortIsHeldUntilTheTaskHasEnded) {
  Cluster cluster;
  cluster.state.put_node(ready_node("a"));
  auto revision = revision_of("web");
  auto& port = *revision.add_ports();
  port.set_mode(v1::PortConfig::HOST);
  port.set_published_port(80);
  cluster.state.put_revision(revision);
  cluster.pending("web", 1, 2);
  const Plan plan = cluster.round();
  ASSERT_EQ(plan.decisions.size(), 1u);
  ASSERT_EQ(plan.reasons.size(), 1u);
  EXPECT_EQ(plan.reasons[0],
            "no suitable node (host-mode port already in use on 1 node): "
            "port 80/tcp in use on 1 node");
  // Told to stop: still holds the port.
  v1::Task first = task_of("web", 1);
  first.set_node_id("a");
  first.mutable_status()->set_state(v1::TASK_RUNNING);
  first.set_desired_state(v1::TASK_SHUTDOWN);
  cluster.put(first);
  EXPECT_EQ(cluster.reason(), "nothing to place");
  first.mutable_status()->set_state(v1::TASK_SHUTDOWN);
  cluster.put(first);
  EXPECT_EQ(cluster.reason(), "placed");
}

TEST(Filters, MaxReplicasCountsActiveTasksOnly) {
  Cluster cluster;
  cluster.state.put_node(ready_node("a"));
  cluster.state.put_node(ready_node("b"));
  auto revision = revision_of("web");
  revision.mutable_spec()->mutable_placement()->set_max_replicas(2);
  cluster.state.put_revision(revision);
  cluster.pending("web", 1, 5);
  const Plan plan = cluster.round();
  EXPECT_EQ(plan.decisions.size(), 4u);
  ASSERT_EQ(plan.unplaced.size(), 1u);
  EXPECT_EQ(plan.reasons[0], "no suitable node (max replicas per node limit exceed)");
  // One that is stopping makes room at once.
  v1::Task first = task_of("web", 1);
  first.set_node_id("a");
  first.mutable_status()->set_state(v1::TASK_RUNNING);
  first.set_desired_state(v1::TASK_SHUTDOWN);
  cluster.put(first);
  EXPECT_EQ(cluster.reason(), "placed");
}

TEST(Filters, GenericNamesAreGivenOnceAndComeBack) {
  Cluster cluster;
  auto node = ready_node("a");
  auto& gpus = *node.mutable_description()->mutable_resources()->add_generic();
  gpus.set_kind("GPU");
  for (const char* name : {"u3", "u1", "u2"}) gpus.add_names(name);
  auto& ssd = *node.mutable_description()->mutable_resources()->add_generic();
  ssd.set_kind("SSD");
  ssd.set_count(5);
  cluster.state.put_node(node);
  auto revision = revision_of("web");
  auto& wanted = *revision.mutable_spec()->mutable_resources()->mutable_reservations();
  for (auto [kind, count] : {std::pair("GPU", 2), std::pair("SSD", 3)}) {
    auto& g = *wanted.add_generic();
    g.set_kind(kind);
    g.set_count(count);
  }
  cluster.state.put_revision(revision);
  cluster.pending("web", 1, 2);
  const Plan plan = cluster.round();
  ASSERT_EQ(plan.decisions.size(), 1u);
  ASSERT_EQ(plan.decisions[0].generics.size(), 2u);
  EXPECT_EQ(plan.decisions[0].generics[0].ShortDebugString(),
            "kind: \"GPU\" names: \"u1\" names: \"u2\"");
  EXPECT_EQ(plan.decisions[0].generics[1].count(), 3);
  EXPECT_EQ(plan.unplaced.size(), 1u);
  EXPECT_TRUE(cluster.state.forget(task_of("web", 1).id()));
  EXPECT_EQ(cluster.reason(), "placed");
}

}  // namespace
}  // namespace muster::scheduler::testing
