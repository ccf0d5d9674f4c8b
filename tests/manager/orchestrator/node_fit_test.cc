#include "manager/orchestrator/node_fit.h"

#include "tests/manager/orchestrator/fixture.h"

namespace muster::manager::orchestrator {
namespace {

constexpr int64_t kMiB = 1 << 20;

TEST(CrowdedOut, IsDecidedTaskByTaskFromTheOldest) {
  struct Case {
    const char* name;
    std::vector<int64_t> reserved;  // MiB, oldest first
    int64_t offered;
    std::set<std::string> leave;
  };
  const Case cases[] = {
      {"all fit", {100, 100}, 200, {}},
      {"the newest leaves", {100, 100, 100}, 250, {"t2"}},
      {"a small one stays where a big one does not", {600, 600, 200}, 1000, {"t1"}},
      {"what reserves nothing is left alone", {600, 0, 600, 0}, 1000, {"t2"}},
      {"nothing is left", {100, 100}, 50, {"t0", "t1"}},
      {"a node that does not say", {100, 100}, 0, {}},
  };
  for (const Case& c : cases) {
    SimWorld world;
    SimExecutor strand(world);
    store::InstantProposer proposer(strand);
    store::Store store(strand, &proposer, null_log());
    store.lead(1);
    v1::Node node;
    node.set_id("n");
    node.mutable_description()->mutable_resources()->set_memory_bytes(c.offered * kMiB);
    for (size_t i = 0; i < c.reserved.size(); ++i) {
      v1::Revision revision;
      revision.set_id(store::revision_id("s", i + 1));
      revision.set_service_id("s");
      revision.set_number(i + 1);
      revision.mutable_spec()->mutable_resources()->mutable_reservations()->set_memory_bytes(
          c.reserved[i] * kMiB);
      v1::Task task;
      task.set_id(fmt::format("t{}", i));
      task.set_service_id("s");
      task.set_revision(i + 1);
      task.set_node_id("n");
      task.set_desired_state(v1::TASK_RUNNING);
      task.mutable_status()->set_state(v1::TASK_RUNNING);
      world.advance(1s);
      store.update(
          [&](store::Transaction& tx) -> Status {
            MUSTER_TRY(tx.create(revision));
            return tx.create(task);
          },
          [](const store::Commit&) {});
      world.settle();
    }
    std::set<std::string> leave;
    for (const auto& [id, reason] : crowded_out(store.snapshot(), node)) leave.insert(id);
    EXPECT_EQ(leave, c.leave) << c.name;
  }
}

TEST(CrowdedOut, NamesThatAreNotOfferedAnyMoreAreGone) {
  SimWorld world;
  SimExecutor strand(world);
  store::InstantProposer proposer(strand);
  store::Store store(strand, &proposer, null_log());
  store.lead(1);
  v1::Node node;
  node.set_id("n");
  auto& gpus = *node.mutable_description()->mutable_resources()->add_generic();
  gpus.set_kind("gpu");
  gpus.add_names("b");
  auto& disks = *node.mutable_description()->mutable_resources()->add_generic();
  disks.set_kind("ssd");
  disks.set_count(1);
  store.update(
      [&](store::Transaction& tx) -> Status {
        v1::Revision revision;
        revision.set_id(store::revision_id("s", 1));
        revision.set_service_id("s");
        revision.set_number(1);
        revision.mutable_spec()->mutable_resources()->mutable_reservations()->add_generic();
        MUSTER_TRY(tx.create(revision));
        for (const char* id : {"t0", "t1", "t2", "t3"}) {
          v1::Task task;
          task.set_id(id);
          task.set_service_id("s");
          task.set_revision(1);
          task.set_node_id("n");
          task.mutable_status()->set_state(v1::TASK_RUNNING);
          auto& given = *task.add_assigned_generic();
          if (task.id() < "t2") {
            given.set_kind("gpu");
            given.add_names(task.id() == "t0" ? "a" : "b");
          } else {
            given.set_kind("ssd");
            given.set_count(1);
          }
          MUSTER_TRY(tx.create(task));
        }
        return ok_status();
      },
      [](const store::Commit&) {});
  world.settle();
  EXPECT_EQ(crowded_out(store.snapshot(), node),
            (Crowded{{"t0", "node no longer offers gpu a"},
                     {"t3", "node no longer has enough of ssd: 1 reserved, 0 left"}}));
}

TEST(NodeFit, PlatformsOfAnImage) {
  v1::Node node;
  v1::Placement placement;
  EXPECT_EQ(wrong_platform(placement, node), "");
  auto& wanted = *placement.add_platforms();
  wanted.set_os("linux");
  wanted.set_architecture("arm64");
  EXPECT_EQ(wrong_platform(placement, node), "") << "the node has not said what it is";
  node.mutable_description()->mutable_platform()->set_os("linux");
  node.mutable_description()->mutable_platform()->set_architecture("x86_64");
  EXPECT_EQ(wrong_platform(placement, node), "the image is not built for linux/x86_64");
  placement.add_platforms()->set_architecture("amd64");
  EXPECT_EQ(wrong_platform(placement, node), "");
}

}  // namespace
}  // namespace muster::manager::orchestrator
