#include "agent/worker/task_machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/runtime/signals.h"
#include "agent/worker/health_monitor.h"

namespace muster::agent {
namespace {

// A process that survives SIGKILL is stuck in the kernel; it is tried again that often.
constexpr Duration kKillRepeat = 10s;

std::string exit_error(const ContainerExit& exit) {
  std::string text = fmt::format("task: non-zero exit ({})", exit.exit_code);
  if (exit.oom_killed) {
    text += ": OOM killed";
  } else if (exit.exit_code > 128 && exit.exit_code < 128 + 65) {
    text += fmt::format(": killed by {}", signal_name(exit.exit_code - 128));
  }
  return text;
}

std::string unhealthy_reason(const v1::Health& health) {
  return "unhealthy container: " + describe_last_probe(health);
}

// Where a task stays until its check has passed.
std::string waiting_message(const v1::Health& health) {
  constexpr const char* kWaiting = "waiting to become healthy";
  if (health.probes().empty()) return kWaiting;
  return fmt::format("{}; {}", kWaiting, describe_last_probe(health));
}

}  // namespace

TaskMachine::TaskMachine(v1::LocalTask task, TaskTimes times)
    : task_(std::move(task)), times_(times) {}

bool TaskMachine::stop_wanted() const {
  return removed_ || task_.assignment().task().desired_state() >= v1::TASK_SHUTDOWN;
}

void TaskMachine::set_state(v1::TaskState state, const std::string& message, WallTime now) {
  v1::TaskStatus& status = *task_.mutable_status();
  status.set_state(std::max(status.state(), state));
  status.set_message(message);
  status.set_timestamp_ns(now.unix_ns);
}

void TaskMachine::report(TaskActions& out) {
  out.push_back(TaskAction::kSave);
  out.push_back(TaskAction::kReport);
}

void TaskMachine::clean_up(TaskActions& out) {
  phase_ = Phase::kCleaning;
  out.push_back(TaskAction::kCleanUp);
}

void TaskMachine::end(v1::TaskState state, const std::string& message, const std::string& error,
                      WallTime now, TaskActions& out) {
  const bool was_routed = task_.endpoint_state() != v1::ENDPOINT_ABSENT;
  set_state(state, message, now);
  task_.mutable_status()->set_error(error);
  task_.set_endpoint_state(v1::ENDPOINT_ABSENT);
  task_.set_finished_at_ns(now.unix_ns);
  report(out);
  if (was_routed) out.push_back(TaskAction::kPublishPorts);
  clean_up(out);
}

TaskActions TaskMachine::begin(WallTime now) {
  TaskActions out;
  if (stop_wanted()) {
    set_state(v1::TASK_SHUTDOWN, "shutdown requested before the task was accepted", now);
    task_.set_cleaned(true);
    phase_ = Phase::kDone;
    report(out);
    return out;
  }
  set_state(v1::TASK_PREPARING, "preparing", now);
  phase_ = Phase::kPreparing;
  report(out);
  out.push_back(TaskAction::kPrepare);
  return out;
}

TaskActions TaskMachine::adopt(const ContainerState& found, bool host_restarted, WallTime now) {
  using Found = ContainerState::Phase;
  TaskActions out;
  if (ended()) {
    phase_ = Phase::kDone;
    out.push_back(TaskAction::kReport);
    if (!task_.cleaned()) clean_up(out);
    return out;
  }
  const v1::Health& health = task_.status().health();
  const bool found_unhealthy = health.state() == v1::Health::UNHEALTHY;
  const bool half_stopped = task_.endpoint_state() >= v1::ENDPOINT_DRAINING || found_unhealthy;
  if (half_stopped && !task_.stop_asked() && !stop_wanted()) {
    unhealthy_ = found_unhealthy ? unhealthy_reason(health)
                                 : "unhealthy container (musterd was restarted while stopping it)";
  }
  if (found.phase == Found::kExited) {
    phase_ = Phase::kUp;
    task_.mutable_status()->set_state(std::max(task_.status().state(), v1::TASK_RUNNING));
    return exited(*found.exit, now);
  }
  if (found.phase == Found::kRunning) {
    phase_ = Phase::kUp;
    const bool first = task_.status().state() < v1::TASK_RUNNING;
    task_.mutable_status()->mutable_container()->set_pid(found.pid);
    out.push_back(TaskAction::kWatch);
    if (first && !times_.has_healthcheck) {
      set_state(v1::TASK_RUNNING, "started", now);
      task_.set_endpoint_state(v1::ENDPOINT_READY);
    }
    if (times_.has_healthcheck) out.push_back(TaskAction::kWatchHealth);
    report(out);
    out.push_back(TaskAction::kPublishPorts);
    // Nobody is sent to a half-stopped container any more, so it must not go on.
    if (half_stopped || stop_wanted()) stop_container(now, out);
    return out;
  }
  if (task_.status().state() >= v1::TASK_RUNNING || task_.stop_asked() || host_restarted) {
    // It ran, or may have run, and nothing is left of it.
    end(stop_wanted() ? v1::TASK_SHUTDOWN : v1::TASK_FAILED, "container lost",
        stop_wanted() ? "" : "task: the container is gone (was the host restarted?)", now, out);
    return out;
  }
  // Not started yet, or only created: what was prepared is found and completed.
  if (stop_wanted()) {
    end(v1::TASK_SHUTDOWN, "shutdown", "", now, out);
    return out;
  }
  task_.set_started(false);
  phase_ = Phase::kPreparing;
  out.push_back(TaskAction::kReport);
  out.push_back(TaskAction::kPrepare);
  return out;
}

TaskActions TaskMachine::assigned(const v1::Task& task, WallTime now) {
  TaskActions out;
  v1::Task& known = *task_.mutable_assignment()->mutable_task();
  const v1::TaskState desired = std::max(known.desired_state(), task.desired_state());
  const bool same_way_out =
      task.has_drain() == known.has_drain() && task.endpoint_state() == known.endpoint_state();
  if (desired == known.desired_state() && (same_way_out || desired < v1::TASK_SHUTDOWN)) return out;
  known.set_desired_state(desired);
  // One that waited for the managers' word for long enough has let itself go for good.
  const bool let_itself_go = known.endpoint_state() == v1::ENDPOINT_RELEASED &&
                             task.endpoint_state() == v1::ENDPOINT_DRAINING;
  if (!let_itself_go) known.set_endpoint_state(task.endpoint_state());
  known.clear_drain();
  if (task.has_drain()) *known.mutable_drain() = task.drain();
  out.push_back(TaskAction::kSave);
  switch (phase_) {
    case Phase::kPreparing:
      if (stop_wanted()) out.push_back(TaskAction::kCancelPrepare);
      break;
    case Phase::kReady: run_if_wanted(now, out); break;
    case Phase::kUp:
      if (stop_wanted()) stop_container(now, out);
      break;
    case Phase::kLeaving:
      if (!awaits_release()) pass_by_and_drain(now, out);
      break;
    case Phase::kDraining:
      if (!may_drain()) signal_stop(false, now, out);
      break;
    case Phase::kFresh:
    case Phase::kStarting:  // decided when it has started
    case Phase::kStopping:
    case Phase::kCleaning:
    case Phase::kDone: break;
  }
  return out;
}

TaskActions TaskMachine::removed(WallTime now) {
  TaskActions out;
  if (std::exchange(removed_, true)) return out;
  switch (phase_) {
    case Phase::kFresh:
    case Phase::kDone: out.push_back(TaskAction::kForget); break;
    case Phase::kPreparing: out.push_back(TaskAction::kCancelPrepare); break;
    case Phase::kReady: end(v1::TASK_SHUTDOWN, "shutdown", "", now, out); break;
    case Phase::kUp: stop_container(now, out); break;
    case Phase::kLeaving: signal_stop(true, now, out); break;
    case Phase::kDraining: signal_stop(false, now, out); break;
    case Phase::kStarting:
    case Phase::kStopping:
    case Phase::kCleaning: break;
  }
  return out;
}

TaskActions TaskMachine::progress(const std::string& message, WallTime now) {
  TaskActions out;
  if (phase_ != Phase::kPreparing || stop_wanted()) return out;
  set_state(v1::TASK_PREPARING, message, now);
  out.push_back(TaskAction::kReport);  // not worth a write
  return out;
}

TaskActions TaskMachine::prepared(WallTime now) {
  TaskActions out;
  if (phase_ != Phase::kPreparing) return out;
  phase_ = Phase::kReady;
  set_state(v1::TASK_READY, "prepared", now);
  report(out);
  run_if_wanted(now, out);
  return out;
}

void TaskMachine::run_if_wanted(WallTime now, TaskActions& out) {
  if (stop_wanted()) {
    end(v1::TASK_SHUTDOWN, "shutdown", "", now, out);
    return;
  }
  // A restart delay is over when the manager says so: what its clock makes of it says nothing here.
  if (task_.assignment().task().desired_state() <= v1::TASK_READY) return;
  phase_ = Phase::kStarting;
  set_state(v1::TASK_STARTING, "starting", now);
  task_.set_started(true);
  report(out);
  out.push_back(TaskAction::kStart);
}

TaskActions TaskMachine::prepare_failed(const Status& why, WallTime now) {
  TaskActions out;
  if (phase_ != Phase::kPreparing) return out;
  if (stop_wanted()) {
    end(v1::TASK_SHUTDOWN, "shutdown", "", now, out);
  } else {
    end(v1::TASK_REJECTED, "preparing", why.message(), now, out);
  }
  return out;
}

TaskActions TaskMachine::started(int64_t pid, WallTime now) {
  TaskActions out;
  if (phase_ != Phase::kStarting) return out;
  phase_ = Phase::kUp;
  task_.mutable_status()->mutable_container()->set_container_id(task_.container_id());
  task_.mutable_status()->mutable_container()->set_pid(pid);
  task_.set_started_at_ns(now.unix_ns);
  out.push_back(TaskAction::kWatch);
  if (times_.has_healthcheck) {
    task_.mutable_status()->mutable_health()->set_state(v1::Health::STARTING);
    set_state(v1::TASK_STARTING, waiting_message({}), now);
    report(out);
    out.push_back(TaskAction::kWatchHealth);
  } else {
    set_state(v1::TASK_RUNNING, "started", now);
    task_.set_endpoint_state(v1::ENDPOINT_READY);
    report(out);
    out.push_back(TaskAction::kPublishPorts);
  }
  if (stop_wanted()) stop_container(now, out);
  return out;
}

TaskActions TaskMachine::start_failed(const Status& why, WallTime now) {
  TaskActions out;
  if (phase_ != Phase::kStarting) return out;
  if (stop_wanted()) {
    end(v1::TASK_SHUTDOWN, "shutdown", "", now, out);
  } else {
    end(v1::TASK_FAILED, "starting", why.message(), now, out);
  }
  return out;
}

TaskActions TaskMachine::probed(const v1::Health& health, bool news, WallTime now) {
  TaskActions out;
  if (phase_ != Phase::kUp) return out;
  v1::TaskStatus& status = *task_.mutable_status();
  *status.mutable_health() = health;
  if (health.state() == v1::Health::UNHEALTHY) return unhealthy(unhealthy_reason(health), now);
  const bool waits = status.state() < v1::TASK_RUNNING;
  if (waits && health.state() == v1::Health::HEALTHY) {
    became_healthy(now, out);
  } else if (news) {
    // Since when it waits stays as it is.
    if (waits) status.set_message(waiting_message(health));
    report(out);
  }
  return out;
}

void TaskMachine::became_healthy(WallTime now, TaskActions& out) {
  set_state(v1::TASK_RUNNING, "started", now);
  task_.set_endpoint_state(v1::ENDPOINT_READY);
  report(out);
  out.push_back(TaskAction::kPublishPorts);
}

TaskActions TaskMachine::unhealthy(const std::string& why, WallTime now) {
  TaskActions out;
  if (phase_ != Phase::kUp) return out;
  unhealthy_ = why;
  stop_container(now, out);
  return out;
}

// Whether it is worth waiting for: what is ill does its clients no good, and what the node is no
// longer to have is not waited for by anybody.
bool TaskMachine::may_drain() const {
  return unhealthy_.empty() && !removed_ && task_.assignment().task().has_drain();
}

void TaskMachine::stop_container(WallTime now, TaskActions& out) {
  task_.set_stop_asked(unhealthy_.empty());
  const v1::EndpointState was = task_.endpoint_state();
  const bool drains = may_drain() && (was == v1::ENDPOINT_READY || was == v1::ENDPOINT_DRAINING);
  if (was == v1::ENDPOINT_READY) task_.set_endpoint_state(v1::ENDPOINT_DRAINING);
  if (!drains) return signal_stop(was == v1::ENDPOINT_READY, now, out);
  phase_ = Phase::kLeaving;
  set_state(task_.status().state(), "draining: new connections go elsewhere", now);
  report(out);
  if (was == v1::ENDPOINT_READY) out.push_back(TaskAction::kPublishPorts);
  if (awaits_release()) {
    timer_delay_ = kReleaseLimit;
    out.push_back(TaskAction::kArmTimer);
  } else {
    drain(now, out);
  }
}

bool TaskMachine::awaits_release() const {
  return may_drain() && task_.assignment().task().endpoint_state() == v1::ENDPOINT_DRAINING;
}

// Whether or not the feeds of its networks have said so.
void TaskMachine::pass_by_and_drain(WallTime now, TaskActions& out) {
  out.push_back(TaskAction::kPublishPorts);
  drain(now, out);
}

void TaskMachine::drain(WallTime now, TaskActions& out) {
  const Duration time(may_drain() ? task_.assignment().task().drain().timeout_ns() : 0);
  if (time <= Duration(0)) return signal_stop(false, now, out);
  phase_ = Phase::kDraining;
  timer_delay_ = time;
  out.insert(out.end(), {TaskAction::kArmTimer, TaskAction::kWatchFlows});
}

TaskActions TaskMachine::flows_ended(WallTime now) {
  TaskActions out;
  if (phase_ == Phase::kDraining) signal_stop(false, now, out);
  return out;
}

void TaskMachine::signal_stop(bool unroute, WallTime now, TaskActions& out) {
  phase_ = Phase::kStopping;
  // A successor of this process does not wait once more.
  if (task_.endpoint_state() == v1::ENDPOINT_DRAINING && unhealthy_.empty()) {
    task_.set_endpoint_state(v1::ENDPOINT_RELEASED);
  }
  set_state(task_.status().state(), "stopping", now);
  report(out);
  // Nobody is sent to it any more when it gets its signal.
  if (unroute) out.push_back(TaskAction::kPublishPorts);
  if (times_.stop_grace > Duration(0)) {
    out.push_back(TaskAction::kSignalStop);
    return;
  }
  kill_sent_ = true;
  timer_delay_ = kKillRepeat;
  out.insert(out.end(), {TaskAction::kSignalKill, TaskAction::kArmTimer});
}

TaskActions TaskMachine::signalled() {
  TaskActions out;
  if (phase_ != Phase::kStopping || kill_sent_) return out;
  timer_delay_ = times_.stop_grace;
  out.push_back(TaskAction::kArmTimer);
  return out;
}

TaskActions TaskMachine::exited(const ContainerExit& exit, WallTime now) {
  TaskActions out;
  if (phase_ < Phase::kUp || phase_ > Phase::kStopping) return out;
  v1::ContainerStatus& container = *task_.mutable_status()->mutable_container();
  container.set_container_id(task_.container_id());
  container.set_pid(0);
  container.set_exit_code(exit.exit_code);
  container.set_oom_killed(exit.oom_killed);
  if (!unhealthy_.empty()) {
    end(v1::TASK_FAILED, "unhealthy", unhealthy_, now, out);
  } else if (task_.stop_asked() || stop_wanted()) {
    end(v1::TASK_SHUTDOWN, "shutdown", "", now, out);
  } else if (exit.exit_code == 0) {
    end(v1::TASK_COMPLETE, "finished", "", now, out);
  } else {
    end(v1::TASK_FAILED, "started", exit_error(exit), now, out);
  }
  if (exit.finished_at.unix_ns > 0) task_.set_finished_at_ns(exit.finished_at.unix_ns);
  return out;
}

TaskActions TaskMachine::note(const std::string& message, WallTime now) {
  TaskActions out;
  if (phase_ != Phase::kUp || task_.status().message() == message) return out;
  set_state(task_.status().state(), message, now);
  report(out);
  return out;
}

TaskActions TaskMachine::timer(WallTime now) {
  TaskActions out;
  if (phase_ == Phase::kLeaving) {
    // The managers are away, or this node from them: nobody is going to say more.
    task_.mutable_assignment()->mutable_task()->set_endpoint_state(v1::ENDPOINT_RELEASED);
    out.push_back(TaskAction::kSave);
    pass_by_and_drain(now, out);
    return out;
  }
  if (phase_ == Phase::kDraining) {
    signal_stop(false, now, out);
    return out;
  }
  if (phase_ != Phase::kStopping) return out;
  if (!std::exchange(kill_sent_, true)) {
    set_state(task_.status().state(), "killing after the grace period", now);
    out.push_back(TaskAction::kReport);
  }
  out.push_back(TaskAction::kSignalKill);
  timer_delay_ = kKillRepeat;
  out.push_back(TaskAction::kArmTimer);
  return out;
}

TaskActions TaskMachine::cleaned_up(WallTime) {
  TaskActions out;
  if (phase_ != Phase::kCleaning) return out;
  phase_ = Phase::kDone;
  task_.set_cleaned(true);
  out.push_back(removed_ ? TaskAction::kForget : TaskAction::kSave);
  return out;
}

}  // namespace muster::agent
