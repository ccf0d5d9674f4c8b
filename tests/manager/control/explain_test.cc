#include "manager/control/explain.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "base/sim_executor.h"
#include "manager/store/store.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::control {
namespace {

// A service "web" on the nodes a, b and c; each test arranges the rest.
class ExplainTest : public testing::Test {
 protected:
  ExplainTest() {
    store_.lead(1);
    for (const char* id : {"a", "b", "c"}) {
      v1::Node node;
      node.set_id(id);
      node.mutable_description()->set_hostname(std::string("host-") + id);
      node.mutable_status()->set_state(v1::NodeStatus::READY);
      put(node);
    }
    service_.set_id("s");
    service_.mutable_spec()->mutable_annotations()->set_name("web");
    service_.mutable_spec()->mutable_replicated()->set_replicas(1);
    service_.set_revision(1);
    revision_.set_id(store::revision_id("s", 1));
    revision_.set_service_id("s");
    revision_.set_number(1);
  }

  template <class T>
  void put(T object) {
    store_.update(
        [object](store::Transaction& tx) -> Status {
          const auto known = tx.view().template get<T>(object.id());
          if (known == nullptr) return tx.create(object);
          T next = object;
          *next.mutable_meta() = known->meta();
          return tx.update(std::move(next));
        },
        [](const store::Commit& commit) { ASSERT_TRUE(commit.status.ok()); });
    world_.settle();
    world_.advance(1s);
  }
  v1::Task task(const std::string& id, uint64_t slot, const std::string& node,
                v1::TaskState state) {
    v1::Task out;
    out.set_id(id);
    out.set_name(fmt::format("web.{}", slot));
    out.set_service_id("s");
    out.set_revision(1);
    out.set_slot(slot);
    out.set_node_id(node);
    out.set_desired_state(v1::TASK_RUNNING);
    out.mutable_status()->set_state(state);
    return out;
  }
  v1::ExplainServiceResponse explain() {
    put(revision_);
    put(service_);
    const auto state = store_.snapshot();
    return explain_service(state, *state.get<v1::Service>("s"), world_.wall_now());
  }
  static std::string slot(const v1::ExplainServiceResponse& response, int index) {
    return response.slots_size() > index ? response.slots(index).reason() : "(none)";
  }
  static std::map<std::string, std::string> nodes(const v1::ExplainServiceResponse& response) {
    std::map<std::string, std::string> out;
    for (const auto& node : response.nodes()) {
      out[node.hostname()] =
          node.fits() ? "fits" : fmt::format("{}: {}", node.filter(), node.reason());
    }
    return out;
  }

  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer proposer_{strand_};
  store::Store store_{strand_, &proposer_, null_log()};
  v1::Service service_;
  v1::Revision revision_;
};

using Nodes = std::map<std::string, std::string>;

TEST_F(ExplainTest, NodesSayWhichServiceHoldsThePortAndWhatTheyAre) {
  v1::PortConfig port;
  port.set_mode(v1::PortConfig::HOST);
  port.set_published_port(80);
  *revision_.add_ports() = port;
  v1::Revision other = revision_;
  other.set_id(store::revision_id("o", 1));
  other.set_service_id("o");
  put(other);
  v1::Task holder = task("t", 1, "a", v1::TASK_RUNNING);
  holder.set_service_id("o");
  holder.set_name("proxy.1");
  *holder.add_ports() = port;
  put(holder);
  v1::Node down = *store_.snapshot().get<v1::Node>("b");
  down.mutable_status()->set_state(v1::NodeStatus::DOWN);
  down.mutable_status()->set_message("heartbeat failure");
  put(down);
  const auto said = nodes(explain());
  EXPECT_EQ(said.at("host-a"), "host-port: port 80/tcp is taken by service proxy");
  EXPECT_EQ(said.at("host-b").find("ready: node is down: heartbeat failure (as it is since 20"), 0u)
      << said.at("host-b");
  EXPECT_EQ(said.at("host-c"), "fits");
}

TEST_F(ExplainTest, SlotsSayWhatTheyWaitFor) {
  service_.mutable_spec()->mutable_replicated()->set_replicas(6);
  v1::Task pending = task("t1", 1, "", v1::TASK_PENDING);
  pending.mutable_status()->set_error("no suitable node (insufficient resources on 3 nodes)");
  put(pending);
  v1::Task delayed = task("t2", 2, "", v1::TASK_PENDING);
  delayed.set_desired_state(v1::TASK_READY);
  delayed.set_start_after_ns((world_.wall_now() + 30s).unix_ns);
  put(delayed);
  v1::Task old = task("t3old", 3, "a", v1::TASK_RUNNING);
  old.set_desired_state(v1::TASK_SHUTDOWN);
  old.mutable_status()->set_error("node was drained");
  put(old);
  v1::Task next = task("t3new", 3, "", v1::TASK_PENDING);
  next.set_desired_state(v1::TASK_READY);
  put(next);
  v1::Task pulls = task("t4", 4, "b", v1::TASK_PREPARING);
  pulls.mutable_status()->set_message("pulling image");
  put(pulls);
  v1::Task ended = task("t5", 5, "b", v1::TASK_FAILED);
  ended.set_desired_state(v1::TASK_SHUTDOWN);
  ended.mutable_status()->set_error("task: non-zero exit (1)");
  put(ended);
  revision_.mutable_spec()->mutable_restart()->set_condition(v1::RestartPolicy::NONE);
  const auto said = explain();
  ASSERT_EQ(said.slots_size(), 6);
  EXPECT_EQ(slot(said, 0), "no suitable node (insufficient resources on 3 nodes)");
  EXPECT_EQ(slot(said, 1).find("waits for the restart delay until 20"), 0u) << slot(said, 1);
  EXPECT_EQ(slot(said, 2),
            "waits for t3old on host-a to stop; moved from t3old on host-a: node was drained");
  EXPECT_EQ(slot(said, 3).find("is preparing: pulling image; 1 task of the service here"), 0u)
      << slot(said, 3);
  EXPECT_EQ(slot(said, 4), "not started again: task: non-zero exit (1) (restart condition none)");
  EXPECT_EQ(slot(said, 5), "is about to be created");
}

TEST_F(ExplainTest, ARunningTaskSaysWhatTheChoiceWasBetween) {
  service_.mutable_spec()->mutable_replicated()->set_replicas(3);
  for (const char* id : {"a", "b", "c"}) {
    v1::Node node = *store_.snapshot().get<v1::Node>(id);
    auto& label = *node.mutable_spec()->mutable_annotations()->add_labels();
    label.set_key("zone");
    label.set_value(node.id() == "c" ? "two" : "one");
    put(node);
  }
  auto& placement = *revision_.mutable_spec()->mutable_placement();
  placement.add_constraints("node.labels.zone != three");
  placement.add_preferences()->set_spread_descriptor("node.labels.zone");
  put(task("t1", 1, "a", v1::TASK_RUNNING));
  put(task("t2", 2, "b", v1::TASK_RUNNING));
  v1::Task with_gpu = task("t3", 3, "c", v1::TASK_RUNNING);
  with_gpu.add_assigned_generic()->set_kind("gpu");
  with_gpu.mutable_assigned_generic(0)->add_names("u1");
  put(with_gpu);
  const auto said = explain();
  EXPECT_EQ(slot(said, 0),
            "1 task of the service here, 1 each on the 3 nodes that take them; "
            "2 of 3 tasks where node.labels.zone is \"one\"; "
            "satisfies node.labels.zone != three");
  EXPECT_EQ(slot(said, 2),
            "1 task of the service here, 1 each on the 3 nodes that take them; "
            "1 of 3 tasks where node.labels.zone is \"two\"; "
            "satisfies node.labels.zone != three; was given gpu u1");
}

TEST_F(ExplainTest, WhatHasToLeaveSaysWhyAndWhatItWaitsFor) {
  service_.mutable_spec()->mutable_replicated()->set_replicas(2);
  service_.mutable_spec()->mutable_update()->set_parallelism(1);
  service_.mutable_spec()->mutable_update()->set_order(v1::UpdateConfig::START_FIRST);
  revision_.mutable_spec()->mutable_placement()->add_constraints("node.labels.disk == ssd");
  put(task("t1", 1, "a", v1::TASK_RUNNING));
  put(task("t1new", 1, "", v1::TASK_PENDING));
  put(task("t2", 2, "a", v1::TASK_RUNNING));
  const auto said = explain();
  ASSERT_EQ(said.slots_size(), 3);
  const std::string why =
      "has to leave: node no longer satisfies constraint node.labels.disk == ssd: the label is "
      "absent; ";
  EXPECT_EQ(slot(said, 0), "waits for the scheduler; start-first: replaces t1 on host-a");
  EXPECT_EQ(slot(said, 1).find(why + "start-first: stays until replaced by t1new"), 0u)
      << slot(said, 1);
  EXPECT_EQ(slot(said, 2).find(why + "waits for its turn, 1 at a time"), 0u) << slot(said, 2);
}

TEST_F(ExplainTest, AGlobalServiceHasASlotOnEveryNodeThatFits) {
  service_.mutable_spec()->mutable_global();
  v1::Node paused = *store_.snapshot().get<v1::Node>("b");
  paused.mutable_spec()->set_availability(v1::NodeSpec::PAUSE);
  put(paused);
  v1::Task runs = task("t", 0, "a", v1::TASK_RUNNING);
  runs.set_name("web.a");
  put(runs);
  const auto said = explain();
  EXPECT_EQ(nodes(said).at("host-a"), "fits");
  EXPECT_EQ(nodes(said).at("host-b").find("ready: node is paused"), 0u);
  ASSERT_EQ(said.slots_size(), 2);
  EXPECT_EQ(slot(said, 0), "one task on every node that fits");
  EXPECT_EQ(said.slots(0).hostname(), "host-a");
  EXPECT_EQ(slot(said, 1), "is about to be created");
  EXPECT_EQ(said.slots(1).hostname(), "host-c");
}

}  // namespace
}  // namespace muster::manager::control
