// Commands that wait, and stacks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "tests/deploy/cli/fake_daemon.h"

namespace muster::deploy::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Wait : public testing::Test {
 protected:
  Outcome run(const std::vector<std::string>& words, const std::string& input = "") {
    return run_muster(daemon_, words, input, true);
  }
  v1::WatchResponse task_event(size_t task, v1::TaskState state) {
    v1::WatchResponse message;
    auto* event = message.add_events();
    event->set_action(v1::ObjectEvent::UPDATE);
    *event->mutable_task() = daemon_.tasks[task];
    event->mutable_task()->mutable_meta()->set_version(50);
    event->mutable_task()->mutable_status()->set_state(state);
    return message;
  }
  FakeDaemon daemon_;
};

TEST_F(Wait, ScaleEndsWhenTheTasksRun) {
  daemon_.add_service("web", 3);
  daemon_.tasks[2].mutable_status()->set_state(v1::TASK_PREPARING);
  daemon_.watch_messages.push_back(task_event(2, v1::TASK_RUNNING));
  daemon_.end_streams = false;
  const Outcome outcome = run({"service", "scale", "--monitor", "0s", "web=3"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out,
            "web scaled to 3\n"
            "overall progress: 2 out of 3 tasks\n"
            "overall progress: 3 out of 3 tasks\n"
            "verify: Service web converged\n");
  EXPECT_EQ(daemon_.watch_requests.at(0).resume_from(), 11U);
}

// A job of two of which one task has completed.
v1::Service& make_job(FakeDaemon& daemon) {
  auto& service = daemon.add_service("job", 2);
  service.mutable_spec()->mutable_replicated_job()->set_total_completions(2);
  service.mutable_spec()->mutable_replicated_job()->set_max_concurrent(1);
  service.mutable_job_status()->set_iteration(1);
  for (size_t i = 0; i < 2; ++i) {
    daemon.tasks[i].set_slot(i);
    daemon.tasks[i].set_name("job." + std::to_string(i));
    daemon.tasks[i].set_job_iteration(1);
    daemon.tasks[i].set_desired_state(v1::TASK_COMPLETE);
  }
  daemon.tasks[0].mutable_status()->set_state(v1::TASK_COMPLETE);
  daemon.end_streams = false;
  return service;
}

TEST_F(Wait, AJobIsWaitedForToItsEnd) {
  const v1::Service service = make_job(daemon_);
  daemon_.watch_messages.push_back(task_event(1, v1::TASK_COMPLETE));
  v1::WatchResponse message;
  auto* event = message.add_events();
  event->set_action(v1::ObjectEvent::UPDATE);
  *event->mutable_service() = service;
  event->mutable_service()->mutable_meta()->set_version(60);
  event->mutable_service()->mutable_job_status()->set_state(v1::JobStatus::COMPLETED);
  daemon_.watch_messages.push_back(message);
  const Outcome outcome = run({"service", "update", "--force", "job"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out,
            "job\njob progress: 1 out of 2 complete\njob progress: 2 out of 2 complete\n"
            "job complete\n");
}

TEST_F(Wait, AJobThatCannotCompleteSaysWhy) {
  auto& status = *make_job(daemon_).mutable_job_status();
  status.set_failed(1);
  status.set_state(v1::JobStatus::FAILED);
  status.set_message("a task of the job cannot complete: task job.1 (x): exit code 3");
  const Outcome outcome = run({"service", "update", "--force", "job"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err,
            "muster: service job: a task of the job cannot complete: task job.1 (x): exit code "
            "3\n");
}

TEST_F(Wait, JobsAreListedWithTheirCompletions) {
  auto& service = make_job(daemon_);
  auto& status = *daemon_.services[0].mutable_status();
  status.set_running_tasks(1);
  status.set_desired_tasks(1);
  status.set_completed_tasks(1);
  const std::vector<std::string> ls = {"service", "ls", "--format", "{{.Mode}} {{.Replicas}}"};
  EXPECT_EQ(run(ls).out, "replicated-job 1/1 (1/2 completed)\n");
  status.set_failed_tasks(1);
  EXPECT_EQ(run(ls).out, "replicated-job 1/1 (1/2 completed) (1 failed)\n");
  status.set_failed_tasks(0);
  service.mutable_spec()->mutable_global_job();
  EXPECT_EQ(run(ls).out, "global-job 1/1 (1/2 completed)\n");
}

TEST_F(Wait, JobsAreInspectedWithTheirStatus) {
  auto& status = *make_job(daemon_).mutable_job_status();
  status.set_message("why");
  EXPECT_THAT(run({"service", "inspect", "--pretty", "job"}).out,
              HasSubstr("Service Mode:\tReplicated-job\n Max Concurrent:\t1\n Total "
                        "Completions:\t2\nJobStatus:\n Iteration:\t1\n State:\t\trunning\n "
                        "Message:\twhy\n"));
  EXPECT_EQ(
      run({"service", "inspect", "--format",
           "{{.JobStatus.JobIteration.Index}} {{.JobStatus.State}} {{.JobStatus.Message}}", "job"})
          .out,
      "1 running why\n");
}

TEST_F(Wait, MonitorPeriodIsWaitedFor) {
  daemon_.add_service("web", 1);
  daemon_.end_streams = false;
  const auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(run({"service", "scale", "--monitor", "300ms", "web=1"}).code, 0);
  EXPECT_GE(std::chrono::steady_clock::now() - before, std::chrono::milliseconds(290));
}

TEST_F(Wait, AnUpdateIsFollowedThroughItsRollback) {
  daemon_.add_service("web", 1);
  auto& service = *daemon_.services[0].mutable_service();
  service.mutable_spec()->mutable_update()->set_monitor_ns(1'000'000);
  v1::WatchResponse message;
  const auto add = [&](v1::UpdateStatus::State state, const char* text) {
    auto* event = message.add_events();
    event->set_action(v1::ObjectEvent::UPDATE);
    *event->mutable_service() = service;
    event->mutable_service()->mutable_meta()->set_version(60);
    auto* status = event->mutable_service()->mutable_update_status();
    status->set_state(state);
    status->set_message(text);
    status->set_reason("update rolled back due to x");
    daemon_.watch_messages.push_back(message);
    message.Clear();
  };
  service.mutable_update_status()->set_state(v1::UpdateStatus::UPDATING);
  add(v1::UpdateStatus::ROLLBACK_STARTED, "update rolled back due to x");
  add(v1::UpdateStatus::ROLLBACK_COMPLETED, "rollback completed: update rolled back due to x");
  daemon_.end_streams = false;
  const Outcome outcome = run({"service", "update", "--force", "web"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("rollback completed: update rolled back due to x"));
}

// One commit changes the tasks and says that the update is complete: who has seen the one in its
// list is not told of it by the stream again, and so must not have asked for the service before.
TEST_F(Wait, ACommitBetweenTheQuestionsIsNotMissed) {
  daemon_.add_service("web", 2);
  auto& service = *daemon_.services[0].mutable_service();
  service.mutable_update_status()->set_state(v1::UpdateStatus::UPDATING);
  daemon_.before_tasks_listed = [&] {
    service.mutable_update_status()->set_state(v1::UpdateStatus::COMPLETED);
    service.mutable_meta()->set_version(60);
    for (auto& task : daemon_.tasks) task.mutable_meta()->set_version(60);
  };
  daemon_.end_streams = false;
  const Outcome outcome = run({"service", "scale", "--monitor", "0s", "web=2"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
}

TEST_F(Wait, CertainFailureEndsWithTheReason) {
  daemon_.add_service("web", 1);
  daemon_.tasks[0].mutable_status()->set_state(v1::TASK_REJECTED);
  daemon_.tasks[0].mutable_status()->set_error("no such image: nginx:99");
  daemon_.tasks[0].set_desired_state(v1::TASK_SHUTDOWN);
  daemon_.services[0]
      .mutable_service()
      ->mutable_spec()
      ->mutable_task()
      ->mutable_restart()
      ->set_condition(v1::RestartPolicy::NONE);
  daemon_.end_streams = false;
  const Outcome outcome = run({"service", "scale", "web=1"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err,
            "muster: service web: task web.1 ended and its restart policy does not replace it: no "
            "such image: nginx:99\n");
}

TEST_F(Wait, LostStreamIsOpenedAgain) {
  daemon_.add_service("web", 1);
  daemon_.tasks[0].mutable_status()->set_state(v1::TASK_STARTING);
  daemon_.watch_messages.push_back(task_event(0, v1::TASK_STARTING));
  daemon_.watch_messages.push_back(task_event(0, v1::TASK_RUNNING));
  daemon_.end_streams = true;
  EXPECT_EQ(run({"service", "scale", "--monitor", "0s", "web=1"}).code, 0);
}

TEST_F(Wait, AManagerThatComesBackIsWaitedFor) {
  daemon_.add_service("web", 2);
  daemon_.calls_unavailable = 3;  // "service create" asks nothing before it waits
  daemon_.end_streams = false;
  const Outcome outcome =
      run({"service", "create", "--name", "web2", "--replicas", "0", "--monitor", "0s", "nginx"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "muster: no manager answers; waiting for it to come back\n");
  EXPECT_THAT(outcome.out, HasSubstr("verify: Service web2 converged"));
}

TEST_F(Wait, WrongMonitorIsWrongUsage) {
  daemon_.add_service("web", 1);
  EXPECT_EQ(run({"service", "scale", "--monitor", "soon", "web=1"}).code, 2);
}

constexpr const char* kCompose = R"(version: "3.8"
services:
  web:
    image: nginx:1
    deploy: {replicas: 2}
)";

class Stack : public Wait {};

TEST_F(Stack, DeployCreatesNetworksThenServices) {
  const Outcome outcome = run({"stack", "deploy", "-d", "-c", "-", "shop"}, kCompose);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "Creating network shop_default\nCreating service shop_web\n");
  EXPECT_EQ(daemon_.created_networks.at(0).spec().annotations().name(), "shop_default");
  EXPECT_EQ(daemon_.created_services.at(0).spec().replicated().replicas(), 2U);
}

void label(v1::Annotations* annotations, const std::string& stack) {
  auto* label = annotations->add_labels();
  label->set_key("com.docker.stack.namespace");
  label->set_value(stack);
}

TEST_F(Stack, DeployUpdatesAndPrunes) {
  auto& web = daemon_.add_service("shop_web", 1);
  label(web.mutable_spec()->mutable_annotations(), "shop");
  web.mutable_spec()->mutable_task()->set_force_update(7);
  label(daemon_.add_service("shop_old", 1).mutable_spec()->mutable_annotations(), "shop");
  const Outcome outcome = run({"stack", "up", "-d", "--prune", "-c", "-", "shop"}, kCompose);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out,
            "Removing service shop_old\nCreating network shop_default\n"
            "Updating service shop_web (id: id-shop_web)\n");
  EXPECT_EQ(daemon_.updated_services.at(0).spec().task().force_update(), 7U);
  EXPECT_THAT(daemon_.removed, ElementsAre("id-shop_old"));
}

TEST_F(Stack, RemoveTakesServicesThenNetworks) {
  label(daemon_.add_service("shop_web", 0).mutable_spec()->mutable_annotations(), "shop");
  v1::Network network;
  network.set_id("net1");
  network.mutable_spec()->mutable_annotations()->set_name("shop_default");
  label(network.mutable_spec()->mutable_annotations(), "shop");
  daemon_.networks.push_back(network);
  const Outcome outcome = run({"stack", "down", "shop"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "Removing service shop_web\nRemoving network shop_default\n");
  EXPECT_THAT(daemon_.removed, ElementsAre("id-shop_web", "net1"));
  EXPECT_EQ(run({"stack", "rm", "none"}).err, "Nothing found in stack: none\n");
}

TEST_F(Stack, RemoveGoesOnWhenTheManagerComesBack) {
  label(daemon_.add_service("shop_web", 0).mutable_spec()->mutable_annotations(), "shop");
  daemon_.calls_unavailable = 1;
  const Outcome outcome = run({"stack", "rm", "shop"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "muster: no manager answers; waiting for it to come back\n");
}

TEST_F(Stack, Lists) {
  label(daemon_.add_service("shop_web", 1).mutable_spec()->mutable_annotations(), "shop");
  EXPECT_EQ(run({"stack", "ls"}).out, "NAME      SERVICES\nshop      1\n");
  EXPECT_THAT(run({"stack", "services", "shop"}).out, HasSubstr("shop_web"));
  EXPECT_THAT(run({"stack", "ps", "shop"}).out, HasSubstr("shop_web.1"));
  EXPECT_EQ(run({"stack", "ps", "none"}).err, "muster: nothing found in stack: none\n");
}

TEST_F(Stack, MistakesInTheFileNameTheLine) {
  const Outcome outcome =
      run({"stack", "deploy", "-c", "-", "shop"}, "version: \"3.8\"\nservices:\n  web: 5\n");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("web"));
  EXPECT_EQ(run({"stack", "deploy", "shop"}).code, 2);
  EXPECT_EQ(run({"stack", "deploy", "-c", "/nonexistent.yml", "shop"}).code, 1);
}

TEST_F(Stack, ConfigPrintsTheMergedDocument) {
  const Outcome outcome = run({"stack", "config", "-c", "-"}, kCompose);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("image: nginx:1"));
}

}  // namespace
}  // namespace muster::deploy::cli
