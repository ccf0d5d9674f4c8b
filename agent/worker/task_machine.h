#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "agent/runtime/runtime.h"
#include "base/time.h"
#include "muster/v1/agent.pb.h"

namespace muster::agent {

// What a task machine asks its shell to do. Prepare, start and clean up end in an event; the shell
// runs one of them at a time per task.
enum class TaskAction {
  kSave,           // write the record; before anything after it in the list
  kReport,         // status() is news
  kPrepare,        // -> prepared() or prepare_failed()
  kCancelPrepare,  // make a running preparation fail soon
  kStart,          // -> started() or start_failed()
  kWatch,          // -> exited(), once
  kWatchHealth,    // run the health check -> probed()
  kPublishPorts,   // whether ports and names lead to it may have changed
  kWatchFlows,     // look whether connections still lead to it, until -> flows_ended()
  kSignalStop,     // the task's stop signal -> signalled()
  kSignalKill,
  kArmTimer,  // -> timer() after timer_delay(); replaces a running one
  kCleanUp,   // remove all but the log -> cleaned_up()
  kForget,    // delete record and directory; the machine is done
};
using TaskActions = std::vector<TaskAction>;

// The settings of a task that the machine needs.
struct TaskTimes {
  Duration stop_grace = 10s;
  bool has_healthcheck = false;
};

// One task's life on its node (swarm.md 1.4): ASSIGNED, ACCEPTED, PREPARING, READY, STARTING,
// RUNNING and an end. One that is to stop first leaves its networks: each node leads nothing to it
// once the network's feed has said so (agent/routes/led_task.h), the managers say when none does
// any more (RELEASED), and then what it has may go on for the time they set. Not so one that is
// ill, or that this node is no longer to have. A pure function of (state, event, time): the shell
// feeds events and carries out actions. The observed state and the desired state only grow.
class TaskMachine {
 public:
  // A task as the node holds it: fresh (state up to ASSIGNED) or read from disk.
  TaskMachine(v1::LocalTask task, TaskTimes times);

  // For a fresh task.
  TaskActions begin(WallTime now);
  // For one read from disk, with what the host has of its container. After a restart of the host
  // nothing is known of one that has not ended but that it is gone: the record may be an old one.
  TaskActions adopt(const ContainerState& found, bool host_restarted, WallTime now);

  // How long a task waits for the managers' word that nothing is led to it any more. They give it
  // sooner, whatever nodes do; it is for when they are away.
  static constexpr Duration kReleaseLimit = 15s;

  // A newer assignment of the same task. Nothing but the desired state and how it leaves its
  // networks matters; a desired state that would go back is ignored.
  TaskActions assigned(const v1::Task& task, WallTime now);
  // No longer assigned: stop it if it runs, clean up, forget.
  TaskActions removed(WallTime now);

  // What a preparation is doing, for status().message.
  TaskActions progress(const std::string& message, WallTime now);
  TaskActions prepared(WallTime now);
  TaskActions prepare_failed(const Status& why, WallTime now);
  TaskActions started(int64_t pid, WallTime now);
  TaskActions start_failed(const Status& why, WallTime now);
  // What the health check has found so far. With `news` it is reported and put down whether or not
  // the task's state changes by it.
  TaskActions probed(const v1::Health& health, bool news, WallTime now);
  // It runs and must not go on; its end counts as a failure.
  TaskActions unhealthy(const std::string& why, WallTime now);
  // No connection leads to it any more that it would be stopped in the middle of.
  TaskActions flows_ended(WallTime now);
  // It has got its stop signal: the grace begins.
  TaskActions signalled();
  TaskActions exited(const ContainerExit& exit, WallTime now);
  // Something the user should see of a running task.
  TaskActions note(const std::string& message, WallTime now);
  TaskActions timer(WallTime now);
  TaskActions cleaned_up(WallTime now);

  const v1::LocalTask& task() const { return task_; }
  v1::LocalTask& mutable_task() { return task_; }
  // Known once the image is; before prepared().
  void set_has_healthcheck(bool value) { times_.has_healthcheck = value; }
  Duration timer_delay() const { return timer_delay_; }
  // Whether it answers, and the host's own ports may lead to it.
  bool routable() const { return task_.endpoint_state() == v1::ENDPOINT_READY; }
  // Whether its container runs and shall go on.
  bool up() const { return phase_ == Phase::kUp; }
  // Whether it waits for its connections to end.
  bool watches_flows() const { return phase_ == Phase::kDraining; }
  bool ended() const { return task_.status().state() >= v1::TASK_COMPLETE; }

 private:
  enum class Phase {
    kFresh,
    kPreparing,
    kReady,     // waits for the desired state
    kStarting,  // the shell starts the container
    kUp,        // the container's process runs
    kLeaving,   // it is to end; others may still lead connections to it
    kDraining,  // nobody does; those it has may go on for a while
    kStopping,  // it was asked to end
    kCleaning,  // ended, the shell removes what is left
    kDone,
  };

  bool stop_wanted() const;
  void set_state(v1::TaskState state, const std::string& message, WallTime now);
  void end(v1::TaskState state, const std::string& message, const std::string& error, WallTime now,
           TaskActions& out);
  void run_if_wanted(WallTime now, TaskActions& out);
  bool may_drain() const;
  void stop_container(WallTime now, TaskActions& out);
  bool awaits_release() const;
  void pass_by_and_drain(WallTime now, TaskActions& out);
  void drain(WallTime now, TaskActions& out);
  void signal_stop(bool unroute, WallTime now, TaskActions& out);
  void became_healthy(WallTime now, TaskActions& out);
  void clean_up(TaskActions& out);
  void report(TaskActions& out);

  v1::LocalTask task_;
  TaskTimes times_;
  Phase phase_ = Phase::kFresh;
  bool removed_ = false;
  bool kill_sent_ = false;
  std::string unhealthy_;  // why the stop under way counts as a failure
  Duration timer_delay_{0};
};

}  // namespace muster::agent
