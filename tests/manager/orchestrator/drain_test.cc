// How tasks that are told to stop leave their networks.
#include <optional>
#include <string>

#include "manager/orchestrator/context.h"
#include "manager/orchestrator/slot_plan.h"
#include "tests/manager/orchestrator/fixture.h"

namespace muster::manager::orchestrator {
namespace {

class DrainTest : public OrchestratorTest {
 protected:
  DrainTest() {
    for (const char* driver : {"overlay", "bridge", "host"}) {
      v1::Network network;
      network.set_id(driver);
      network.mutable_spec()->mutable_annotations()->set_name(driver);
      network.mutable_spec()->set_driver(driver);
      put(network);
    }
    put_service(2, 1);
    run_agents();
    for (const TaskPtr& task : active()) enter(*task, "overlay");
  }
  void enter(const v1::Task& task, const std::string& network) {
    v1::Task changed = *store_.snapshot().get<v1::Task>(task.id());
    changed.clear_networks();
    changed.add_networks()->set_network_id(network);
    if (network != "host") changed.mutable_networks(0)->add_addresses("10.0.0.5/24");
    changed.set_endpoint_state(v1::ENDPOINT_READY);
    put(changed);
  }
  TaskPtr told(v1::TaskState desired) {
    TaskPtr out;
    for (const TaskPtr& task : tasks()) {
      if (task->desired_state() == desired) out = task;
    }
    return out;
  }
  void set_timeout(std::optional<int64_t> ns) {
    v1::Service service = *store_.snapshot().get<v1::Service>("s");
    service.mutable_spec()->mutable_endpoint()->clear_drain_timeout_ns();
    if (ns) service.mutable_spec()->mutable_endpoint()->set_drain_timeout_ns(*ns);
    put(service);
  }
};

TEST_F(DrainTest, ScaleDownDrainsWithTheSameWrite) {
  const uint64_t before = proposer_.entries();
  put_service(1, 1);
  const TaskPtr task = told(v1::TASK_REMOVE);
  ASSERT_NE(task, nullptr);
  EXPECT_EQ(task->endpoint_state(), v1::ENDPOINT_DRAINING);
  EXPECT_EQ(task->drain().timeout_ns(), Duration(5s).count());
  EXPECT_EQ(task->drain().since_ns(), world_.wall_now().unix_ns);
  EXPECT_EQ(proposer_.entries(), before + 2) << "the service's, and one of the orchestrator";
}

TEST_F(DrainTest, UpdatesDrain) {
  set_timeout(0);
  put_service(2, 2);  // which replaces the spec: the default again
  const TaskPtr task = told(v1::TASK_SHUTDOWN);
  ASSERT_NE(task, nullptr);
  EXPECT_EQ(task->endpoint_state(), v1::ENDPOINT_DRAINING);
  EXPECT_EQ(task->drain().timeout_ns(), Duration(5s).count());
}

TEST_F(DrainTest, TheServiceSaysHowLong) {
  for (const int64_t ns : {int64_t{0}, Duration(90s).count()}) {
    set_timeout(ns);
    const auto context = ServiceContext::load(store_.snapshot(), "s", world_.wall_now());
    const v1::Task task = context.told_to_stop(*active()[0], v1::TASK_SHUTDOWN);
    EXPECT_EQ(task.endpoint_state(), v1::ENDPOINT_DRAINING) << "nodes are waited for all the same";
    EXPECT_TRUE(task.has_drain());
    EXPECT_EQ(task.drain().timeout_ns(), ns);
    EXPECT_GT(context.stop_wait(), Duration(ns) + Duration(10s)) << "a successor waits that long";
  }
}

TEST_F(DrainTest, ANodeThatIsDrainedDrainsItsTasksAndALostOneLosesThem) {
  const TaskPtrs both = active();
  const TaskPtr task = both[0];
  v1::Node node = *store_.snapshot().get<v1::Node>(task->node_id());
  const auto now = [&] { return store_.snapshot().get<v1::Task>(task->id()); };
  node.mutable_spec()->set_availability(v1::NodeSpec::DRAIN);
  put(node);
  EXPECT_EQ(now()->endpoint_state(), v1::ENDPOINT_DRAINING);
  EXPECT_EQ(now()->status().error(), "node was drained");

  const TaskPtr other = both[1];
  node = *store_.snapshot().get<v1::Node>(other->node_id());
  node.mutable_status()->set_state(v1::NodeStatus::DOWN);
  put(node);
  const auto lost = store_.snapshot().get<v1::Task>(other->id());
  EXPECT_EQ(lost->desired_state(), v1::TASK_SHUTDOWN);
  EXPECT_EQ(lost->endpoint_state(), v1::ENDPOINT_ABSENT);
  EXPECT_FALSE(lost->has_drain());
}

TEST_F(DrainTest, WhoNeedNotBeAskedIsNot) {
  const auto after = [&](const std::string& network, v1::EndpointState was,
                         v1::TaskState state = v1::TASK_RUNNING) {
    enter(*active()[0], network);
    v1::Task task = *active()[0];
    task.set_endpoint_state(was);
    task.mutable_status()->set_state(state);
    return ServiceContext::load(store_.snapshot(), "s", world_.wall_now())
        .told_to_stop(task, v1::TASK_SHUTDOWN);
  };
  // Only its own node leads to it.
  v1::Task task = after("bridge", v1::ENDPOINT_READY);
  EXPECT_EQ(task.endpoint_state(), v1::ENDPOINT_RELEASED);
  EXPECT_TRUE(task.has_drain());
  // Its connections are the host's.
  task = after("host", v1::ENDPOINT_READY);
  EXPECT_EQ(task.endpoint_state(), v1::ENDPOINT_RELEASED);
  EXPECT_FALSE(task.has_drain());
  // It may be ready by now, and its own node then leads to it.
  task = after("overlay", v1::ENDPOINT_ABSENT, v1::TASK_STARTING);
  EXPECT_EQ(task.endpoint_state(), v1::ENDPOINT_ABSENT);
  EXPECT_TRUE(task.has_drain());
  // Its agent is stopping it already: it is ill.
  task = after("overlay", v1::ENDPOINT_DRAINING);
  EXPECT_FALSE(task.has_drain());
  task = after("overlay", v1::ENDPOINT_ABSENT, v1::TASK_FAILED);
  EXPECT_FALSE(task.has_drain());
}

TEST_F(DrainTest, AServiceThatIsRemovedEndsAtOnceAlsoWhatIsOnItsWayOut) {
  put_service(1, 1);
  const std::string leaving = told(v1::TASK_REMOVE)->id();
  write([](store::Transaction& tx) { return tx.remove<v1::Service>("s"); });
  for (const TaskPtr& task : tasks()) {
    EXPECT_EQ(task->desired_state(), v1::TASK_REMOVE);
    EXPECT_EQ(task->endpoint_state(), v1::ENDPOINT_RELEASED) << (task->id() == leaving);
    EXPECT_FALSE(task->has_drain()) << (task->id() == leaving);
  }
  const uint64_t entries = proposer_.entries();
  orchestrator_.stop();
  orchestrator_.start(store_.snapshot());
  world_.settle();
  EXPECT_EQ(proposer_.entries(), entries) << "said once";
}

}  // namespace
}  // namespace muster::manager::orchestrator
