#include "scheduler/placement.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/rng.h"
#include "tests/scheduler/fixture.h"

namespace muster::scheduler::testing {
namespace {

using Spread = std::map<std::string, int>;

TEST(Placement, EvensOutServiceThenTotalThenId) {
  Cluster c;
  for (const char* id : {"a", "b", "c"}) c.state.put_node(ready_node(id));
  c.state.put_revision(revision_of("web"));
  c.state.put_revision(revision_of("db"));
  c.running(task_of("web", 1), "a");
  c.running(task_of("db", 1), "b");
  c.pending("web", 2, 2);
  EXPECT_EQ(c.spread(c.round()), (Spread{{"c", 1}}));  // a has a web, b has a db
  c.pending("web", 3, 3);
  EXPECT_EQ(c.spread(c.round()), (Spread{{"b", 1}}));  // the only one without a web
  c.pending("web", 4, 4);
  EXPECT_EQ(c.spread(c.round()), (Spread{{"a", 1}}));  // equal with c: the smaller id
}

TEST(Placement, PrefersHeadroomAmongEquals) {
  Cluster c;
  for (const char* id : {"a", "b"}) c.state.put_node(ready_node(id, 10, 100));
  auto heavy = revision_of("heavy");
  heavy.mutable_spec()->mutable_resources()->mutable_reservations()->set_memory_bytes(50);
  c.state.put_revision(heavy);
  c.state.put_revision(revision_of("light"));
  c.state.put_revision(revision_of("web"));
  c.running(task_of("heavy", 1), "a");
  c.running(task_of("light", 1), "b");
  c.pending("web", 1, 1);
  EXPECT_EQ(c.spread(c.round()), (Spread{{"b", 1}}));
}

TEST(Placement, AvoidsNodesWithFiveRecentFailures) {
  for (int failures : {4, 5}) {
    Cluster c;
    for (const char* id : {"a", "b"}) c.state.put_node(ready_node(id));
    c.state.put_revision(revision_of("web"));
    for (int i = 1; i <= failures; ++i) {
      v1::Task t = task_of("web", 100 + static_cast<uint64_t>(i));
      c.running(t, "a");
      t.set_node_id("a");
      t.mutable_status()->set_state(v1::TASK_FAILED);
      t.mutable_status()->set_applied_at_ns(c.now.unix_ns);
      c.put(t);
      c.put(t);  // told twice, counted once
    }
    c.pending("web", 1, 4);
    const Spread expected = failures < 5 ? Spread{{"a", 2}, {"b", 2}} : Spread{{"b", 4}};
    EXPECT_EQ(c.spread(c.round()), expected) << failures;
    c.now = c.now + 5min + 1s;
    c.pending("web", 5, 8);
    const Spread later = failures < 5 ? Spread{{"a", 2}, {"b", 2}} : Spread{{"a", 4}};
    EXPECT_EQ(c.spread(c.round()), later) << failures;
  }
}

TEST(Placement, FailuresBelongToOneRevision) {
  Cluster c;
  for (const char* id : {"a", "b"}) c.state.put_node(ready_node(id));
  c.state.put_revision(revision_of("web", 1));
  c.state.put_revision(revision_of("web", 2));
  for (uint64_t i = 1; i <= 5; ++i) {
    v1::Task t = task_of("web", i);
    t.set_node_id("a");
    t.mutable_status()->set_state(v1::TASK_REJECTED);
    t.mutable_status()->set_timestamp_ns(c.now.unix_ns);
    c.state.note_failure(t);
  }
  c.put(task_of("web", 1, 2));
  EXPECT_EQ(c.spread(c.round()), (Spread{{"a", 1}}));
  c.put(task_of("web", 2, 1));
  c.put(task_of("web", 3, 1));
  EXPECT_EQ(c.spread(c.round()), (Spread{{"b", 2}}));
}

TEST(Placement, PreassignedTasksAreCheckedOnTheirNodeOnly) {
  Cluster c;
  c.state.put_node(ready_node("a", 10, 100));
  c.state.put_node(ready_node("b", 10, 10));
  auto revision = revision_of("agent");
  revision.mutable_spec()->mutable_resources()->mutable_reservations()->set_memory_bytes(50);
  c.state.put_revision(revision);
  uint64_t slot = 0;
  for (const char* node : {"a", "b", "gone"}) {
    v1::Task t = task_of("agent", ++slot);
    t.set_node_id(node);
    c.put(t);
  }
  const Plan plan = c.round();
  ASSERT_EQ(plan.decisions.size(), 1u);
  EXPECT_TRUE(plan.decisions[0].preassigned);
  EXPECT_EQ(c.spread(plan), (Spread{{"a", 1}}));
  EXPECT_EQ(
      plan.reasons,
      (std::vector<std::string>{
          "no suitable node (insufficient resources on 1 node): insufficient memory on 1 node",
          "no suitable node (1 node not available for new tasks): "
          "node gone is not in the swarm"}));
}

TEST(Placement, StuckGroupsWakeOnlyWhenItMayHelp) {
  Cluster c;
  c.state.put_node(ready_node("a", 10, 100));
  c.state.put_node(ready_node("b", 10, 10));
  auto revision = revision_of("web");
  revision.mutable_spec()->mutable_resources()->mutable_reservations()->set_memory_bytes(60);
  c.state.put_revision(revision);
  c.state.put_revision(revision_of("other"));
  c.running(task_of("other", 1), "b");
  c.pending("web", 1, 2);
  EXPECT_EQ(c.round().unplaced.size(), 1u);
  c.state.remove_task(task_of("other", 1).id());  // b has too little memory anyway
  c.placer.wake();
  EXPECT_FALSE(c.queue.any_due());
  c.state.put_node(ready_node("b", 10, 10));  // nothing new
  c.placer.wake();
  EXPECT_FALSE(c.queue.any_due());
  c.state.put_node(ready_node("b", 10, 60));
  EXPECT_EQ(c.spread(c.round()), (Spread{{"b", 1}}));
}

TEST(Placement, WaitsForARevisionThatHasNotArrived) {
  Cluster c;
  c.state.put_node(ready_node("a"));
  c.pending("web", 1, 1);
  EXPECT_EQ(c.reason(), "no suitable node: revision 1 of service web is missing");
  c.state.put_revision(revision_of("web"));
  EXPECT_EQ(c.reason(), "placed");
}

TEST(Placement, RoundIsBoundedAndGoesOn) {
  Cluster c;
  for (const char* id : {"a", "b", "c"}) c.state.put_node(ready_node(id));
  c.state.put_revision(revision_of("web"));
  c.pending("web", 1, 10);
  Spread all;
  for (size_t expected : {4, 4, 2, 0}) {
    const Plan plan = c.round(4);
    EXPECT_EQ(plan.decisions.size(), expected);
    for (auto [node, count] : c.spread(plan)) all[node] += count;
  }
  EXPECT_EQ(all, (Spread{{"a", 4}, {"b", 3}, {"c", 3}}));
}

v1::Node labelled(const std::string& id, const std::string& zone, const std::string& rack = {}) {
  v1::Node node = ready_node(id, 1000, 1000);
  auto& labels = *node.mutable_spec()->mutable_annotations()->mutable_labels();
  if (!rack.empty()) set_label(labels, "rack", rack);
  if (!zone.empty()) set_label(labels, "zone", zone);
  return node;
}

v1::Revision spread_by(const std::string& service, std::vector<std::string> labels) {
  v1::Revision revision = revision_of(service);
  for (const auto& label : labels) {
    revision.mutable_spec()->mutable_placement()->add_preferences()->set_spread_descriptor(
        "node.labels." + label);
  }
  return revision;
}

TEST(Spreading, BranchesAreEvenWhateverTheirNumberOfNodes) {
  Cluster c;
  c.state.put_node(labelled("a1", "a"));
  for (const char* id : {"b1", "b2", "b3"}) c.state.put_node(labelled(id, "b"));
  c.state.put_node(labelled("n1", ""));  // no label: a branch of its own
  c.state.put_revision(spread_by("web", {"zone"}));
  c.pending("web", 1, 9);
  EXPECT_EQ(c.spread(c.round()), (Spread{{"a1", 3}, {"b1", 1}, {"b2", 1}, {"b3", 1}, {"n1", 3}}));
}

TEST(Spreading, FullBranchGivesWay) {
  Cluster c;
  c.state.put_node(labelled("a1", "a"));
  c.state.put_node(labelled("b1", "b"));
  auto revision = spread_by("web", {"zone"});
  revision.mutable_spec()->mutable_resources()->mutable_reservations()->set_memory_bytes(500);
  c.state.put_revision(revision);
  v1::Node small = labelled("a1", "a");
  small.mutable_description()->mutable_resources()->set_memory_bytes(500);
  c.state.put_node(small);
  c.pending("web", 1, 4);
  const Plan plan = c.round();
  EXPECT_EQ(c.spread(plan), (Spread{{"a1", 1}, {"b1", 2}}));
  EXPECT_EQ(plan.unplaced.size(), 1u);
}

TEST(Spreading, TasksOnUnusableNodesCount) {
  Cluster c;
  c.state.put_node(labelled("a1", "a"));
  auto drained = labelled("a2", "a");
  drained.mutable_spec()->set_availability(v1::NodeSpec::PAUSE);
  c.state.put_node(drained);
  c.state.put_node(labelled("b1", "b"));
  c.state.put_revision(spread_by("web", {"zone"}));
  c.running(task_of("web", 1), "a2");
  c.running(task_of("web", 2), "a2");
  c.pending("web", 3, 4);
  EXPECT_EQ(c.spread(c.round()), (Spread{{"b1", 2}}));
}

// ---------------------------------------------------------------- properties

struct Random {
  std::vector<v1::Node> nodes;
  std::vector<v1::Revision> revisions;
  std::vector<v1::Task> tasks;
};

Random random_cluster(uint64_t seed) {
  SeededRng rng(seed);
  Random r;
  const uint64_t nodes = 1 + rng.below(30);
  for (uint64_t i = 0; i < nodes; ++i) {
    v1::Node node = labelled(fmt::format("n{:02}", i), std::string(1, char('a' + rng.below(3))),
                             std::string(1, char('p' + rng.below(3))));
    node.mutable_description()->mutable_resources()->set_memory_bytes(
        static_cast<int64_t>(rng.below(1000)));
    if (rng.below(10) == 0) node.mutable_status()->set_state(v1::NodeStatus::DOWN);
    r.nodes.push_back(std::move(node));
  }
  const uint64_t services = 1 + rng.below(6);
  for (uint64_t s = 0; s < services; ++s) {
    const std::string id = fmt::format("s{}", s);
    v1::Revision revision = rng.below(2) ? spread_by(id, {"zone", "rack"}) : revision_of(id);
    auto& spec = *revision.mutable_spec();
    spec.mutable_resources()->mutable_reservations()->set_memory_bytes(
        static_cast<int64_t>(rng.below(3) * 40));
    if (rng.below(3) == 0) spec.mutable_placement()->add_constraints("node.labels.zone != a");
    if (rng.below(3) == 0) spec.mutable_placement()->set_max_replicas(1 + rng.below(3));
    if (rng.below(4) == 0) {
      auto& port = *revision.add_ports();
      port.set_mode(v1::PortConfig::HOST);
      port.set_published_port(8080);
    }
    r.revisions.push_back(std::move(revision));
    const uint64_t tasks = 1 + rng.below(40);
    for (uint64_t t = 1; t <= tasks; ++t) r.tasks.push_back(task_of(id, t));
  }
  return r;
}

std::vector<std::pair<std::string, std::string>> place(const Random& r, Rng* shuffle) {
  Cluster c;
  auto nodes = r.nodes;
  auto revisions = r.revisions;
  auto tasks = r.tasks;
  if (shuffle != nullptr) {
    shuffle->shuffle(std::span(nodes));
    shuffle->shuffle(std::span(revisions));
    shuffle->shuffle(std::span(tasks));
  }
  for (const auto& node : nodes) c.state.put_node(node);
  for (const auto& task : tasks) c.put(task);
  for (const auto& revision : revisions) c.state.put_revision(revision);
  const Plan plan = c.round();
  std::vector<std::pair<std::string, std::string>> outcome;
  for (const auto& d : plan.decisions) {
    outcome.emplace_back(d.task->id(), c.state.nodes()[d.node].facts.id);
  }
  for (const auto& u : plan.unplaced) outcome.emplace_back(u.task->id(), plan.reasons[u.reason]);
  return outcome;
}

TEST(Properties, OrderOfArrivalDoesNotMatter) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    const Random r = random_cluster(seed);
    SeededRng rng(seed + 1'000'000);
    EXPECT_TRUE(place(r, nullptr) == place(r, &rng)) << "seed " << seed;
  }
}

TEST(Properties, EveryTaskHasAnOutcomeAndNothingIsOvercommitted) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    const Random r = random_cluster(seed);
    const auto outcome = place(r, nullptr);
    EXPECT_EQ(outcome.size(), r.tasks.size());
    std::map<std::string, int64_t> memory;
    std::map<std::string, int> ports;
    std::map<std::pair<std::string, std::string>, uint64_t> replicas;
    for (const auto& [task, node] : outcome) {
      if (node.rfind("no suitable node", 0) == 0) continue;
      const auto& revision =
          *std::find_if(r.revisions.begin(), r.revisions.end(), [&, t = &task](const auto& rev) {
            return rev.service_id() == t->substr(0, t->find('.'));
          });
      memory[node] += revision.spec().resources().reservations().memory_bytes();
      ports[node] += revision.ports_size();
      const uint64_t max = revision.spec().placement().max_replicas();
      const uint64_t count = ++replicas[{revision.service_id(), node}];
      EXPECT_TRUE(max == 0 || count <= max) << "seed " << seed;
    }
    for (const auto& node : r.nodes) {
      EXPECT_LE(memory[node.id()],
                std::max<int64_t>(0, node.description().resources().memory_bytes()))
          << "seed " << seed;
      EXPECT_LE(ports[node.id()], 1) << "seed " << seed;
      if (node.status().state() == v1::NodeStatus::DOWN) {
        for (const auto& [key, count] : replicas) EXPECT_NE(key.second, node.id());
      }
    }
  }
}

TEST(Properties, UnboundedNodesAreEvenWithinOne) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    SeededRng rng(seed);
    Cluster c;
    const uint64_t nodes = 2 + rng.below(20);
    std::map<std::string, int> zones;
    std::map<std::string, std::string> zone_of;
    for (uint64_t i = 0; i < nodes; ++i) {
      const std::string zone(1, char('a' + rng.below(4)));
      const std::string id = fmt::format("n{:02}", i);
      c.state.put_node(labelled(id, zone));
      zone_of[id] = zone;
      zones[zone] = 0;
    }
    c.state.put_revision(spread_by("web", {"zone"}));
    c.state.put_revision(revision_of("flat"));
    c.pending("web", 1, 1 + rng.below(100));
    c.pending("flat", 1, 1 + rng.below(100));
    std::map<std::string, int> flat;
    for (auto& [id, zone] : zone_of) flat[id] = 0;
    const Plan plan = c.round();
    for (const auto& d : plan.decisions) {
      const std::string& id = c.state.nodes()[d.node].facts.id;
      if (d.task->service_id() == "web") ++zones[zone_of[id]];
      if (d.task->service_id() == "flat") ++flat[id];
    }
    for (const auto& counts : {zones, flat}) {
      int low = INT32_MAX;
      int high = 0;
      for (const auto& [key, count] : counts) {
        low = std::min(low, count);
        high = std::max(high, count);
      }
      EXPECT_LE(high - low, 1) << "seed " << seed;
    }
  }
}

// The incremental accounts end where a fresh build from the final objects ends.
TEST(Properties, IncrementalStateEqualsFreshState) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    SeededRng rng(seed);
    Random r = random_cluster(seed);
    Cluster lived;
    for (const auto& node : r.nodes) lived.state.put_node(node);
    for (const auto& revision : r.revisions) lived.state.put_revision(revision);
    for (auto& task : r.tasks) {
      const v1::TaskState kStates[] = {v1::TASK_PENDING, v1::TASK_ASSIGNED, v1::TASK_RUNNING,
                                       v1::TASK_FAILED};
      for (uint64_t step = rng.below(4); step-- > 0;) {
        task.set_node_id(r.nodes[rng.below(r.nodes.size())].id());
        task.mutable_status()->set_state(kStates[rng.below(4)]);
        if (rng.below(3) == 0) task.set_desired_state(v1::TASK_SHUTDOWN);
        lived.put(task);
      }
    }
    Cluster fresh;
    for (const auto& task : r.tasks) fresh.put(task);
    for (const auto& revision : r.revisions) fresh.state.put_revision(revision);
    for (const auto& node : r.nodes) fresh.state.put_node(node);
    for (const auto& node : r.nodes) {
      const NodeInfo& a = lived.state.nodes()[lived.state.find_node(node.id())];
      const NodeInfo& b = fresh.state.nodes()[fresh.state.find_node(node.id())];
      EXPECT_EQ(a.available_memory(), b.available_memory()) << "seed " << seed;
      EXPECT_EQ(a.active_tasks, b.active_tasks) << "seed " << seed;
      EXPECT_EQ(a.holding_tasks, b.holding_tasks) << "seed " << seed;
      EXPECT_EQ(a.port_used(host_port(v1::PortConfig::TCP, 8080)),
                b.port_used(host_port(v1::PortConfig::TCP, 8080)));
    }
    // Taking everything out again leaves nothing behind.
    for (const auto& task : r.tasks) {
      lived.queue.remove(task.id());
      lived.state.remove_task(task.id());
    }
    for (const auto& node : r.nodes) {
      const NodeInfo& a = lived.state.nodes()[lived.state.find_node(node.id())];
      EXPECT_EQ(a.holding_tasks + a.active_tasks, 0u);
      EXPECT_EQ(a.available_memory(), node.description().resources().memory_bytes());
    }
  }
}

}  // namespace
}  // namespace muster::scheduler::testing
