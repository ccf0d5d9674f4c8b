// Jobs through the orchestrator's shell: what the store sees from the first task to the end.
#include "tests/manager/orchestrator/fixture.h"

namespace muster::manager::orchestrator {
namespace {

using Names = std::set<std::string>;

class JobTest : public OrchestratorTest {
 protected:
  // As the control API does it: every change begins the next iteration.
  void put_job(uint64_t total, uint64_t concurrent, bool global = false) {
    v1::Revision revision;
    revision.set_id(store::revision_id("s", 1));
    revision.set_service_id("s");
    revision.set_number(1);
    *revision.mutable_spec()->mutable_restart() = restart_;
    put(revision);
    v1::Service service;
    if (const auto known = store_.snapshot().get<v1::Service>("s")) service = *known;
    service.set_id("s");
    service.set_revision(1);
    service.mutable_spec()->mutable_annotations()->set_name("job");
    if (global) {
      service.mutable_spec()->mutable_global_job();
    } else {
      service.mutable_spec()->mutable_replicated_job()->set_total_completions(total);
      service.mutable_spec()->mutable_replicated_job()->set_max_concurrent(concurrent);
    }
    const uint64_t iteration = service.job_status().iteration() + 1;
    service.mutable_job_status()->Clear();
    service.mutable_job_status()->set_iteration(iteration);
    service.mutable_job_status()->set_last_execution_ns(world_.wall_now().unix_ns);
    put(service);
  }
  void set_history(int64_t limit) {
    v1::Cluster cluster;
    cluster.set_id("c");
    cluster.mutable_spec()->mutable_annotations()->set_name("default");
    cluster.mutable_spec()->set_task_history_limit(limit);
    put(cluster);
  }
  // Tasks that are not to stop and have not ended.
  TaskPtrs live() const {
    TaskPtrs out;
    for (const TaskPtr& task : tasks()) {
      const bool over = task->status().state() > v1::TASK_RUNNING;
      if (task->desired_state() <= v1::TASK_COMPLETE && !over) out.push_back(task);
    }
    return out;
  }
  // What may run runs, what is to stop has stopped.
  void run() {
    for (const TaskPtr& task : tasks()) {
      const v1::TaskState state = task->status().state();
      if (state > v1::TASK_RUNNING) continue;
      if (task->desired_state() >= v1::TASK_SHUTDOWN) {
        set_state(*task, v1::TASK_SHUTDOWN);
      } else if (task->desired_state() == v1::TASK_COMPLETE && state < v1::TASK_RUNNING) {
        set_state(*task, v1::TASK_RUNNING);
      }
    }
  }
  void end(const std::string& name, v1::TaskState state) {
    for (const TaskPtr& task : live()) {
      if (task->name() == name) return set_state(*task, state);
    }
    FAIL() << name << " does not run";
  }
  v1::JobStatus status() const { return store_.snapshot().get<v1::Service>("s")->job_status(); }
  uint64_t iteration_of(const std::string& name) const {
    for (const TaskPtr& task : live()) {
      if (task->name() == name) return task->job_iteration();
    }
    return 0;
  }
  void restart_leader() {
    orchestrator_.stop();
    world_.advance(1s);
    orchestrator_.start(store_.snapshot());
    world_.settle();
  }
  void set_node(const char* id, std::function<void(v1::Node&)> change) {
    v1::Node node = *store_.snapshot().get<v1::Node>(id);
    change(node);
    put(node);
  }
};

TEST_F(JobTest, RunsToItsEnd) {
  put_job(3, 2);
  EXPECT_EQ(names(live()), (Names{"job.0", "job.1"}));
  for (const TaskPtr& task : live()) EXPECT_EQ(task->desired_state(), v1::TASK_COMPLETE);
  run();
  end("job.1", v1::TASK_COMPLETE);
  EXPECT_EQ(names(live()), (Names{"job.0", "job.2"}));
  run();
  end("job.0", v1::TASK_COMPLETE);
  EXPECT_EQ(names(live()), (Names{"job.2"}));
  EXPECT_EQ(status().state(), v1::JobStatus::RUNNING);
  end("job.2", v1::TASK_COMPLETE);
  EXPECT_EQ(names(live()), Names());
  EXPECT_EQ(status().state(), v1::JobStatus::COMPLETED);
  EXPECT_EQ(tasks().size(), 3u) << "finished tasks can be looked at";
  restart_leader();
  EXPECT_EQ(names(live()), Names());
}

TEST_F(JobTest, FailsThenSucceeds) {
  put_job(1, 1);
  run();
  end("job.0", v1::TASK_FAILED);
  ASSERT_EQ(live().size(), 1u);
  EXPECT_EQ(live()[0]->desired_state(), v1::TASK_READY);
  world_.advance(4900ms);
  EXPECT_EQ(live()[0]->desired_state(), v1::TASK_READY);
  world_.advance(200ms);
  EXPECT_EQ(live()[0]->desired_state(), v1::TASK_COMPLETE);
  run();
  end("job.0", v1::TASK_COMPLETE);
  EXPECT_EQ(status().state(), v1::JobStatus::COMPLETED);
}

TEST_F(JobTest, AnUpdateBeginsTheNextIterationInTheMiddle) {
  put_job(4, 2);
  run();
  end("job.0", v1::TASK_COMPLETE);
  run();
  EXPECT_EQ(names(live()), (Names{"job.1", "job.2"}));
  put_job(4, 2);
  EXPECT_EQ(names(live()), Names()) << "both places are taken until something stops";
  run();  // the old ones stop
  EXPECT_EQ(names(live()), (Names{"job.0", "job.1"}));
  EXPECT_EQ(iteration_of("job.0"), 2u);
  EXPECT_EQ(tasks().size(), 2u) << "nothing is left of the first iteration";
}

TEST_F(JobTest, RunsAgainWhenItIsDone) {
  put_job(1, 1);
  run();
  end("job.0", v1::TASK_COMPLETE);
  EXPECT_EQ(status().state(), v1::JobStatus::COMPLETED);
  put_job(1, 1);
  EXPECT_EQ(status().state(), v1::JobStatus::RUNNING);
  run();
  end("job.0", v1::TASK_COMPLETE);
  EXPECT_EQ(status().state(), v1::JobStatus::COMPLETED);
  EXPECT_EQ(status().iteration(), 2u);
}

TEST_F(JobTest, AttemptsAreUsedUp) {
  restart_.set_max_attempts(1);
  restart_.set_condition(v1::RestartPolicy::ANY);
  put_job(2, 1);
  for (int i = 0; i < 2; ++i) {
    run();
    end("job.0", v1::TASK_FAILED);
    world_.advance(6s);
    run();
  }
  EXPECT_EQ(names(live()), (Names{"job.1"})) << "the other slots go on";
  EXPECT_EQ(status().failed(), 1u);
  EXPECT_NE(status().message().find("1 of 1 restarts are used up"), std::string::npos);
  run();
  end("job.1", v1::TASK_COMPLETE);
  EXPECT_EQ(status().state(), v1::JobStatus::FAILED);
  restart_leader();
  EXPECT_EQ(names(live()), Names());
  EXPECT_EQ(status().state(), v1::JobStatus::FAILED);
}

TEST_F(JobTest, TheReasonSurvivesAnAgentThatReportsTheEndAgain) {
  restart_.set_condition(v1::RestartPolicy::NONE);
  put_job(1, 1);
  run();
  end("job.0", v1::TASK_FAILED);
  ASSERT_EQ(tasks().size(), 1u);
  const std::string reason = "not tried again: the restart condition is none";
  EXPECT_EQ(tasks()[0]->status().error(), reason);
  v1::Task again = *tasks()[0];
  again.mutable_status()->set_error("exit code 1");
  put(again);
  EXPECT_EQ(tasks()[0]->status().error(), "exit code 1; " + reason);
}

TEST_F(JobTest, ALargeJobKeepsFewTasks) {
  set_history(1);  // 20 finished slots, and a quarter more before they are collected
  put_job(300, 10);
  size_t most = 0;
  for (int round = 0; round < 40 && status().state() == v1::JobStatus::RUNNING; ++round) {
    run();
    for (const TaskPtr& task : live()) {
      end(task->name(), v1::TASK_COMPLETE);
      most = std::max(most, tasks().size());
    }
    if (round == 15) restart_leader();
  }
  EXPECT_EQ(status().state(), v1::JobStatus::COMPLETED);
  EXPECT_LE(most, 36u);
  EXPECT_LE(tasks().size(), 25u);
  EXPECT_EQ(status().collected_completed_size(), 1);
}

TEST_F(JobTest, ANodeLostInTheMiddle) {
  put_job(2, 2);
  run();
  const std::string node = live()[0]->node_id();
  const std::string name = live()[0]->name();
  const std::string lost = live()[0]->id();
  set_node(node.c_str(), [](v1::Node& n) { n.mutable_status()->set_state(v1::NodeStatus::DOWN); });
  EXPECT_EQ(live().size(), 2u);
  for (const TaskPtr& task : live()) EXPECT_NE(task->id(), lost);
  // It had completed there; its replacement is not needed.
  set_node(node.c_str(), [](v1::Node& n) { n.mutable_status()->set_state(v1::NodeStatus::READY); });
  set_state(*store_.snapshot().get<v1::Task>(lost), v1::TASK_COMPLETE);
  EXPECT_EQ(live().size(), 1u);
  EXPECT_NE(live()[0]->name(), name);
}

TEST_F(JobTest, GlobalJobFollowsTheNodes) {
  set_node("n3", [](v1::Node& n) { n.mutable_spec()->set_availability(v1::NodeSpec::PAUSE); });
  put_job(0, 0, true);
  EXPECT_EQ(names(live()), (Names{"job.n1", "job.n2"}));
  run();
  end("job.n1", v1::TASK_COMPLETE);
  set_node("n2", [](v1::Node& n) { n.mutable_spec()->set_availability(v1::NodeSpec::DRAIN); });
  EXPECT_EQ(names(live()), Names());
  EXPECT_EQ(status().state(), v1::JobStatus::COMPLETED) << "on every node that takes it";
  run();
  set_node("n2", [](v1::Node& n) { n.mutable_spec()->set_availability(v1::NodeSpec::ACTIVE); });
  EXPECT_EQ(names(live()), (Names{"job.n2"})) << "it was interrupted there";
  v1::Node node;
  node.set_id("n4");
  node.mutable_status()->set_state(v1::NodeStatus::READY);
  put(node);
  EXPECT_EQ(names(live()), (Names{"job.n2", "job.n4"}));
  run();
  end("job.n2", v1::TASK_COMPLETE);
  end("job.n4", v1::TASK_COMPLETE);
  EXPECT_EQ(status().state(), v1::JobStatus::COMPLETED);
  EXPECT_EQ(names(live()), Names());
}

TEST_F(JobTest, RemovalLeavesNothing) {
  put_job(3, 2);
  run();
  end("job.0", v1::TASK_COMPLETE);
  write([](store::Transaction& tx) { return tx.remove<v1::Service>("s"); });
  run();
  EXPECT_EQ(tasks().size(), 0u);
  EXPECT_EQ(store_.snapshot().count<v1::Revision>(), 0u);
}

}  // namespace
}  // namespace muster::manager::orchestrator
