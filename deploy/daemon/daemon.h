#pragma once

#include <grpcpp/server.h>

#include <atomic>

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/metrics.h"
#include "base/rng.h"
#include "base/thread_executor.h"
#include "base/unique_fd.h"
#include "deploy/daemon/agent_role.h"
#include "deploy/daemon/backup.h"
#include "deploy/daemon/join_key.h"
#include "deploy/daemon/local_listener.h"
#include "deploy/daemon/manager_channels.h"
#include "deploy/daemon/manager_role.h"
#include "deploy/daemon/metrics_server.h"
#include "deploy/daemon/node_identity.h"
#include "deploy/daemon/node_parts.h"
#include "deploy/daemon/node_state.h"
#include "deploy/daemon/options.h"
#include "deploy/daemon/outside_watch.h"
#include "deploy/daemon/registry_resolver.h"
#include "deploy/daemon/work_pool.h"

namespace muster::daemon {

// One musterd: the local API from start to stop, and the roles this node has in a swarm.
//
// Roles come and go on the lifecycle strand, one change at a time; calls of the API may come from
// any thread at any moment and find the roles in force, or none. What a member does follows from
// three things alone, so that it can be killed between any two steps: node.json, its certificate,
// and what the managers say of it (reconcile()).
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
  void join_swarm(const v1::JoinSwarmRequest& request,
                  manager::control::Callback<v1::JoinSwarmResponse> done) override;
  void leave_swarm(const v1::LeaveSwarmRequest& request,
                   manager::control::Callback<v1::LeaveSwarmResponse> done) override;
  void unlock_swarm(const v1::UnlockSwarmRequest& request,
                    manager::control::Callback<v1::UnlockSwarmResponse> done) override;
  void backup_swarm(
      const v1::BackupSwarmRequest& request,
      manager::control::Callback<std::unique_ptr<manager::control::BackupStream>> done) override;
  void restore_swarm(
      manager::control::Callback<std::unique_ptr<manager::control::RestoreStream>> done) override;
  void get_info(manager::control::Callback<v1::GetInfoResponse> done) override;
  std::string node_id() const override;
  Result<std::string> new_join_token(const v1::Cluster& cluster) override;
  std::string role_error() const override;

 private:
  class Restore;
  friend class Restore;

  // daemon_swarm.cc: cluster life.
  Result<v1::InitSwarmResponse> init(const v1::InitSwarmRequest& request);
  Result<v1::InitSwarmResponse> force_new_cluster();
  Result<v1::JoinSwarmResponse> join(const v1::JoinSwarmRequest& request);
  Status await_membership();
  void withdraw();
  Status leave(bool force);
  Status may_leave() const;
  Status unlock(const std::string& text);
  Result<v1::RestoreSwarmResponse> restore(const v1::RestoreSwarmRequest& request,
                                           BackupState state);
  Status may_restore() const;
  Result<Membership> new_membership(const std::string& listen, const std::string& advertise,
                                    const std::string& data_path) const;
  // Makes this node the first of a group; `fill` writes what its state still lacks.
  Status found(const Membership& membership, security::NodeCredentials credentials,
               const NodeIdentity::Lock& lock, ReplicaStart start, BackupState state,
               const std::function<Status(ManagerRole&)>& fill);
  void forget_swarm();

  // daemon_roles.cc: what a member does. On the lifecycle strand.
  Status resume();
  Status enter_swarm(security::NodeCredentials credentials, NodeIdentity::Lock lock);
  void reconcile();
  void reconcile_later(Duration wait);
  Status start_manager(ReplicaStart start, BackupState state = {});
  void manager_failed(const Status& why);
  void stop_manager(const std::string& reason);
  void forget_log();
  bool set_log_aside(const Status& why);
  Status start_agent(bool connect);
  void join_group();
  void group_joined(const Status& status);
  void heard(const v1::ClusterFeed& feed);
  void follow_lock(const std::string& unlock_key);
  void data_path_known(uint32_t port);
  void managers_known(const std::vector<std::string>& addresses);
  void certificate_changed();
  Result<v1::IssueCertificateResponse> sign_own(const std::string& signing_request_pem);
  void left_group(uint64_t member_id);
  bool led() const;
  void watch_outside(const v1::ClusterFeed& feed);
  void hear_anew(uint64_t member_id);
  void node_removed(const std::string& why);
  // In a whole sentence; empty: nothing is wrong.
  void set_role_error(std::string text);
  void set_fault(const std::string& why);
  // Another host goes by this node's identity, as `why` says; empty: it does not any more.
  void identity_shared(const std::string& why);
  void take_no_part(const std::string& why);
  v1::NodeDescription describe(const Membership& membership) const;
  AgentConfig agent_config();
  std::vector<std::string> manager_addresses() const;
  void drop_roles(const std::string& reason, v1::Goodbye::Reason goodbye);
  Status save_state();
  bool log_missing() const;

  Status end_left_containers();
  void remove_swarm_files();
  // What a node outside of a swarm has in the kernel and in its run directory.
  void sweep_host();
  void end_names();
  Status start_local_api();
  v1::GetInfoResponse info();

  std::shared_ptr<ManagerRole> manager() const;
  std::shared_ptr<AgentRole> agent() const;
  std::shared_ptr<security::TlsIdentity> tls() const;
  // Runs `work` on the lifecycle strand and its answer on the main one.
  template <class T>
  void answer(UniqueFunction<Result<T>()> work, manager::control::Callback<T> done);

  const Options options_;
  Log log_;
  SystemRng rng_;
  Metrics metrics_;
  Counter& repairs_;
  ThreadExecutor main_loop_{"main-loop"};
  ThreadExecutor logs_strand_{"logs"};
  ThreadExecutor agent_strand_{"agent"};
  manager::control::ControlApi api_;
  v1::NodeDescription description_;
  v1::LogDriver default_log_driver_;
  UniqueFd data_lock_;  // one musterd a data directory
  std::unique_ptr<NodeParts> parts_;
  std::unique_ptr<RegistryResolver> registries_;
  ManagerChannels channels_{[this] { return tls(); }};
  ManagerReachability reachability_{main_loop_, [this] { return tls(); }};

  mutable std::mutex mutex_;  // of what follows, for API threads; changed on lifecycle_ only
  NodeState state_;
  // Why a member has no manager running, or cannot do its part; and whether that is to be repaired.
  std::string role_error_;
  bool faulty_ = false;
  std::string alone_;    // with which manager, and why not, when its agent is with none
  bool locked_ = false;  // keys on disk wait for the unlock key
  std::shared_ptr<security::TlsIdentity> tls_;
  std::shared_ptr<ManagerRole> manager_;
  std::shared_ptr<AgentRole> agent_;

  // Of the lifecycle strand alone.
  std::unique_ptr<NodeIdentity> identity_;
  JoinKey join_key_;
  bool joining_group_ = false;
  std::string shared_;  // that another host takes part as this node; empty: none does
  // What was given to unlock the log with, when that is not what the certificate is wrapped with.
  NodeIdentity::Lock log_key_;
  v1::NodeSpec::Role desired_role_ = v1::NodeSpec::WORKER;  // as managers said last
  bool desired_role_known_ = false;
  Executor::TimerId reconcile_timer_ = 0;
  OutsideWatch outside_;

  std::unique_ptr<WorkPool> local_calls_;
  std::unique_ptr<WorkPool> manager_calls_;  // that this node makes
  std::unique_ptr<grpc::Service> control_service_;
  std::unique_ptr<grpc::Service> local_service_;
  LocalListener listener_;
  std::unique_ptr<grpc::Server> local_server_;
  std::unique_ptr<MetricsServer> metrics_server_;
  ThreadExecutor lifecycle_{"lifecycle"};
  std::atomic<bool> stopped_{false};
};

}  // namespace muster::daemon
