#include "agent/worker/task_machine.h"

#include <gtest/gtest.h>

#include <signal.h>

#include <algorithm>
#include <optional>

namespace muster::agent {
namespace {

using A = TaskAction;

constexpr WallTime kNow{1'000'000'000'000};

v1::LocalTask local(v1::TaskState desired) {
  v1::LocalTask task;
  task.mutable_assignment()->mutable_task()->set_id("t1");
  task.mutable_assignment()->mutable_task()->set_desired_state(desired);
  task.mutable_status()->set_state(v1::TASK_ASSIGNED);
  task.set_container_id("c1");
  return task;
}

v1::Task desire(v1::TaskState state, int64_t start_after_ns = 0) {
  v1::Task task;
  task.set_id("t1");
  task.set_desired_state(state);
  task.set_start_after_ns(start_after_ns);
  return task;
}

TaskMachine machine(v1::TaskState desired, TaskTimes times = {}) {
  return TaskMachine(local(desired), times);
}

TaskMachine running(TaskTimes times = {}) {
  TaskMachine m = machine(v1::TASK_RUNNING, times);
  m.begin(kNow);
  m.prepared(kNow);
  m.started(42, kNow);
  return m;
}

v1::TaskState state(const TaskMachine& m) {
  return m.task().status().state();
}
std::string error(const TaskMachine& m) {
  return m.task().status().error();
}

TEST(TaskMachine, StraightToRunning) {
  TaskMachine m = machine(v1::TASK_RUNNING);
  EXPECT_EQ(m.begin(kNow), (TaskActions{A::kSave, A::kReport, A::kPrepare}));
  EXPECT_EQ(state(m), v1::TASK_PREPARING);
  EXPECT_EQ(m.progress("pulling image", kNow), TaskActions{A::kReport});
  EXPECT_EQ(m.prepared(kNow), (TaskActions{A::kSave, A::kReport, A::kSave, A::kReport, A::kStart}));
  EXPECT_EQ(state(m), v1::TASK_STARTING);
  EXPECT_FALSE(m.routable());
  EXPECT_EQ(m.started(42, kNow), (TaskActions{A::kWatch, A::kSave, A::kReport, A::kPublishPorts}));
  EXPECT_EQ(state(m), v1::TASK_RUNNING);
  EXPECT_TRUE(m.routable());
}

TEST(TaskMachine, WaitsInReadyForTheDesiredState) {
  TaskMachine m = machine(v1::TASK_READY);
  m.begin(kNow);
  EXPECT_EQ(m.prepared(kNow), (TaskActions{A::kSave, A::kReport}));
  EXPECT_EQ(state(m), v1::TASK_READY);
  EXPECT_EQ(m.assigned(desire(v1::TASK_RUNNING), kNow).back(), A::kStart);
}

// The leader keeps restart delays, and says when they are over; its clock may be any number of
// hours ahead of the node's.
TEST(TaskMachine, WhatIsToRunRunsWhateverTheClocksSay) {
  TaskMachine m = machine(v1::TASK_READY);
  m.begin(kNow);
  m.prepared(kNow);
  const auto later = kNow + Duration(5h);
  EXPECT_EQ(m.assigned(desire(v1::TASK_RUNNING, later.unix_ns), kNow).back(), A::kStart);
  EXPECT_EQ(state(m), v1::TASK_STARTING);
}

TEST(TaskMachine, ExitRules) {
  struct Case {
    ContainerExit exit;
    v1::TaskState want;
    const char* error;
  };
  const Case cases[] = {
      {{0, false, {}}, v1::TASK_COMPLETE, ""},
      {{3, false, {}}, v1::TASK_FAILED, "task: non-zero exit (3)"},
      {{137, true, {}}, v1::TASK_FAILED, "task: non-zero exit (137): OOM killed"},
      {{139, false, {}}, v1::TASK_FAILED, "task: non-zero exit (139): killed by SIGSEGV"},
  };
  for (const Case& c : cases) {
    TaskMachine m = running();
    EXPECT_EQ(m.exited(c.exit, kNow),
              (TaskActions{A::kSave, A::kReport, A::kPublishPorts, A::kCleanUp}));
    EXPECT_EQ(state(m), c.want);
    EXPECT_EQ(error(m), c.error);
    EXPECT_EQ(m.task().status().container().exit_code(), c.exit.exit_code);
    EXPECT_EQ(m.task().endpoint_state(), v1::ENDPOINT_ABSENT);
    EXPECT_EQ(m.cleaned_up(kNow), TaskActions{A::kSave});
    EXPECT_TRUE(m.task().cleaned());
  }
}

TEST(TaskMachine, FailuresBeforeStartingReject) {
  TaskMachine before = machine(v1::TASK_RUNNING);
  before.begin(kNow);
  before.prepare_failed(not_found("No such image: x"), kNow);
  EXPECT_EQ(state(before), v1::TASK_REJECTED);
  EXPECT_EQ(error(before), "No such image: x");
  TaskMachine after = machine(v1::TASK_RUNNING);
  after.begin(kNow);
  after.prepared(kNow);
  EXPECT_EQ(after.start_failed(not_found("command not found: \"x\""), kNow).back(), A::kCleanUp);
  EXPECT_EQ(state(after), v1::TASK_FAILED);
}

TEST(TaskMachine, StopDrainsThenSignalsThenKills) {
  TaskTimes times;
  times.stop_grace = 3s;
  TaskMachine m = running(times);
  EXPECT_EQ(m.assigned(desire(v1::TASK_SHUTDOWN), kNow),
            (TaskActions{A::kSave, A::kSave, A::kReport, A::kPublishPorts, A::kSignalStop}));
  EXPECT_EQ(state(m), v1::TASK_RUNNING);
  EXPECT_EQ(m.task().endpoint_state(), v1::ENDPOINT_RELEASED);
  EXPECT_FALSE(m.routable());
  EXPECT_EQ(m.signalled(), TaskActions{A::kArmTimer}) << "the grace begins with the signal";
  EXPECT_EQ(m.timer_delay(), Duration(3s));
  EXPECT_EQ(m.timer(kNow + Duration(3s)), (TaskActions{A::kReport, A::kSignalKill, A::kArmTimer}));
  EXPECT_EQ(m.timer(kNow), (TaskActions{A::kSignalKill, A::kArmTimer})) << "again until it is dead";
  EXPECT_TRUE(m.signalled().empty());
  m.exited({137, false, {}}, kNow);
  EXPECT_EQ(state(m), v1::TASK_SHUTDOWN);
  EXPECT_EQ(error(m), "");
  EXPECT_TRUE(m.signalled().empty());
}

TEST(TaskMachine, NoGraceKillsAtOnce) {
  TaskTimes times;
  times.stop_grace = Duration(0);
  TaskMachine m = running(times);
  const TaskActions actions = m.assigned(desire(v1::TASK_REMOVE), kNow);
  EXPECT_EQ(std::count(actions.begin(), actions.end(), A::kSignalKill), 1);
  EXPECT_EQ(std::count(actions.begin(), actions.end(), A::kSignalStop), 0);
}

TEST(TaskMachine, DesiredStateNeverGoesBack) {
  TaskMachine m = running();
  m.assigned(desire(v1::TASK_SHUTDOWN), kNow);
  EXPECT_TRUE(m.assigned(desire(v1::TASK_RUNNING), kNow).empty());
  EXPECT_EQ(m.task().assignment().task().desired_state(), v1::TASK_SHUTDOWN);
}

TEST(TaskMachine, StopAtEveryPointOfTheWay) {
  const auto stop = desire(v1::TASK_SHUTDOWN);
  {
    TaskMachine m = machine(v1::TASK_SHUTDOWN);
    EXPECT_EQ(m.begin(kNow), (TaskActions{A::kSave, A::kReport})) << "never accepted";
    EXPECT_EQ(state(m), v1::TASK_SHUTDOWN);
  }
  {
    TaskMachine m = machine(v1::TASK_RUNNING);
    m.begin(kNow);
    EXPECT_EQ(m.assigned(stop, kNow), (TaskActions{A::kSave, A::kCancelPrepare}));
    EXPECT_EQ(m.prepare_failed(Status(StatusCode::kCancelled, "x"), kNow).back(), A::kCleanUp);
    EXPECT_EQ(state(m), v1::TASK_SHUTDOWN);
  }
  {
    TaskMachine m = machine(v1::TASK_RUNNING);
    m.begin(kNow);
    m.assigned(stop, kNow);
    EXPECT_EQ(m.prepared(kNow).back(), A::kCleanUp) << "cancelled too late";
    EXPECT_EQ(state(m), v1::TASK_SHUTDOWN);
  }
  {
    TaskMachine m = machine(v1::TASK_RUNNING);
    m.begin(kNow);
    m.prepared(kNow);
    m.assigned(stop, kNow);
    EXPECT_EQ(state(m), v1::TASK_STARTING);
    const TaskActions actions = m.started(42, kNow);
    EXPECT_EQ(std::count(actions.begin(), actions.end(), A::kSignalStop), 1);
  }
}

TEST(TaskMachine, UnassignedIsStoppedCleanedForgotten) {
  TaskMachine m = running();
  EXPECT_EQ(m.removed(kNow).back(), A::kSignalStop);
  EXPECT_TRUE(m.removed(kNow).empty());
  EXPECT_EQ(m.exited({0, false, {}}, kNow).back(), A::kCleanUp);
  EXPECT_EQ(m.cleaned_up(kNow), TaskActions{A::kForget});
  TaskMachine over = running();
  over.exited({1, false, {}}, kNow);
  over.cleaned_up(kNow);
  EXPECT_EQ(over.removed(kNow), TaskActions{A::kForget});
}

// What the managers say of a task that is to stop.
v1::Task leave(v1::EndpointState endpoint, std::optional<Duration> drain = Duration(5s),
               v1::TaskState desired = v1::TASK_SHUTDOWN) {
  v1::Task task = desire(desired);
  task.set_endpoint_state(endpoint);
  if (drain) task.mutable_drain()->set_timeout_ns(drain->count());
  return task;
}

TEST(TaskMachine, DrainingWaitsForTheManagersThenForConnectionsThenStops) {
  TaskTimes times;
  times.stop_grace = 3s;
  TaskMachine m = running(times);
  EXPECT_EQ(m.assigned(leave(v1::ENDPOINT_DRAINING), kNow),
            (TaskActions{A::kSave, A::kSave, A::kReport, A::kPublishPorts, A::kArmTimer}));
  EXPECT_EQ(m.timer_delay(), TaskMachine::kReleaseLimit);
  EXPECT_FALSE(m.routable());
  EXPECT_FALSE(m.up()) << "its health is nobody's business any more";
  EXPECT_EQ(m.task().status().message(), "draining: new connections go elsewhere");
  EXPECT_TRUE(m.assigned(leave(v1::ENDPOINT_DRAINING), kNow).empty()) << "said once more";
  EXPECT_TRUE(m.flows_ended(kNow).empty()) << "new ones may come yet";
  EXPECT_FALSE(m.watches_flows());

  EXPECT_EQ(m.assigned(leave(v1::ENDPOINT_RELEASED), kNow),
            (TaskActions{A::kSave, A::kPublishPorts, A::kArmTimer, A::kWatchFlows}));
  EXPECT_EQ(m.timer_delay(), Duration(5s));
  EXPECT_TRUE(m.watches_flows());
  EXPECT_EQ(m.task().endpoint_state(), v1::ENDPOINT_DRAINING);

  EXPECT_EQ(m.flows_ended(kNow), (TaskActions{A::kSave, A::kReport, A::kSignalStop}));
  EXPECT_EQ(m.task().endpoint_state(), v1::ENDPOINT_RELEASED);
  EXPECT_TRUE(m.flows_ended(kNow).empty());
  EXPECT_EQ(m.signalled(), TaskActions{A::kArmTimer});
  EXPECT_EQ(m.timer_delay(), Duration(3s));
  m.exited({143, false, {}}, kNow);
  EXPECT_EQ(state(m), v1::TASK_SHUTDOWN);
  EXPECT_EQ(m.task().endpoint_state(), v1::ENDPOINT_ABSENT);
}

TEST(TaskMachine, TheDrainTimeEnds) {
  TaskMachine m = running();
  m.assigned(leave(v1::ENDPOINT_DRAINING), kNow);
  m.assigned(leave(v1::ENDPOINT_RELEASED), kNow);
  EXPECT_EQ(m.timer(kNow), (TaskActions{A::kSave, A::kReport, A::kSignalStop}));
}

TEST(TaskMachine, WithoutADrainTimeOnlyNodesAreWaitedFor) {
  TaskMachine m = running();
  EXPECT_EQ(m.assigned(leave(v1::ENDPOINT_DRAINING, Duration(0)), kNow).back(), A::kArmTimer);
  EXPECT_EQ(m.assigned(leave(v1::ENDPOINT_RELEASED, Duration(0)), kNow).back(), A::kSignalStop);
}

TEST(TaskMachine, NobodyElseLeadsToItSoOnlyItsConnectionsAreWaitedFor) {
  for (const auto said : {v1::ENDPOINT_RELEASED, v1::ENDPOINT_ABSENT}) {
    TaskMachine m = running();
    EXPECT_EQ(m.assigned(leave(said), kNow),
              (TaskActions{A::kSave, A::kSave, A::kReport, A::kPublishPorts, A::kArmTimer,
                           A::kWatchFlows}));
  }
}

// The managers may go away for good in between.
TEST(TaskMachine, NoWordFromTheManagersIsWaitedForForLong) {
  TaskMachine m = running();
  m.assigned(leave(v1::ENDPOINT_DRAINING), kNow);
  EXPECT_EQ(m.timer(kNow), (TaskActions{A::kSave, A::kPublishPorts, A::kArmTimer, A::kWatchFlows}));
  EXPECT_EQ(m.timer_delay(), Duration(5s));
  EXPECT_EQ(m.timer(kNow).back(), A::kSignalStop);
  TaskMachine off = running();
  off.assigned(leave(v1::ENDPOINT_DRAINING, Duration(0)), kNow);
  EXPECT_EQ(off.timer(kNow).back(), A::kSignalStop);
}

TEST(TaskMachine, WhatIsNotWaitedForStopsAtOnce) {
  const auto counts = [](const TaskActions& actions, A action) {
    return std::count(actions.begin(), actions.end(), action);
  };
  {
    TaskMachine m = running();  // of a job, or of a service that is gone
    EXPECT_EQ(counts(m.assigned(leave(v1::ENDPOINT_RELEASED, std::nullopt), kNow), A::kSignalStop),
              1);
  }
  for (const bool released : {false, true}) {  // its service is removed meanwhile
    TaskMachine m = running();
    m.assigned(leave(v1::ENDPOINT_DRAINING), kNow);
    if (released) m.assigned(leave(v1::ENDPOINT_RELEASED), kNow);
    const auto gone = leave(v1::ENDPOINT_RELEASED, std::nullopt, v1::TASK_REMOVE);
    TaskActions stops{A::kSave, A::kSave, A::kReport, A::kSignalStop};
    // Its node may have led to it until now.
    if (!released) stops.insert(stops.begin() + 1, A::kPublishPorts);
    EXPECT_EQ(m.assigned(gone, kNow), stops) << released;
  }
  for (const bool released : {false, true}) {  // the node has left, or is to have it no more
    TaskMachine m = running();
    m.assigned(leave(v1::ENDPOINT_DRAINING), kNow);
    if (released) m.assigned(leave(v1::ENDPOINT_RELEASED), kNow);
    const TaskActions stops = m.removed(kNow);
    EXPECT_EQ(counts(stops, A::kSignalStop), 1) << released;
    EXPECT_EQ(counts(stops, A::kPublishPorts), released ? 0 : 1);
    m.exited({0, false, {}}, kNow);
    EXPECT_EQ(m.cleaned_up(kNow), TaskActions{A::kForget});
  }
  {
    TaskMachine m = running();  // it is ill
    EXPECT_EQ(counts(m.unhealthy("unhealthy container", kNow), A::kSignalStop), 1);
    EXPECT_EQ(counts(m.assigned(leave(v1::ENDPOINT_DRAINING), kNow), A::kSignalStop), 0) << "once";
  }
  TaskTimes times;
  times.stop_grace = Duration(0);
  TaskMachine m = running(times);  // no grace is no reason not to drain
  EXPECT_EQ(counts(m.assigned(leave(v1::ENDPOINT_DRAINING), kNow), A::kSignalKill), 0);
  m.assigned(leave(v1::ENDPOINT_RELEASED), kNow);
  EXPECT_EQ(counts(m.flows_ended(kNow), A::kSignalKill), 1);
}

TEST(TaskMachine, OneThatEndsWhileItDrainsHasEnded) {
  for (const bool released : {false, true}) {
    TaskMachine m = running();
    m.assigned(leave(v1::ENDPOINT_DRAINING), kNow);
    if (released) m.assigned(leave(v1::ENDPOINT_RELEASED), kNow);
    EXPECT_EQ(m.exited({1, false, {}}, kNow).back(), A::kCleanUp);
    EXPECT_EQ(state(m), v1::TASK_SHUTDOWN);
    EXPECT_TRUE(m.timer(kNow).empty());
  }
}

TEST(TaskMachine, OneThatIsReadyOnlyAfterItWasToldToStopHasConnectionsOfItsOwnNode) {
  TaskMachine m = machine(v1::TASK_RUNNING);
  m.begin(kNow);
  m.prepared(kNow);
  m.assigned(leave(v1::ENDPOINT_ABSENT), kNow);
  EXPECT_EQ(m.started(42, kNow).back(), A::kWatchFlows);
}

v1::Health health(v1::Health::State state, int exit_code = 0, const std::string& output = "") {
  v1::Health out;
  out.set_state(state);
  v1::Health::Probe& probe = *out.add_probes();
  probe.set_exit_code(exit_code);
  probe.set_output(output);
  return out;
}

TaskTimes checked() {
  TaskTimes times;
  times.has_healthcheck = true;
  return times;
}

TEST(TaskMachine, HealthDecidesRunning) {
  TaskMachine m = running(checked());
  EXPECT_EQ(state(m), v1::TASK_STARTING);
  EXPECT_EQ(m.task().status().health().state(), v1::Health::STARTING);
  EXPECT_FALSE(m.routable());
  EXPECT_EQ(m.probed(health(v1::Health::HEALTHY), true, kNow),
            (TaskActions{A::kSave, A::kReport, A::kPublishPorts}));
  EXPECT_EQ(state(m), v1::TASK_RUNNING);
  EXPECT_TRUE(m.routable());
  EXPECT_EQ(m.probed(health(v1::Health::UNHEALTHY, 7, "no\nanswer\n"), true, kNow),
            (TaskActions{A::kSave, A::kReport, A::kPublishPorts, A::kSignalStop}));
  EXPECT_FALSE(m.routable());
  EXPECT_FALSE(m.up());
  m.exited({0, false, {}}, kNow);
  EXPECT_EQ(state(m), v1::TASK_FAILED);
  EXPECT_EQ(error(m), "unhealthy container: health check failed with exit code 7: no answer");
  EXPECT_EQ(m.task().status().health().state(), v1::Health::UNHEALTHY);
}

// A write to the store per probe of every container would be most of what a cluster does.
TEST(TaskMachine, OnlyNewsOfHealthIsReported) {
  TaskMachine m = running(checked());
  const WallTime since = WallTime{m.task().status().timestamp_ns()};
  EXPECT_EQ(m.probed(health(v1::Health::STARTING, 1, "refused"), true, kNow + 5s),
            (TaskActions{A::kSave, A::kReport}));
  EXPECT_EQ(m.task().status().message(),
            "waiting to become healthy; health check failed with exit code 1: refused");
  EXPECT_EQ(m.task().status().timestamp_ns(), since.unix_ns);
  EXPECT_EQ(m.probed(health(v1::Health::STARTING, 1, "refused"), false, kNow), TaskActions{});
  m.probed(health(v1::Health::HEALTHY), true, kNow);
  EXPECT_EQ(m.task().status().message(), "started");
  EXPECT_EQ(m.probed(health(v1::Health::HEALTHY), false, kNow), TaskActions{});
  EXPECT_EQ(m.probed(health(v1::Health::HEALTHY, 1), true, kNow),
            (TaskActions{A::kSave, A::kReport}));
  EXPECT_EQ(m.task().status().message(), "started");
  // What a probe finds of a container that is being stopped is nobody's business.
  m.removed(kNow);
  EXPECT_EQ(m.probed(health(v1::Health::UNHEALTHY, 137), true, kNow), TaskActions{});
  m.exited({143, false, kNow}, kNow);
  EXPECT_EQ(state(m), v1::TASK_SHUTDOWN);
}

ContainerState found(ContainerState::Phase phase, int exit_code = 0) {
  ContainerState out;
  out.phase = phase;
  out.pid = 77;
  if (phase == ContainerState::Phase::kExited) out.exit = ContainerExit{exit_code, false, {}};
  return out;
}

TEST(TaskMachine, AdoptionTable) {
  using P = ContainerState::Phase;
  struct Case {
    v1::TaskState recorded;
    bool started;
    v1::TaskState desired;
    ContainerState host;
    v1::TaskState want;
    A last;
  };
  const Case cases[] = {
      {v1::TASK_RUNNING, true, v1::TASK_RUNNING, found(P::kRunning), v1::TASK_RUNNING,
       A::kPublishPorts},
      {v1::TASK_STARTING, true, v1::TASK_RUNNING, found(P::kRunning), v1::TASK_RUNNING,
       A::kPublishPorts},
      {v1::TASK_RUNNING, true, v1::TASK_RUNNING, found(P::kExited, 5), v1::TASK_FAILED,
       A::kCleanUp},
      {v1::TASK_RUNNING, true, v1::TASK_RUNNING, found(P::kExited, 0), v1::TASK_COMPLETE,
       A::kCleanUp},
      {v1::TASK_RUNNING, true, v1::TASK_SHUTDOWN, found(P::kExited, 143), v1::TASK_SHUTDOWN,
       A::kCleanUp},
      {v1::TASK_RUNNING, true, v1::TASK_SHUTDOWN, found(P::kRunning), v1::TASK_RUNNING,
       A::kSignalStop},
      {v1::TASK_RUNNING, true, v1::TASK_RUNNING, found(P::kAbsent), v1::TASK_FAILED, A::kCleanUp},
      {v1::TASK_PREPARING, false, v1::TASK_RUNNING, found(P::kAbsent), v1::TASK_PREPARING,
       A::kPrepare},
      {v1::TASK_STARTING, true, v1::TASK_RUNNING, found(P::kCreated), v1::TASK_STARTING,
       A::kPrepare},
      {v1::TASK_READY, false, v1::TASK_SHUTDOWN, found(P::kAbsent), v1::TASK_SHUTDOWN, A::kCleanUp},
      {v1::TASK_FAILED, true, v1::TASK_RUNNING, found(P::kAbsent), v1::TASK_FAILED, A::kCleanUp},
  };
  for (const Case& c : cases) {
    v1::LocalTask task = local(c.desired);
    task.mutable_status()->set_state(c.recorded);
    task.set_started(c.started);
    if (c.recorded == v1::TASK_RUNNING) task.set_endpoint_state(v1::ENDPOINT_READY);
    TaskMachine m(task, {});
    const TaskActions actions = m.adopt(c.host, false, kNow);
    ASSERT_FALSE(actions.empty());
    EXPECT_EQ(state(m), c.want) << v1::TaskState_Name(c.recorded);
    EXPECT_EQ(actions.back(), c.last) << v1::TaskState_Name(c.recorded);
  }
}

// Killed while an unhealthy container was being stopped: the successor must not leave it running
// with nobody sent to it.
TEST(TaskMachine, AHalfStoppedUnhealthyContainerIsStoppedByTheSuccessor) {
  TaskMachine before = running();
  before.unhealthy("unhealthy container: probe failed", kNow);
  TaskMachine m(before.task(), {});
  ContainerState up;
  up.phase = ContainerState::Phase::kRunning;
  up.pid = 42;
  const TaskActions actions = m.adopt(up, false, kNow);
  EXPECT_NE(std::find(actions.begin(), actions.end(), A::kSignalStop), actions.end());
  m.exited({143, false, kNow}, kNow);
  EXPECT_EQ(state(m), v1::TASK_FAILED);
  EXPECT_EQ(error(m), "unhealthy container (musterd was restarted while stopping it)");

  // It may have ended well meanwhile: that does not make it a success.
  TaskMachine ended(before.task(), {});
  ended.adopt(found(ContainerState::Phase::kExited, 0), false, kNow);
  EXPECT_EQ(state(ended), v1::TASK_FAILED);

  // A stop that was asked for remains one.
  TaskMachine stopped = running();
  stopped.removed(kNow);
  TaskMachine next(stopped.task(), {});
  next.adopt(found(ContainerState::Phase::kExited, 143), false, kNow);
  EXPECT_EQ(state(next), v1::TASK_SHUTDOWN);
}

TEST(TaskMachine, TheSuccessorGoesOnWithADrainWhereItWas) {
  const ContainerState up = found(ContainerState::Phase::kRunning);
  const auto last = [&](const TaskMachine& before) {
    TaskMachine m(before.task(), {});
    return m.adopt(up, false, kNow).back();
  };
  TaskMachine m = running();
  m.assigned(leave(v1::ENDPOINT_DRAINING), kNow);
  EXPECT_EQ(last(m), A::kArmTimer) << "waits for the managers";
  m.assigned(leave(v1::ENDPOINT_RELEASED), kNow);
  EXPECT_EQ(last(m), A::kWatchFlows) << "waits for connections";
  m.flows_ended(kNow);
  EXPECT_EQ(last(m), A::kSignalStop) << "waits for nothing more";
  TaskMachine next(m.task(), {});
  next.adopt(found(ContainerState::Phase::kExited, 143), false, kNow);
  EXPECT_EQ(state(next), v1::TASK_SHUTDOWN);

  TaskMachine alone = running();
  alone.assigned(leave(v1::ENDPOINT_DRAINING), kNow);
  alone.timer(kNow);
  EXPECT_EQ(last(alone), A::kWatchFlows) << "the managers were waited for";
}

TEST(TaskMachine, TheSuccessorKnowsTheHealthOfWhatItAdopts) {
  // A task that runs is not unready because musterd was restarted.
  TaskMachine before = running(checked());
  before.probed(health(v1::Health::HEALTHY), true, kNow);
  TaskMachine m(before.task(), checked());
  const ContainerState up = found(ContainerState::Phase::kRunning);
  EXPECT_EQ(m.adopt(up, false, kNow),
            (TaskActions{A::kWatch, A::kWatchHealth, A::kSave, A::kReport, A::kPublishPorts}));
  EXPECT_EQ(state(m), v1::TASK_RUNNING);
  EXPECT_TRUE(m.routable());
  EXPECT_EQ(m.task().status().health().state(), v1::Health::HEALTHY);

  // Found unhealthy before it was ever ready, and killed before the signal went out.
  TaskMachine sick = running(checked());
  sick.probed(health(v1::Health::UNHEALTHY, 1, "down"), true, kNow);
  for (const bool exited : {false, true}) {
    TaskMachine next(sick.task(), checked());
    if (exited) {
      next.adopt(found(ContainerState::Phase::kExited, 0), false, kNow);
    } else {
      const TaskActions actions = next.adopt(up, false, kNow);
      EXPECT_NE(std::find(actions.begin(), actions.end(), A::kSignalStop), actions.end());
      next.exited({143, false, kNow}, kNow);
    }
    EXPECT_EQ(state(next), v1::TASK_FAILED);
    EXPECT_EQ(error(next), "unhealthy container: health check failed with exit code 1: down");
  }
}

}  // namespace
}  // namespace muster::agent
