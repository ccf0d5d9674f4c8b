#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "agent/worker/health_monitor.h"
#include "agent/worker/task_machine.h"
#include "agent/worker/task_steps.h"
#include "agent/worker/worker.h"

namespace muster::agent {

// What the worker knows of one task. Internal to worker*.cc.
struct Worker::Entry {
  Entry(v1::LocalTask task, TaskTimes times) : machine(std::move(task), times) {}

  const std::string& task_id() const { return machine.task().assignment().task().id(); }

  TaskMachine machine;
  std::shared_ptr<std::atomic<bool>> cancelled = std::make_shared<std::atomic<bool>>(false);
  std::optional<PreparedTask> prepared;
  bool waits_for_payloads = false;
  Executor::TimerId payload_timer = 0;  // ends the waiting
  Executor::TimerId timer = 0;
  Executor::TimerId flow_timer = 0;
  Duration flow_delay{0};        // before the next look at its connections
  bool reconnecting = false;     // its networks are being changed
  bool reconnect_again = false;  // they are others by now
  bool leaving = false;          // it has to be out of one that it was in
  bool clean_up_waits = false;   // until that is over
  std::string reconnect_said;    // in the log, of what failed
  Executor::TimerId reconnect_timer = 0;
  std::optional<HealthMonitor> health;
  Executor::TimerId health_timer = 0;
};

}  // namespace muster::agent
