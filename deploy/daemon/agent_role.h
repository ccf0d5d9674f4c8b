#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/logs/log_publisher.h"
#include "agent/secrets/memory_files.h"
#include "agent/session/grpc/grpc_link.h"
#include "agent/session/session.h"
#include "agent/worker/disk_files.h"
#include "agent/worker/worker.h"
#include "base/executor.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/rng.h"
#include "deploy/daemon/node_parts.h"
#include "deploy/daemon/node_state.h"

namespace muster::agent {
class ExecHealthProbe;
class HostTests;
}  // namespace muster::agent

namespace muster::daemon {

struct AgentDeps {
  Executor& strand;  // "agent"
  Rng& rng;
  NodeParts& parts;
  Log log;
  Counter& repairs;  // differences of the kernel's network that were mended
};

// What the agent learns of the swarm that concerns the whole node. On the agent's strand.
struct AgentEvents {
  std::function<void(const std::vector<std::string>& addresses)> managers_known;
  std::function<void(const v1::ClusterFeed& feed)> cluster_changed;
  std::function<void(const std::string& why)> certificate_outdated;
  std::function<void(const std::string& why)> node_removed;
  std::function<void(const std::string& why)> identity_shared;
  std::function<void(const std::string& why)> no_session;  // empty: there is one again
};

struct AgentConfig {
  std::string instance_id;
  std::filesystem::path data_dir;
  std::filesystem::path run_dir;
  Membership membership;
  std::vector<std::string> managers;  // host:port, those to begin with
  agent::CredentialsNow credentials;
  v1::NodeDescription description;
  v1::LogDriver default_log_driver;  // of this node
  AgentEvents events;
  bool names = true;  // whether containers have resolvers; not while all of them are ended
};

// What makes this node run tasks: the worker and its session with a manager. Used from the daemon's
// lifecycle thread.
class AgentRole {
 public:
  AgentRole(AgentDeps deps, AgentConfig config);
  ~AgentRole();

  // Adopts what runs, then asks the manager for more.
  Status start();
  // Adopts what runs and stays without a manager; for leave() alone.
  Status start_alone();
  // After start_alone(): asks the managers for more.
  void connect(const v1::TlsInfo& tls);
  // The node has another certificate: a session with it begins.
  void certificate_renewed(const v1::TlsInfo& tls);
  // Says goodbye; containers go on.
  void stop(v1::Goodbye::Reason reason);
  // Ends all containers and forgets their tasks; to be called after stop().
  Status leave();
  // Begins the same, and goes on being there: this node was removed from its swarm.
  void end_tasks();

  // The tasks here, from any thread.
  std::vector<v1::LocalTask> tasks() const;
  const agent::TaskPaths& paths() const;
  // Of this node, as templates and lists show it.
  agent::NodeContext node() const;

 private:
  struct Core;
  AgentDeps deps_;
  AgentConfig config_;
  agent::DiskFiles files_;
  agent::MemoryFiles payload_files_;
  std::unique_ptr<agent::ExecHealthProbe> health_;  // used on the pool until that has ended
  std::unique_ptr<agent::BlockingPool> prepare_pool_;
  std::unique_ptr<agent::BlockingPool> step_pool_;
  std::unique_ptr<agent::BlockingPool> health_pool_;
  std::unique_ptr<agent::HostTests> host_tests_;  // used on the pool until that has ended
  std::unique_ptr<agent::BlockingPool> doctor_pool_;
  std::unique_ptr<agent::LinkFactory> links_;
  std::unique_ptr<agent::LogStreamFactory> log_streams_;
  std::unique_ptr<Core> core_;  // on the strand
  bool session_open_ = false;
};

}  // namespace muster::daemon
