#include <signal.h>

#include "agent/worker/local_view.h"
#include "tests/agent/worker/worker_fixture.h"

namespace muster::agent {
namespace {

TEST_F(WorkerTest, RunsWhatIsAssigned) {
  worker_->apply(feed({task("t1")}));
  world_.advance(100ms);
  EXPECT_EQ(state("t1"), v1::TASK_RUNNING);
  EXPECT_EQ(last_["t1"].endpoint_state(), v1::ENDPOINT_READY);
  EXPECT_EQ(last_["t1"].status().container().container_id(), container("t1"));
  const ContainerRequest& request = runtime_.containers[container("t1")].request;
  EXPECT_EQ(request.spec.container().env(0), "SLOT=1");
  EXPECT_EQ(request.name, "web.1.t1");
  EXPECT_EQ(request.network_namespace, "/netns/" + container("t1"));
  EXPECT_NE(std::find(messages_.begin(), messages_.end(), "pulling image: 12.3 MB of 40.0 MB"),
            messages_.end());
}

TEST_F(WorkerTest, ImagesAreMountedAsLongAsTheirContainer) {
  for (const char* target : {"/tools", "/more"}) {
    v1::Mount& mount = *revision_.mutable_spec()->mutable_container()->add_mounts();
    mount.set_type(v1::Mount::IMAGE);
    mount.set_source("tools:1");
    mount.set_target(target);
  }
  worker_->apply(feed({task("t1")}));
  world_.advance(100ms);
  const std::string id = container("t1");
  const std::set<std::string> roots{id, id + ".image0", id + ".image1"};
  EXPECT_EQ(images_.roots, roots);
  const auto& mounts = runtime_.containers[id].request.mounts;
  ASSERT_EQ(mounts.size(), 2U);
  EXPECT_EQ(mounts[1].source, "/nonexistent/" + id + ".image1");
  EXPECT_TRUE(mounts[1].spec.read_only());
  restart();
  world_.advance(100ms);
  EXPECT_EQ(images_.roots, roots) << "what lives is not collected";
  worker_->apply(feed({task("t1")}));
  runtime_.end(id, {0, false, {}});
  world_.advance(100ms);
  EXPECT_TRUE(images_.roots.empty());
}

TEST_F(WorkerTest, NetworkParametersOfTheHostAreNotAContainers) {
  v1::KeyValue& sysctl = *revision_.mutable_spec()->mutable_container()->add_sysctls();
  sysctl.set_key("net.core.somaxconn");
  sysctl.set_value("7");
  v1::FeedUpdate step = feed({task("t1")});
  step.mutable_tasks(0)->mutable_networks(0)->mutable_spec()->set_driver("host");
  worker_->apply(step);
  world_.advance(100ms);
  EXPECT_EQ(state("t1"), v1::TASK_REJECTED);
  EXPECT_EQ(error("t1"), "sysctl \"net.core.somaxconn\" not allowed in host network namespace");
}

TEST_F(WorkerTest, EndsAreReportedAndCleanedAndTheLogStays) {
  worker_->apply(feed({task("t1")}));
  world_.advance(100ms);
  const std::string id = container("t1");
  const std::string log = root_ + "/agent/containers/" + id + "/container.log";
  ASSERT_TRUE(write_file_atomic(log, "x", 0600, Durability::kNone).ok());
  runtime_.end(id, {3, false, {}});
  world_.advance(100ms);
  EXPECT_EQ(state("t1"), v1::TASK_FAILED);
  EXPECT_EQ(error("t1"), "task: non-zero exit (3)");
  EXPECT_TRUE(images_.roots.empty());
  EXPECT_TRUE(network_.attached.empty());
  EXPECT_TRUE(runtime_.containers.empty());
  EXPECT_TRUE(fs::exists(log));
  EXPECT_FALSE(fs::exists(root_ + "/agent/containers/" + id + "/hosts"));
  worker_->apply(feed({}));
  world_.advance(100ms);
  EXPECT_FALSE(fs::exists(log)) << "removed with the assignment";
  EXPECT_FALSE(fs::exists(root_ + "/agent/tasks/t1"));
}

TEST_F(WorkerTest, SuccessorAdoptsWithoutStartingAgain) {
  worker_->apply(feed({task("t1"), task("t2")}));
  world_.advance(100ms);
  const std::string one = container("t1");
  const std::string two = container("t2");
  worker_.reset();
  runtime_.containers[one].exited = nullptr;
  runtime_.containers[two].exited = nullptr;
  runtime_.end(two, {9, true, {}});
  last_.clear();
  restart();
  world_.advance(100ms);
  EXPECT_EQ(runtime_.starts, 2);
  EXPECT_EQ(state("t1"), v1::TASK_RUNNING);
  EXPECT_EQ(container("t1"), one);
  EXPECT_EQ(state("t2"), v1::TASK_FAILED);
  EXPECT_EQ(error("t2"), "task: non-zero exit (9): OOM killed");
  worker_->apply(feed({task("t1"), task("t2")}));
  world_.advance(100ms);
  EXPECT_EQ(runtime_.starts, 2);
  runtime_.end(one, {0, false, {}});
  world_.advance(100ms);
  EXPECT_EQ(state("t1"), v1::TASK_COMPLETE);
}

// The record is from before the start: a power cut has taken what was written since.
TEST_F(WorkerTest, AfterARestartOfTheHostNothingOldIsStarted) {
  worker_->apply(feed({task("t1", v1::TASK_READY)}));
  world_.advance(50ms);
  ASSERT_EQ(state("t1"), v1::TASK_READY);
  const auto record = read_file(root_ + "/agent/tasks/t1");
  ASSERT_TRUE(record);
  worker_->apply(feed({task("t1")}));
  world_.advance(50ms);
  ASSERT_EQ(runtime_.starts, 1);
  ASSERT_EQ(state("t1"), v1::TASK_RUNNING);
  runtime_.containers.clear();
  network_.attached.clear();
  ASSERT_TRUE(write_file_atomic(root_ + "/agent/tasks/t1", *record, 0600, Durability::kNone).ok());
  boot_id_ = "the second";
  restart();
  EXPECT_EQ(state("t1"), v1::TASK_FAILED);
  EXPECT_EQ(error("t1"), "task: the container is gone (was the host restarted?)");
  worker_->apply(feed({task("t1"), task("t2", v1::TASK_READY)}));
  world_.advance(50ms);
  EXPECT_EQ(state("t1"), v1::TASK_FAILED);
  // The same life of the host goes on as ever.
  restart();
  EXPECT_EQ(state("t2"), v1::TASK_READY);
  worker_->apply(feed({task("t2")}));
  world_.advance(50ms);
  EXPECT_EQ(state("t2"), v1::TASK_RUNNING);
  EXPECT_EQ(runtime_.starts, 2);
}

TEST_F(WorkerTest, StopDrainsBeforeTheSignalAndEscalates) {
  publish(v1::PortConfig::INGRESS, 8080);
  runtime_.ignores_term = true;
  revision_.mutable_spec()->mutable_container()->set_stop_grace_period_ns(Duration(3s).count());
  worker_->apply(feed({task("t1")}));
  world_.advance(100ms);
  runtime_.events.clear();
  worker_->apply(feed({task("t1", v1::TASK_SHUTDOWN)}, false));
  world_.advance(1s);
  EXPECT_EQ(last_["t1"].endpoint_state(), v1::ENDPOINT_RELEASED);
  EXPECT_EQ(runtime_.events, (std::vector<std::string>{"ports 0", "signal 2"}))
      << "the image's stop signal, after its backend is gone";
  world_.advance(4s);
  EXPECT_EQ(runtime_.events.back(), "signal 9");
  EXPECT_EQ(state("t1"), v1::TASK_SHUTDOWN);
  EXPECT_EQ(error("t1"), "");
}

// As when the host is busy, or its resolver does not answer.
TEST_F(WorkerTest, TheGraceIsWholeHoweverLateTheSignalComes) {
  runtime_.ignores_term = true;
  revision_.mutable_spec()->mutable_container()->set_stop_grace_period_ns(Duration(3s).count());
  worker_->apply(feed({task("t1")}));
  world_.advance(100ms);
  pool_.set_delay(2500ms);
  worker_->apply(feed({task("t1", v1::TASK_SHUTDOWN)}, false));
  world_.advance(4s);
  pool_.set_delay(1ms);
  while (state("t1") != v1::TASK_SHUTDOWN) world_.advance(10ms);
  const std::vector<std::pair<int, TimePoint>>& sent = runtime_.sent;
  ASSERT_EQ(sent.size(), 2U);
  EXPECT_EQ(sent[0].first, SIGINT);
  EXPECT_EQ(sent[1].first, SIGKILL);
  EXPECT_GE(sent[1].second - sent[0].second, Duration(3s));
}

// Its record is lost with a power cut, and it may have run.
TEST_F(WorkerTest, WhatTheManagerHasSeenStartIsNotBegunAnew) {
  v1::Task starting = task("t1");
  starting.mutable_status()->set_state(v1::TASK_STARTING);
  v1::Task ready = task("t2");
  ready.mutable_status()->set_state(v1::TASK_READY);
  worker_->apply(feed({starting, ready}));
  world_.advance(100ms);
  EXPECT_EQ(state("t1"), v1::TASK_FAILED);
  EXPECT_EQ(state("t2"), v1::TASK_RUNNING);
}

TEST_F(WorkerTest, ErrorsBeforeAndAfterStarting) {
  images_.error = not_found("No such image: busybox");
  worker_->apply(feed({task("t1")}));
  world_.advance(100ms);
  EXPECT_EQ(state("t1"), v1::TASK_REJECTED);
  EXPECT_EQ(error("t1"), "No such image: busybox");
  images_.error = {};
  runtime_.start_error = not_found("command not found: \"serve\"");
  worker_->apply(feed({task("t2")}, false));
  world_.advance(100ms);
  EXPECT_EQ(state("t2"), v1::TASK_FAILED);
  EXPECT_EQ(error("t2"), "command not found: \"serve\"");
  EXPECT_TRUE(images_.roots.empty());
}

TEST_F(WorkerTest, MissingRevisionIsSaid) {
  v1::FeedUpdate step = feed({task("t1")});
  step.clear_revisions();
  worker_->apply(step);
  world_.advance(100ms);
  EXPECT_EQ(state("t1"), v1::TASK_REJECTED);
  EXPECT_NE(error("t1").find("did not send revision 1"), std::string::npos);
}

TEST_F(WorkerTest, AnUnknownStopSignalIsRefusedBeforeTheStart) {
  revision_.mutable_spec()->mutable_container()->set_stop_signal("SIGNONE");
  worker_->apply(feed({task("t1")}));
  world_.advance(1s);
  EXPECT_EQ(state("t1"), v1::TASK_REJECTED);
  EXPECT_NE(error("t1").find("SIGNONE"), std::string::npos) << error("t1");
  EXPECT_TRUE(runtime_.containers.empty());
}

TEST_F(WorkerTest, WaitsForItsSecrets) {
  auto& secret = *revision_.mutable_spec()->mutable_container()->add_secrets();
  secret.set_secret_id("sec1");
  secret.set_secret_name("password");
  worker_->apply(feed({task("t1")}));
  world_.advance(1s);
  EXPECT_EQ(state("t1"), v1::TASK_PREPARING);
  EXPECT_EQ(last_["t1"].status().message(), "waiting for secret password");
  worker_->apply(feed({task("t1", v1::TASK_SHUTDOWN)}, false));
  world_.advance(100ms);
  EXPECT_EQ(state("t1"), v1::TASK_SHUTDOWN) << "also while it waits";
}

TEST_F(WorkerTest, WaitsForItsSecretsOnlySoLong) {
  auto& secret = *revision_.mutable_spec()->mutable_container()->add_secrets();
  secret.set_secret_id("sec1");
  secret.set_secret_name("password");
  auto& config = *revision_.mutable_spec()->mutable_container()->add_configs();
  config.set_config_id("con1");
  config.set_config_name("site");
  worker_->apply(feed({task("t1")}));
  world_.advance(1s);
  v1::FeedUpdate step;
  step.mutable_feed()->set_kind(v1::FeedId::SECRETS);
  step.set_complete(true);
  step.add_secrets()->set_id("sec1");
  worker_->apply(step);
  world_.advance(1s);
  EXPECT_EQ(last_["t1"].status().message(), "waiting for config site");
  world_.advance(Worker::kPayloadLimit - 3s);
  EXPECT_EQ(state("t1"), v1::TASK_PREPARING) << "the time counts from the beginning";
  world_.advance(2s);
  EXPECT_EQ(state("t1"), v1::TASK_REJECTED);
  EXPECT_EQ(error("t1"), "config site did not come from the manager within 60 s");
}

TEST_F(WorkerTest, SecretsThatComeInTimeEndTheWaiting) {
  auto& secret = *revision_.mutable_spec()->mutable_container()->add_secrets();
  secret.set_secret_id("sec1");
  secret.set_secret_name("password");
  secret.mutable_file()->set_name("password");
  secret.mutable_file()->set_mode(0400);
  worker_->apply(feed({task("t1")}));
  world_.advance(1s);
  v1::FeedUpdate step;
  step.mutable_feed()->set_kind(v1::FeedId::SECRETS);
  step.set_complete(true);
  step.add_secrets()->set_id("sec1");
  step.mutable_secrets(0)->set_name("password");
  step.mutable_secrets(0)->set_template_driver("golang");
  step.mutable_secrets(0)->set_data("{{.Hunter2}}");
  worker_->apply(step);
  world_.advance(1s);
  // Root's mounts are the business of integration tests: the template is what fails here.
  EXPECT_EQ(state("t1"), v1::TASK_REJECTED);
  EXPECT_EQ(error("t1"), "secret password cannot be expanded: template line 1, column 3");
  world_.advance(Worker::kPayloadLimit);
  EXPECT_EQ(state("t1"), v1::TASK_REJECTED);
}

const std::string kTaken =
    "port 80/tcp is taken by another program of this host (`ss -lntup sport = :80` tells which)";

TEST_F(WorkerTest, HostPortThatIsTakenFailsTheTask) {
  publish(v1::PortConfig::HOST, 80);
  network_.taken = {80};
  worker_->apply(feed({task("t1")}));
  world_.advance(1s);
  EXPECT_EQ(state("t1"), v1::TASK_FAILED);
  EXPECT_EQ(error("t1"), kTaken);
  EXPECT_TRUE(network_.published.empty());
}

TEST_F(WorkerTest, IngressPortThatIsTakenIsOnlySaid) {
  publish(v1::PortConfig::INGRESS, 80);
  network_.taken = {80};
  worker_->apply(feed({task("t1")}));
  world_.advance(1s);
  EXPECT_EQ(state("t1"), v1::TASK_RUNNING);
  EXPECT_EQ(last_["t1"].status().message(), "started; " + kTaken);
}

TEST_F(WorkerTest, IngressPortIsTakenOverOnceItIsFree) {
  publish(v1::PortConfig::INGRESS, 80);
  network_.taken = {80};
  worker_->apply(feed({task("t1")}));
  world_.advance(25s);
  EXPECT_EQ(last_["t1"].status().message(), "started; " + kTaken);
  network_.taken.clear();
  network_.published.clear();
  world_.advance(11s);
  EXPECT_EQ(network_.published.size(), 1u) << "tried again without anybody asking";
  EXPECT_EQ(last_["t1"].status().message(), "started");
  runtime_.events.clear();
  world_.advance(60s);
  EXPECT_TRUE(runtime_.events.empty()) << "and then left alone";
}

TEST_F(WorkerTest, HostPortLeadsInBothFamiliesThatTheContainerHas) {
  publish(v1::PortConfig::HOST, 80);
  v1::Task dual = task("t1");
  dual.mutable_networks(0)->add_addresses("fd00::2/64");
  worker_->apply(feed({dual}));
  world_.advance(1s);
  ASSERT_EQ(network_.published.size(), 1u);
  EXPECT_EQ(network_.published[0].backends, (std::vector<std::string>{"10.0.0.2", "fd00::2"}));
  EXPECT_EQ(network_.published[0].containers.count("fd00::2"), 1u);
}

// Only the first bridge network has the default route, and so answers to clients elsewhere.
TEST_F(WorkerTest, HostPortLeadsByIPv6WhereAnswersGoOut) {
  publish(v1::PortConfig::HOST, 80);
  for (const std::string driver : {"bridge", "overlay"}) {
    driver_ = driver;
    v1::Task two = task("t-" + driver);
    v1::NetworkAttachment& second = *two.add_networks();
    second.set_network_id("n2");
    second.add_addresses("10.0.1.2/24");
    second.add_addresses("fd01::2/64");
    v1::FeedUpdate step = feed({two});
    v1::Network& network = *step.mutable_tasks(0)->add_networks();
    network.set_id("n2");
    network.mutable_spec()->set_driver(driver);
    worker_->apply(step);
    world_.advance(2s);
    ASSERT_EQ(network_.published.size(), 1u);
    std::vector<std::string> want{"10.0.0.2"};
    if (driver == "overlay") want.push_back("fd01::2");
    EXPECT_EQ(network_.published[0].backends, want) << driver;
  }
}

TEST_F(WorkerTest, HostPortChosenByTheNodeIsReported) {
  publish(v1::PortConfig::HOST, 0);
  worker_->apply(feed({task("t1")}));
  world_.advance(1s);
  ASSERT_EQ(last_["t1"].status().host_ports_size(), 1);
  EXPECT_EQ(last_["t1"].status().host_ports(0).published_port(), 40000u);
  ASSERT_EQ(network_.published.size(), 1u);
  EXPECT_EQ(network_.published[0].port.published_port(), 40000u);
  EXPECT_EQ(network_.published[0].backends, std::vector<std::string>{"10.0.0.2"});
  const std::string& container = last_["t1"].status().container().container_id();
  EXPECT_NE(container, "");
  EXPECT_EQ(network_.published[0].containers.at("10.0.0.2"), container);
}

TEST_F(WorkerTest, LeftOversOfUnknownContainersAreRemoved) {
  images_.roots.insert("ghost");
  runtime_.containers["ghost2"].state.phase = ContainerState::Phase::kRunning;
  network_.attached.insert("ghost3");
  fs::create_directories(root_ + "/agent/containers/ghost4");
  restart();
  EXPECT_TRUE(images_.roots.empty());
  EXPECT_TRUE(runtime_.containers.empty());
  EXPECT_TRUE(network_.attached.empty());
  EXPECT_FALSE(fs::exists(root_ + "/agent/containers/ghost4"));
}

TEST_F(WorkerTest, DamagedRecordIsMovedAside) {
  fs::create_directories(root_ + "/agent/tasks");
  ASSERT_TRUE(write_file_atomic(root_ + "/agent/tasks/bad", "junk", 0600, Durability::kNone).ok());
  restart();
  EXPECT_TRUE(fs::exists(root_ + "/agent/tasks/bad.unreadable"));
  EXPECT_TRUE(worker_->tasks().empty());
}

TEST_F(WorkerTest, LeaveStopsEverything) {
  worker_->apply(feed({task("t1"), task("t2")}));
  world_.advance(100ms);
  bool left = false;
  worker_->leave([&left] { left = true; });
  world_.advance(1s);
  EXPECT_TRUE(left);
  EXPECT_TRUE(runtime_.containers.empty());
  EXPECT_TRUE(fs::is_empty(root_ + "/agent/tasks"));
  EXPECT_TRUE(fs::is_empty(root_ + "/agent/containers"));
}

TEST_F(WorkerTest, LocalViewResolves) {
  worker_->apply(feed({task("t1"), task("t2")}));
  world_.advance(100ms);
  const auto tasks = worker_->tasks();
  const std::string id = container("t1");
  for (const std::string& name :
       {id, id.substr(0, 12), std::string("t1"), std::string("web.1.t1")}) {
    const auto found = resolve_container(tasks, name);
    ASSERT_TRUE(found.has_value()) << name;
    EXPECT_EQ(found->container_id(), id);
  }
  EXPECT_TRUE(resolve_container(tasks, "web.1").has_value());
  EXPECT_EQ(resolve_container(tasks, "t").error().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(resolve_container(tasks, "zz").error().message(), "no such container: zz");
  NodeContext node;
  const auto list = list_containers(tasks, node, false);
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].state(), "running");
  EXPECT_EQ(list[0].command(), "serve");
}

}  // namespace
}  // namespace muster::agent
