#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/sim_executor.h"
#include "manager/orchestrator/orchestrator.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::orchestrator {

using TaskPtrs = std::vector<TaskPtr>;

// A store and the orchestrator on it; the test plays allocator, scheduler and agents.
class OrchestratorTest : public testing::Test {
 protected:
  OrchestratorTest() {
    store_.lead(1);
    for (const char* id : {"n1", "n2", "n3"}) {
      v1::Node node;
      node.set_id(id);
      node.mutable_status()->set_state(v1::NodeStatus::READY);
      put(node);
    }
    orchestrator_.start(store_.snapshot());
  }

  template <class T>
  void put(T object) {
    write([object](store::Transaction& tx) -> Status {
      const auto known = tx.view().template get<T>(object.id());
      if (known == nullptr) return tx.create(object);
      T next = object;
      next.mutable_meta()->set_version(known->meta().version());
      return tx.update(std::move(next));
    });
  }
  void write(std::function<Status(store::Transaction&)> body) {
    Status outcome;
    store_.update(std::move(body), [&](const store::Commit& c) { outcome = c.status; });
    world_.settle();
    ASSERT_TRUE(outcome.ok()) << outcome.to_string();
  }

  void put_service(uint64_t replicas, uint64_t number, bool global = false) {
    v1::Revision revision;
    revision.set_id(store::revision_id("s", number));
    revision.set_service_id("s");
    revision.set_number(number);
    revision.mutable_spec()->mutable_container()->set_image(
        fmt::format("image:{}", constraint_.empty() ? number : 0));
    if (!constraint_.empty()) {
      revision.mutable_spec()->mutable_placement()->add_constraints(constraint_);
    }
    *revision.mutable_spec()->mutable_restart() = restart_;
    if (store_.snapshot().get<v1::Revision>(revision.id()) == nullptr) put(revision);
    v1::Service service;
    service.set_id("s");
    service.mutable_spec()->mutable_annotations()->set_name("web");
    *service.mutable_spec()->mutable_update() = update_;
    *service.mutable_spec()->mutable_rollback() = rollback_;
    // As the control API does it.
    if (const auto known = store_.snapshot().get<v1::Service>("s")) {
      *service.mutable_previous_spec() = known->spec();
      service.set_previous_revision(known->revision());
    }
    if (global) {
      service.mutable_spec()->mutable_global();
    } else {
      service.mutable_spec()->mutable_replicated()->set_replicas(replicas);
    }
    service.set_revision(number);
    put(service);
  }

  TaskPtrs tasks() const {
    TaskPtrs out;
    store_.snapshot().each<v1::Task>([&](const TaskPtr& task) {
      out.push_back(task);
      return true;
    });
    return out;
  }
  TaskPtrs active() const {
    TaskPtrs out;
    for (const TaskPtr& task : tasks()) {
      if (task->desired_state() <= v1::TASK_RUNNING) out.push_back(task);
    }
    return out;
  }
  void set_state(const v1::Task& task, v1::TaskState state) {
    v1::Task changed = task;
    changed.mutable_status()->set_state(state);
    changed.mutable_status()->set_timestamp_ns(world_.wall_now().unix_ns);
    if (state == v1::TASK_RUNNING) {
      changed.mutable_status()->set_running_since_ns(world_.wall_now().unix_ns);
    }
    if (changed.node_id().empty()) changed.set_node_id(fmt::format("n{}", task.slot() % 3 + 1));
    put(changed);
  }
  // Agents at work: what may run runs, what is to stop stops, until nothing changes.
  void run_agents() {
    for (bool changed = true; changed;) {
      changed = false;
      world_.advance(1ms);
      for (const TaskPtr& task : tasks()) {
        const v1::TaskState state = task->status().state();
        if (state > v1::TASK_RUNNING) continue;
        if (task->desired_state() >= v1::TASK_SHUTDOWN) {
          set_state(*task, v1::TASK_SHUTDOWN);
          changed = true;
        } else if (task->desired_state() == v1::TASK_RUNNING && state < v1::TASK_RUNNING) {
          set_state(*task, v1::TASK_RUNNING);
          changed = true;
        }
      }
    }
  }
  std::set<std::string> names(const TaskPtrs& of) const {
    std::set<std::string> out;
    for (const TaskPtr& task : of) out.insert(task->name());
    return out;
  }

  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer proposer_{strand_};
  store::Store store_{strand_, &proposer_, null_log()};
  SeededRng rng_{1};
  Orchestrator orchestrator_{strand_, store_, rng_, null_log()};
  v1::RestartPolicy restart_;
  v1::UpdateConfig update_;
  v1::UpdateConfig rollback_;
  std::string constraint_;  // with it all revisions have one image
};

}  // namespace muster::manager::orchestrator
