#pragma once

#include <grpcpp/server.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "base/log.h"
#include "base/metrics.h"
#include "base/rng.h"
#include "base/thread_executor.h"
#include "base/unique_fd.h"
#include "deploy/daemon/agent_role.h"
#include "deploy/daemon/local_listener.h"
#include "deploy/daemon/manager_role.h"
#include "deploy/daemon/metrics_server.h"
#include "deploy/daemon/node_parts.h"
#include "deploy/daemon/node_state.h"
#include "deploy/daemon/options.h"
#include "deploy/daemon/registry_resolver.h"
#include "deploy/daemon/work_pool.h"

namespace muster::daemon {

// One musterd: the local API from start to stop, and the roles this node has in a swarm.
//
// Roles come and go on the lifecycle strand, one change at a time; calls of the API may come from
// any thread at any moment and find the roles in force, or none.
class Daemon final : public manager::control::NodeControl {
 public:
  Daemon(Options options, Log log);
  ~Daemon() override;

  // Serves the local API; takes up the roles of the swarm this node is in, if any.
  Status start();
  // Leaves containers running. Idempotent.
  void stop();
  // Instead of start(): ends every container of this node and takes its networks out of the kernel,
  // but keeps its state, its images and its volumes. For a host that muster is removed from.
  Status end_containers();

  // NodeControl; called on the main strand, answered there.
  void init_swarm(const v1::InitSwarmRequest& request,
                  manager::control::Callback<v1::InitSwarmResponse> done) override;
  void leave_swarm(const v1::LeaveSwarmRequest& request,
                   manager::control::Callback<v1::LeaveSwarmResponse> done) override;
  void get_info(manager::control::Callback<v1::GetInfoResponse> done) override;
  std::string node_id() const override;
  Result<std::string> new_join_token(const v1::Cluster& cluster) override;
  std::string role_error() const override;

 private:
  Result<v1::InitSwarmResponse> init(const v1::InitSwarmRequest& request);
  Status leave(bool force);
  // Starts both roles of a member; on failure neither runs.
  Status take_roles(const security::NodeCredentials& credentials,
                    const std::function<Status(ManagerRole&)>& before_start);
  AgentConfig agent_config(const security::NodeCredentials& credentials) const;
  void drop_roles(const std::string& reason);
  Status end_left_containers();
  void remove_swarm_files();
  // What a node outside of a swarm has in the kernel and in its run directory.
  void sweep_host();
  void end_names();
  Status start_local_api();
  v1::GetInfoResponse info();

  std::shared_ptr<ManagerRole> manager() const;
  std::shared_ptr<AgentRole> agent() const;

  const Options options_;
  Log log_;
  SystemRng rng_;
  Metrics metrics_;
  ThreadExecutor main_loop_{"main-loop"};
  ThreadExecutor logs_strand_{"logs"};
  ThreadExecutor agent_strand_{"agent"};
  manager::control::ControlApi api_;
  v1::NodeDescription description_;
  v1::LogDriver default_log_driver_;
  UniqueFd data_lock_;  // one musterd a data directory
  std::unique_ptr<NodeParts> parts_;
  std::unique_ptr<RegistryResolver> registries_;

  mutable std::mutex mutex_;  // of what follows, for API threads; changed on lifecycle_ only
  NodeState state_;
  std::string role_error_;  // why a member could not take up its roles
  std::shared_ptr<ManagerRole> manager_;
  std::shared_ptr<AgentRole> agent_;

  std::unique_ptr<WorkPool> local_calls_;
  std::unique_ptr<grpc::Service> control_service_;
  std::unique_ptr<grpc::Service> local_service_;
  LocalListener listener_;
  std::unique_ptr<grpc::Server> local_server_;
  std::unique_ptr<MetricsServer> metrics_server_;
  ThreadExecutor lifecycle_{"lifecycle"};
  bool stopped_ = false;
};

}  // namespace muster::daemon
