#include "scheduler/explain.h"

#include <gtest/gtest.h>

#include "scheduler/words.h"
#include "tests/scheduler/fixture.h"

namespace muster::scheduler::testing {
namespace {

constexpr int64_t kMiB = 1 << 20;

std::map<std::string, std::string> explain(Cluster& cluster, const std::string& service,
                                           uint64_t revision = 1) {
  std::map<std::string, std::string> out;
  for (const NodeVerdict& v : explain_nodes(cluster.state, service, revision)) {
    const std::string& id = cluster.state.nodes()[v.node].facts.id;
    EXPECT_EQ(v.fits, v.filter.empty()) << id;
    out[id] = v.fits ? fmt::format("fits, {}", v.tasks)
                     : fmt::format("{}, {}: {}", v.filter, v.tasks, v.why);
  }
  return out;
}

using Said = std::map<std::string, std::string>;

TEST(Explain, TheFirstFilterThatTurnsANodeAwayWithTheFigures) {
  Cluster cluster;
  v1::Node small = ready_node("small", 4'000'000'000, 100 * kMiB);
  v1::Node slow = ready_node("slow", 500'000'000, 1024 * kMiB);
  v1::Node drained = ready_node("drained");
  drained.mutable_spec()->set_availability(v1::NodeSpec::DRAIN);
  v1::Node hdd = ready_node("hdd", 4'000'000'000, 1024 * kMiB);
  set_label(*hdd.mutable_spec()->mutable_annotations()->mutable_labels(), "disk", "hdd");
  v1::Node plain = ready_node("plain", 4'000'000'000, 1024 * kMiB);
  v1::Node arm = ready_node("arm", 4'000'000'000, 1024 * kMiB);
  arm.mutable_description()->mutable_platform()->set_architecture("aarch64");
  v1::Node good = ready_node("good", 4'000'000'000, 1024 * kMiB);
  v1::Node full = ready_node("full", 4'000'000'000, 1024 * kMiB);
  for (v1::Node* node : {&arm, &good, &full}) {
    set_label(*node->mutable_spec()->mutable_annotations()->mutable_labels(), "disk", "ssd");
  }
  for (v1::Node* node : {&small, &slow, &drained, &hdd, &plain, &arm, &good, &full}) {
    cluster.state.put_node(*node);
  }
  v1::Revision revision = revision_of("web");
  auto& reserved = *revision.mutable_spec()->mutable_resources()->mutable_reservations();
  reserved.set_memory_bytes(300 * kMiB);
  reserved.set_nano_cpus(1'000'000'000);
  auto& placement = *revision.mutable_spec()->mutable_placement();
  placement.add_constraints("node.labels.disk == ssd");
  placement.set_max_replicas(1);
  placement.add_platforms()->set_architecture("amd64");
  cluster.state.put_revision(revision);
  cluster.running(task_of("web", 1), "full");
  EXPECT_EQ(
      explain(cluster, "web"),
      (Said{{"arm", "platform, 0: image not built for linux/arm64"},
            {"drained", "ready, 0: availability drain"},
            {"full", "max-replicas, 1: 1 task of the service on it, 1 at most"},
            {"good", "fits, 0"},
            {"hdd", "constraint, 0: constraint node.labels.disk == ssd: the label is hdd"},
            {"plain", "constraint, 0: constraint node.labels.disk == ssd: the label is absent"},
            {"slow", "resource, 0: CPUs: 1 asked, 0.5 free of 0.5"},
            {"small", "resource, 0: memory: 300MiB asked, 100MiB free of 100MiB"}}));
  EXPECT_TRUE(explain(cluster, "web", 2).empty()) << "a revision nobody knows";
}

TEST(Explain, PortsAndGenericResources) {
  Cluster cluster;
  cluster.state.put_node(ready_node("a"));
  v1::Node gpu = ready_node("b");
  auto& offered = *gpu.mutable_description()->mutable_resources()->add_generic();
  offered.set_kind("gpu");
  offered.add_names("u1");
  cluster.state.put_node(gpu);
  v1::Revision ports = revision_of("ports");
  auto& port = *ports.add_ports();
  port.set_mode(v1::PortConfig::HOST);
  port.set_published_port(80);
  cluster.state.put_revision(ports);
  cluster.running(task_of("ports", 1), "a");
  EXPECT_EQ(explain(cluster, "ports"),
            (Said{{"a", "host-port, 1: port 80/tcp in use"}, {"b", "fits, 0"}}));
  v1::Revision wants = revision_of("wants");
  auto& generic = *wants.mutable_spec()->mutable_resources()->mutable_reservations()->add_generic();
  generic.set_kind("gpu");
  generic.set_count(2);
  cluster.state.put_revision(wants);
  EXPECT_EQ(explain(cluster, "wants"), (Said{{"a", "resource, 0: gpu: 2 asked, 0 free"},
                                             {"b", "resource, 0: gpu: 2 asked, 1 free"}}));
}

TEST(Words, AmountsAreShort) {
  EXPECT_EQ(bytes_text(0), "0B");
  EXPECT_EQ(bytes_text(512 * kMiB), "512MiB");
  EXPECT_EQ(bytes_text(1536 * kMiB), "1.5GiB");
  EXPECT_EQ(cpus_text(1'500'000'000), "1.5");
  EXPECT_EQ(cpus_text(2'000'000'000), "2");
}

TEST(Words, WhatAConstraintFinds) {
  v1::Node node = ready_node("a");
  const struct {
    const char* constraint;
    const char* words;
    const char* finding;
  } cases[] = {
      {"node.labels.disk==ssd", "node.labels.disk == ssd", "the label is absent"},
      {"node.role!=worker", "node.role != worker", "it is worker"},
      {"node.hostname == x", "node.hostname == x", "it is host-a"},
      {"node.ip == 10.0.0.1/99", "node.ip == 10.0.0.1/99", "no address or network"},
      {"node.ip == 10.0.0.1", "node.ip == 10.0.0.1", "the node has not said what it is"},
      {"node.color == red", "node.color == red", "no node has such a property"},
  };
  for (const auto& c : cases) {
    const auto constraint = Constraint::parse(c.constraint);
    ASSERT_TRUE(constraint) << c.constraint;
    EXPECT_EQ(constraint->words(), c.words);
    EXPECT_EQ(constraint->finding(facts_of(node)), c.finding) << c.constraint;
  }
}

}  // namespace
}  // namespace muster::scheduler::testing
