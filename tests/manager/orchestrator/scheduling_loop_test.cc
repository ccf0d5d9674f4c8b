#include "manager/orchestrator/scheduling_loop.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>

#include "base/sim_executor.h"
#include "manager/store/store.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::orchestrator {
namespace {

class SchedulingLoopTest : public ::testing::Test {
 protected:
  SchedulingLoopTest() { store_.lead(1); }

  void update(std::function<Status(store::Transaction&)> body) {
    store_.update([body](store::Transaction& tx) { return body(tx); },
                  [](const store::Commit& commit) {
                    EXPECT_TRUE(commit.status.ok()) << commit.status.message();
                  });
  }
  template <class T>
  void create(T object) {
    update([object](store::Transaction& tx) { return tx.create(object); });
  }
  template <class T>
  void change(const std::string& id, std::function<void(T&)> edit) {
    update([=](store::Transaction& tx) {
      T object = *tx.view().get<T>(id);
      edit(object);
      return tx.update(std::move(object));
    });
  }
  template <class T>
  void remove(const std::string& id) {
    update([id](store::Transaction& tx) { return tx.remove<T>(id); });
  }

  void add_node(const std::string& id, int64_t memory = 1000) {
    v1::Node node;
    node.set_id(id);
    node.mutable_status()->set_state(v1::NodeStatus::READY);
    node.mutable_description()->mutable_resources()->set_memory_bytes(memory);
    create(node);
  }
  void add_service(const std::string& id, int64_t memory = 0) {
    v1::Revision revision;
    revision.set_id(id + ".1");
    revision.set_service_id(id);
    revision.set_number(1);
    revision.mutable_spec()->mutable_resources()->mutable_reservations()->set_memory_bytes(memory);
    create(revision);
    v1::Service service;
    service.set_id(id);
    service.set_revision(1);
    service.mutable_spec()->mutable_annotations()->set_name(id);
    create(service);
  }
  void add_task(const std::string& service, uint64_t slot, const std::string& node = {}) {
    v1::Task task;
    task.set_id(service + "." + std::to_string(slot));
    task.set_service_id(service);
    task.set_slot(slot);
    task.set_revision(1);
    task.set_node_id(node);
    task.set_desired_state(v1::TASK_RUNNING);
    task.mutable_status()->set_state(v1::TASK_PENDING);
    create(task);
  }
  store::Ptr<v1::Task> task(const std::string& id) { return store_.snapshot().get<v1::Task>(id); }
  std::string node_of(const std::string& id) { return task(id)->node_id(); }
  std::string error_of(const std::string& id) { return task(id)->status().error(); }

  SimWorld world_;
  SimExecutor strand_{world_};
  SimExecutor worker_{world_};
  store::InstantProposer proposer_{strand_};
  store::Store store_{strand_, &proposer_, null_log()};
  SchedulingLoop loop_{strand_, worker_, store_, null_log()};
};

TEST_F(SchedulingLoopTest, AssignsWhatWaitsAtStartAndWhatComesLater) {
  add_node("a");
  add_node("b");
  add_service("web");
  add_task("web", 1);
  world_.settle();
  loop_.start(store_.snapshot());
  world_.settle();
  const auto first = task("web.1");
  EXPECT_EQ(first->node_id(), "a");
  EXPECT_EQ(first->status().state(), v1::TASK_ASSIGNED);
  EXPECT_EQ(first->status().message(), "scheduler assigned task to node");
  EXPECT_EQ(first->status().timestamp_ns(), world_.wall_now().unix_ns);
  add_task("web", 2);
  world_.settle();  // no timer: virtual time has not moved
  EXPECT_EQ(node_of("web.2"), "b");
  EXPECT_EQ(world_.now().since_start, Duration(0));
}

TEST_F(SchedulingLoopTest, SaysWhyAndTriesAgainWhenANodeCameOrMemoryWasFreed) {
  add_node("a", 100);
  add_service("db", 100);
  loop_.start(store_.snapshot());
  for (uint64_t slot : {1, 2, 3}) add_task("db", slot);
  world_.settle();
  EXPECT_EQ(node_of("db.1"), "a");
  EXPECT_EQ(task("db.2")->status().state(), v1::TASK_PENDING);
  EXPECT_EQ(task("db.2")->status().message(), "pending task scheduling");
  EXPECT_EQ(error_of("db.2"),
            "no suitable node (insufficient resources on 1 node): insufficient memory on 1 node");
  add_node("b", 100);
  world_.settle();
  EXPECT_EQ(node_of("db.2"), "b");
  EXPECT_EQ(error_of("db.2"), "");
  EXPECT_EQ(error_of("db.3"),
            "no suitable node (insufficient resources on 2 nodes): insufficient memory on 2 nodes");
  change<v1::Task>("db.1", [](v1::Task& t) { t.mutable_status()->set_state(v1::TASK_FAILED); });
  world_.settle();
  EXPECT_EQ(node_of("db.3"), "a");
}

TEST_F(SchedulingLoopTest, WritesAReasonOnlyWhenItChanges) {
  add_node("a", 10);
  add_service("db", 100);
  loop_.start(store_.snapshot());
  add_task("db", 1);
  world_.settle();
  const uint64_t entries = proposer_.entries();
  change<v1::Node>("a", [](v1::Node& n) { n.mutable_status()->set_message("still here"); });
  change<v1::Node>(
      "a", [](v1::Node& n) { n.mutable_description()->mutable_resources()->set_memory_bytes(11); });
  world_.settle();
  EXPECT_LE(proposer_.entries(), entries + 2);  // the two changes themselves
  EXPECT_EQ(task("db.1")->status().state(), v1::TASK_PENDING);
}

TEST_F(SchedulingLoopTest, ConfirmsGivenNodes) {
  add_node("a", 100);
  add_node("b", 10);
  add_service("agent", 50);
  loop_.start(store_.snapshot());
  add_task("agent", 1, "a");
  add_task("agent", 2, "b");
  world_.settle();
  EXPECT_EQ(task("agent.1")->status().state(), v1::TASK_ASSIGNED);
  EXPECT_EQ(task("agent.1")->status().message(),
            "scheduler confirmed task can run on preassigned node");
  EXPECT_EQ(node_of("agent.2"), "b");
  EXPECT_EQ(task("agent.2")->status().state(), v1::TASK_PENDING);
  EXPECT_EQ(error_of("agent.2"),
            "no suitable node (insufficient resources on 1 node): insufficient memory on 1 node");
}

// The change of the node is on its way when the placement is worked out.
TEST_F(SchedulingLoopTest, ANodeThatChangedUnderwayGetsNothing) {
  add_node("a");
  add_node("b");
  add_service("web");
  loop_.start(store_.snapshot());
  world_.settle();
  proposer_.delay = 10ms;
  add_task("web", 1);
  world_.advance(5ms);
  // Committed together with, but before, what the scheduler will write.
  change<v1::Node>("a",
                   [](v1::Node& n) { n.mutable_spec()->set_availability(v1::NodeSpec::DRAIN); });
  world_.advance(1s);
  EXPECT_EQ(node_of("web.1"), "b");
}

TEST_F(SchedulingLoopTest, ATaskRemovedOrStoppedUnderwayIsLeftAlone) {
  add_node("a", 100);
  add_service("web", 100);
  loop_.start(store_.snapshot());
  world_.settle();
  proposer_.delay = 10ms;
  add_task("web", 1);
  world_.advance(5ms);
  remove<v1::Task>("web.1");
  world_.advance(1s);
  EXPECT_EQ(task("web.1"), nullptr);
  add_task("web", 2);  // what was charged for the lost decision is free again
  world_.advance(1s);
  EXPECT_EQ(node_of("web.2"), "a");
}

TEST_F(SchedulingLoopTest, EndsTasksThatAreToldToStopBeforeTheyHaveANode) {
  add_service("web");
  loop_.start(store_.snapshot());
  add_task("web", 1);
  world_.settle();
  EXPECT_EQ(error_of("web.1"), "no suitable node");
  change<v1::Task>("web.1", [](v1::Task& t) { t.set_desired_state(v1::TASK_SHUTDOWN); });
  world_.settle();
  EXPECT_EQ(task("web.1")->status().state(), v1::TASK_SHUTDOWN);
  EXPECT_EQ(error_of("web.1"), "");
}

TEST_F(SchedulingLoopTest, EndsOutdatedTasksThatFitNowhere) {
  add_service("web");
  change<v1::Service>("web", [](v1::Service& s) { s.set_revision(2); });
  loop_.start(store_.snapshot());
  add_task("web", 1);
  world_.settle();
  EXPECT_EQ(task("web.1")->status().state(), v1::TASK_SHUTDOWN);
}

TEST_F(SchedulingLoopTest, RepeatsWhatCouldNotBeWritten) {
  add_node("a", 100);
  add_service("web", 100);
  world_.settle();
  loop_.start(store_.snapshot());
  add_task("web", 1);
  proposer_.delay = 10ms;
  world_.advance(10ms);
  ASSERT_NE(task("web.1"), nullptr);
  proposer_.rejections = 1;
  world_.advance(1s);
  EXPECT_EQ(node_of("web.1"), "a");
}

TEST_F(SchedulingLoopTest, StoppedLoopDoesNothingAndAnotherContinues) {
  add_node("a");
  add_service("web");
  loop_.start(store_.snapshot());
  world_.settle();
  loop_.stop();
  loop_.stop();
  add_task("web", 1);
  world_.settle();
  EXPECT_EQ(node_of("web.1"), "");
  loop_.start(store_.snapshot());
  world_.settle();
  EXPECT_EQ(node_of("web.1"), "a");
}

TEST_F(SchedulingLoopTest, ManyTasksInBatches) {
  for (int i = 0; i < 10; ++i) add_node("n" + std::to_string(i));
  add_service("web");
  loop_.start(store_.snapshot());
  for (uint64_t slot = 1; slot <= 3000; ++slot) add_task("web", slot);
  world_.settle();
  std::map<std::string, int> count;
  store_.snapshot().each<v1::Task>([&](const auto& t) {
    ++count[t->node_id()];
    return true;
  });
  EXPECT_EQ(count.size(), 10u);
  for (const auto& [node, tasks] : count) EXPECT_EQ(tasks, 300) << node;
}

// Tasks of a service with a thousand published ports: 500 of them are more than an entry takes.
TEST_F(SchedulingLoopTest, TransactionsShrinkUntilTheStoreTakesThem) {
  add_node("a");
  add_service("web");
  for (uint64_t slot = 1; slot <= 500; ++slot) {
    add_task("web", slot);
    world_.settle();
    change<v1::Task>("web." + std::to_string(slot), [](v1::Task& task) {
      for (uint32_t port = 0; port < 1'000; ++port)
        task.add_ports()->set_published_port(30'000 + port);
    });
    world_.settle();
  }
  loop_.start(store_.snapshot());
  world_.advance(5s);
  size_t placed = 0;
  store_.snapshot().each<v1::Task>([&](const auto& t) {
    placed += t->node_id() == "a" ? 1 : 0;
    return true;
  });
  EXPECT_EQ(placed, 500U);
}

}  // namespace
}  // namespace muster::manager::orchestrator
