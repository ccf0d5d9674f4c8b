#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "agent/secrets/payloads.h"
#include "agent/session/session.h"
#include "agent/worker/worker.h"
#include "base/rng.h"
#include "base/sim_executor.h"
#include "tests/sim/agent/sim_flows.h"
#include "tests/sim/agent/sim_health.h"
#include "tests/sim/agent/sim_host_files.h"
#include "tests/sim/agent/sim_images.h"
#include "tests/sim/agent/sim_machine.h"
#include "tests/sim/agent/sim_names.h"
#include "tests/sim/agent/sim_node_network.h"
#include "tests/sim/agent/sim_payload_files.h"
#include "tests/sim/agent/sim_runtime.h"
#include "tests/sim/agent/sim_volumes.h"
#include "tests/sim/sim_host_identity.h"
#include "tests/sim/sim_network.h"
#include "tests/sim/sim_probes.h"

namespace muster::sim {

// A node: a machine (agent/), which outlives its agent, and an agent, the real session and worker,
// that comes and goes.
class SimHost {
 public:
  // A task on this host, as somebody sees it who watches from outside.
  struct Container {
    v1::Task task;                             // as last told
    v1::TaskState state = v1::TASK_ASSIGNED;   // as last reported
    bool removed = false;                      // not assigned any more
    bool alive = false;                        // a container of it runs, whatever anybody knows
    std::map<std::string, std::string> files;  // what it was started with: payloads by id
    std::optional<TimePoint> told_to_stop;
  };
  struct Deps {
    SimWorld& world;
    SimNetwork& network;
    const HostTroubles& troubles;
    Probes& probes;
    std::function<void(const SimHost&, const Container&)> on_start;  // a container starts
    // Whether the host may have this secret or config (M7).
    std::function<bool(const SimHost&, const std::string& payload_id)> entitled;
    // What the managers know of a task; TASK_NEW for none.
    std::function<v1::TaskState(const std::string& task_id)> stored_state;
    std::function<void(std::string)> broken;  // a rule was broken
    HostIdentity* identity = nullptr;         // null: there are no certificates
    // A container that is not ill is told to end.
    std::function<void(const SimHost&, const Container&)> on_stop = nullptr;
    // Its kernel leads no more to a task that is still in a network.
    std::function<void(const SimHost&, const std::string& network_id, const std::string& task_id)>
        on_passed_by = nullptr;
    // A published port that led somewhere leads nowhere.
    std::function<void(const SimHost&, const overlay::PublishedPort& port)> on_port_closed =
        nullptr;
  };

  // A host's doings draw from a stream of their own.
  SimHost(Deps deps, std::string id, uint64_t seed);
  ~SimHost();

  const std::string& id() const { return id_; }
  const std::map<std::string, Container>& tasks() const { return tasks_; }
  // Whether a health check has found a container of the task ill.
  bool seen_ill(const std::string& task_id) const;
  bool agent_up() const { return agent_ != nullptr; }
  bool established() const;
  // Counts attempts at a session.
  uint64_t links() const { return links_; }
  // What the network feeds say is in a network; by network, tasks.
  const std::map<std::string, std::set<std::string>>& members() const { return members_; }
  const SimNodeNetwork& network() const { return network_; }
  // Secrets and configs the agent holds.
  const agent::Payloads& payloads() const { return payloads_; }

  void start_agent();
  void kill_agent();                  // kill -9: containers go on
  void restart_agent(Duration away);  // orderly, with a goodbye
  void reboot();                      // a power cut: what is not on the disk is lost
  // The agent is stopped (SIGSTOP) for a while; containers go on.
  void freeze(Duration d);
  // The agent, or the next one, is killed when it is about to change something for the n-th time;
  // it is back after `away`.
  void kill_midway(uint64_t effects, Duration away);
  // What was to go wrong does not any more.
  void heal();
  // What the host has from now on; its agent says so at once, or when it comes back.
  void resize(int64_t memory_bytes);
  // Lets a random container end by itself, whether the agent lives or not.
  void end_a_container();

  // Whether everything on the machine belongs to a task that the worker has and has not cleaned
  // up; and every container to a task that it has.
  Status check_left_over() const;
  // The same when everything has come to rest; and that the worker has what it was told of.
  Status check_settled() const;

 private:
  struct Agent;

  // What the manager says, as seen from outside, before the worker hears it.
  void apply(const v1::FeedUpdate& step);
  void told_tasks(const v1::FeedUpdate& step);
  void told_network(const v1::FeedUpdate& step);
  void told_secrets(const v1::FeedUpdate& step);
  // What the worker does.
  void reported(v1::TaskStatusUpdate update);
  void started(const SimRuntime::Container& container);
  void ended(const SimRuntime::Container& container);
  void signalled(const SimRuntime::Container& container, int signal);
  void removed_file(const std::string& path);

  v1::NodeDescription describe() const;
  bool has_record(const std::string& task_id);
  void forget_unknown();
  void broken(const std::string& what) { deps_.broken(id_ + ": " + what); }

  Deps deps_;
  const std::string id_;
  SeededRng rng_;
  SimExecutor strand_;  // the machine's own, for what happens without an agent
  SimMachine machine_;
  SimHostFiles files_{machine_};
  SimPayloadFiles payload_files_{machine_};
  SimImages images_{machine_};
  SimVolumes volumes_{machine_};
  SimNodeNetwork network_{machine_};
  SimNames names_{machine_};
  SimFlows flows_{machine_};
  SimRuntime runtime_;
  SimHealth health_{machine_, runtime_};
  int64_t memory_bytes_ = 1 << 30;
  uint64_t boots_ = 1;
  uint64_t links_ = 0;
  uint64_t die_next_ = 0;  // see kill_midway, of the agent to come
  Duration away_{0};
  uint64_t freezes_ = 0;  // and ends of agents
  std::unique_ptr<Agent> agent_;
  std::map<std::string, Container> tasks_;
  std::map<std::string, v1::TaskState> reported_;  // since the host's start
  std::set<std::string> began_;                    // tasks that may have no other container
  std::map<std::string, v1::Revision> revisions_;
  agent::Payloads payloads_;
  std::map<std::string, std::set<std::string>> members_;
};

}  // namespace muster::sim
