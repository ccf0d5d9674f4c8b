#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/names/name_server.h"
#include "agent/routes/port_plan.h"
#include "agent/secrets/payload_files.h"
#include "agent/secrets/payloads.h"
#include "agent/worker/blocking_pool.h"
#include "agent/worker/feed_files.h"
#include "agent/worker/health_monitor.h"
#include "agent/worker/host_files.h"
#include "agent/worker/route_keeper.h"
#include "agent/worker/task_file.h"
#include "agent/worker/task_machine.h"
#include "agent/worker/task_steps.h"
#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"
#include "muster/v1/dispatcher.pb.h"
#include "overlay/dataplane/container/flows.h"

namespace muster::agent {

struct WorkerOptions {
  std::string instance_id;  // of this musterd; part of every global name
  std::string data_dir;     // <data-dir>/agent: tasks/ and containers/ below
  std::string run_dir;      // volatile directory of this instance
  std::string boot_id;      // another one each time the host starts
  NodeContext node;
  std::string data_path_addr;   // of this host; empty: in no swarm
  uint32_t data_path_port = 0;  // as managers said last; 0: never yet
  // Whether published ports lead to tasks of other nodes, too.
  bool mesh = false;
};

// What published ports and networks cannot do on this host, as NodeDescription has it.
struct HostLimits {
  std::vector<std::string> sentences;  // limitations
  std::string no_overlays;
  bool operator==(const HostLimits&) const = default;
};

// What the worker stands on; all outlive it.
struct WorkerDeps {
  Executor& strand;            // the agent's
  BlockingPool& prepare_pool;  // image pulls: slow ones must not hold up starts and stops
  BlockingPool& step_pool;     // starts, stops, clean-ups; its width bounds them
  BlockingPool& health_pool;   // a hanging health check holds up only other health checks
  Runtime& runtime;
  ImageStore& images;
  VolumeStore& volumes;
  overlay::NodeNetwork& network;
  HealthProbe& health;
  HostFiles& files;
  PayloadFiles& payload_files;
  Rng& rng;                                          // container ids
  std::function<void(v1::TaskStatusUpdate)> report;  // on the strand; the last per task counts
  Log log;
  NameServer* names = nullptr;  // none: containers have the host's resolvers
  // None: connections of a task that stops are not waited for.
  overlay::ContainerFlows* flows = nullptr;
  // A NETWORK feed is in force here up to this version: in the kernel and in netd. Or the CLUSTER
  // feed is: the kernel has its keys. Or the TASKS feed: the containers that run are in no other
  // networks than it says, and were brought into those; what failed there is in their status.
  std::function<void(const v1::FeedId& feed, uint64_t version)> applied = {};
  // What was in force of it is so no more: the node takes no part in the network.
  std::function<void(const v1::FeedId& feed)> forgotten = {};
  // The kernel's network had differences, which were mended; a sentence each.
  std::function<void(const std::vector<std::string>& found)> repaired = {};
  // What published ports and networks cannot do on this host, when it has changed.
  std::function<void(const HostLimits& limits)> limited = {};
};

// A node's tasks: makes the host run what the node was told, and reports what it sees. Each task
// is a TaskMachine; the worker carries out its actions on the pools and keeps a record of each on
// disk, so that a successor of a killed process finds every container again.
//
// Lives on the agent's strand; all methods are called there. Destruction leaves containers running.
class Worker {
 public:
  // A task whose secrets and configs do not come for this long is rejected.
  static constexpr Duration kPayloadLimit = 60s;

  Worker(WorkerDeps deps, WorkerOptions options);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Reads the records, adopts what runs and reports it, removes what is left over of unknown
  // containers. Before the first apply().
  Status start();

  // A step of a feed; of one that is not known it is ignored. A complete TASKS step ends every task
  // it does not name. One of secrets is in force at once, others when `applied` says so.
  void apply(const v1::FeedUpdate& step);

  // Stops and forgets all tasks ("swarm leave"); `done` runs when nothing is left, and the kernel
  // is told nothing more of networks and ports.
  void leave(UniqueFunction<void()> done);

  // What runs and ran here, for the local API. Sorted by task id.
  std::vector<v1::LocalTask> tasks() const;
  // Overlay networks and published ports as this node knows them, and the ports that somebody else
  // on this host has: wherever they are to answer, or at ::1 alone.
  std::vector<overlay::NetworkStep> networks() const { return routes_.networks(); }
  const std::vector<overlay::PublishedPort>& ports() const { return ports_set_; }
  std::vector<v1::PortConfig> refused_ports() const;
  const std::vector<v1::PortConfig>& loopback_ports() const { return ports_at_loopback_; }
  const TaskPaths& paths() const { return paths_; }
  const NodeContext& node() const { return options_.node; }
  // Whether a container's log goes on to the journal or to syslog.
  bool any_forwarded() const;

 private:
  struct Entry;
  using Id = std::string;

  void apply_tasks(const v1::FeedUpdate& step);
  void apply_secrets(const v1::FeedUpdate& step);
  void apply_cluster(const v1::ClusterFeed& feed, uint64_t version);
  void assign(const v1::TaskAssignment& assignment);
  void remove(const Id& task_id);
  Entry& add(v1::LocalTask task);
  Result<bool> host_was_restarted();
  Status adopt(Entry& entry, bool host_restarted);

  void run(Entry& entry, const TaskActions& actions);
  void run_one(Entry& entry, TaskAction action);
  void save(Entry& entry);
  void report(const Entry& entry);
  void prepare(Entry& entry);
  void prepare_finished(const Id& task_id, Result<PreparedTask> prepared);
  void start_container(Entry& entry);
  void launch(Entry& entry);
  void watch(Entry& entry);
  void watch_health(Entry& entry);
  void probe_health(const Id& task_id);
  void health_finished(const Id& task_id, const HealthResult& result, TimePoint began);
  void signal(Entry& entry, int number);
  // Looks at the connections of a task again and again, until there are none.
  void watch_flows(const Id& task_id);
  void look_at_flows(const Id& task_id);
  void flows_seen(const Id& task_id, const Result<bool>& any);
  void tell_unended_flows(const Entry& entry);
  void arm(Entry& entry);
  void clean_up(Entry& entry);
  void forget(Entry& entry);
  void finish_leaving();
  void collect_garbage();

  // The payloads of the task's secrets and configs. The first that is missing, in words, instead.
  std::string gather_payloads(const v1::LocalTask& task, PayloadSet* out) const;
  void wait_for_payloads(Entry& entry, const std::string& missing);

  void ports_changed();
  void ports_applied(const Status& status, std::vector<v1::PortConfig> conflicts);
  void ports_not_applied(const Status& status);
  void set_ports();
  void tell_relays(const std::vector<PortRelay>& relays, UniqueFunction<void()> next);
  std::vector<std::pair<PortRelay, std::string>> failed_relays() const;
  void port_refused(const v1::PortConfig& port, bool at_loopback);
  void port_freed(const v1::PortConfig& port);
  void check_logs();
  // Runs `next` once published ports, virtual addresses and names lead where the tasks now say; or
  // when that has been tried in vain.
  void after_routes(UniqueFunction<void()> next);
  void after_ports(UniqueFunction<void()> next);
  void release_after_ports();
  void after_names(UniqueFunction<void()> next);
  // Has the names of a task known, and whether they lead to it.
  void names_changed(const Entry& entry);
  void tell_names(const Entry& entry);
  void adopt_names();

  // A running task is in other networks from now on.
  void networks_assigned(Entry& entry, const v1::TaskAssignment& assignment);
  void reconnect(Entry& entry);
  void reconnected(const Id& task_id, const Status& status, bool left);
  // Acknowledges the TASKS feed, once no container has to leave a network yet.
  void tell_tasks_applied();
  void adopt_networks();
  void clean_up_now(Entry& entry);

  RouteKeeperDeps route_deps();
  void tell_local_node();
  void network_carried_out(const std::string& network_id, uint64_t version, bool forgotten);
  void tell_carried_out();

  Entry* find(const Id& task_id);
  // Runs `f` on the strand if the worker still exists.
  void post(UniqueFunction<void()> f);
  WallTime now() const { return deps_.strand.clock().wall_now(); }

  WorkerDeps deps_;
  WorkerOptions options_;
  TaskPaths paths_;
  TaskSteps steps_;
  TaskFiles files_;
  std::map<Id, std::unique_ptr<Entry>> entries_;
  std::map<std::string, v1::Revision> revisions_;  // of the session, by id
  std::optional<uint64_t> tasks_unsaid_;           // version of the TASKS feed to acknowledge
  Payloads payloads_;
  RouteKeeper routes_;
  // What cannot be had on this host, as far as it is news.
  void tell_limitations();

  bool masquerade_ = false;                        // ClusterFeed
  std::vector<overlay::PublishedPort> ports_all_;  // as wanted last
  std::vector<PortRelay> relays_wanted_;
  std::vector<PortRelay> relays_set_;
  std::vector<PortRelay> relays_told_;
  HostLimits limits_;                                 // told last
  std::vector<overlay::PublishedPort> ports_wanted_;  // of the kernel
  std::vector<overlay::PublishedPort> ports_set_;
  std::vector<v1::PortConfig> ports_refused_;      // of ports_set_, held by others on this host
  std::vector<v1::PortConfig> ports_at_loopback_;  // of those, at ::1 alone
  bool ports_known_ = false;  // whether the kernel was told ports_set_ by this process
  bool ports_busy_ = false;
  std::optional<TimePoint> ports_failing_since_;  // the kernel does not take ports_set_
  std::string ports_said_;  // what is wrong with them, but for those that are taken
  std::vector<UniqueFunction<void()>> after_ports_;
  // What of networks is to be acknowledged when ports are in force; by network.
  struct CarriedOut {
    uint64_t version = 0;
    bool forgotten = false;
  };
  std::map<std::string, CarriedOut> networks_unsaid_;
  Executor::TimerId ports_timer_ = 0;
  Executor::TimerId log_timer_ = 0;
  UniqueFunction<void()> left_;
  std::shared_ptr<Worker*> self_;  // emptied by the destructor; closures hold it
};

}  // namespace muster::agent
