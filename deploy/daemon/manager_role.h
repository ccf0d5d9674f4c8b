#pragma once

#include <grpcpp/server.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/security/tls_identity.h"
#include "deploy/daemon/manager_channels.h"
#include "deploy/daemon/node_state.h"
#include "deploy/daemon/replica.h"
#include "manager/control/cluster_objects.h"
#include "manager/control/control_api.h"
#include "manager/examiner/examiner.h"
#include "manager/logs/log_broker.h"
#include "raft/node/group.h"

namespace muster::daemon {

struct ManagerDeps {
  Executor& strand;       // "main-loop"
  Executor& logs_strand;  // "logs": lines on their way never hold up the former
  Rng& rng;
  manager::control::ControlApi& api;
  ManagerChannels& channels;
  ManagerReachability& reachability;  // outlives every role
  Log log;
};

struct ManagerConfig {
  std::filesystem::path data_dir;
  Membership membership;
  std::shared_ptr<security::TlsIdentity> identity;
  std::optional<security::UnlockKey> lock;
  ReplicaStart start = ReplicaStart::kRestore;
  BackupState state;  // of kState
  // The others took this member out of the group. On the strand.
  std::function<void()> left_group;
};

// What makes this node a manager: its copy of the state, the services on the control port, and,
// while it leads, the leader's loops. Used from the daemon's lifecycle thread.
class ManagerRole {
 public:
  // Opens the log. DATA_LOSS and others when the disk does not hold what it should.
  static Result<std::unique_ptr<ManagerRole>> open(ManagerDeps deps, ManagerConfig config);
  ~ManagerRole();

  // Binds the control port, then takes part in the group.
  Status start();
  // Writes the first state of a new cluster; to be called once, after start().
  Status bootstrap(const manager::control::NewCluster& cluster, const v1::Node& self);
  // After the others were lost, or the state came from a backup: `self` is the only manager, what
  // other managers there were are workers from now on.
  Status take_over(const v1::Node& self);

  // Gives leadership to another manager, if this one leads and another is there; a second at most.
  void hand_over();
  // Ends sessions with the reason, stops everything, closes the log. Idempotent.
  void stop(const std::string& reason);

  const std::string& cluster_id() const { return config_.membership.cluster_id; }
  // All of these on any thread.
  manager::store::Snapshot snapshot() const;
  raft::GroupView group() const;
  bool in_group() const;  // the group, as far as it is known here, has this member
  // Waits until this member has a vote; false when it has none within the limit.
  bool await_vote(Duration limit);
  // Sees to it that the next start, even when no other manager answers, knows the swarm's root and
  // that this is a manager, so that it can sign itself a certificate should its own end meanwhile.
  // In the background, and seldom more than once: a start has no events of before its snapshot.
  void keep_copy();
  // Wraps the log's keys on disk.
  Status set_lock(const std::optional<security::UnlockKey>& lock);
  // It refuses everybody while this manager does not lead.
  std::shared_ptr<manager::logs::LogBroker> log_broker() const;
  std::shared_ptr<manager::examiner::Examiner> examiner() const;

 private:
  struct Core;
  ManagerRole(ManagerDeps deps, ManagerConfig config);
  Status start_server();
  // Runs a transaction once this manager leads.
  Status write(Duration limit, std::function<Status(manager::store::Transaction&, Rng&)> body);

  ManagerDeps deps_;
  ManagerConfig config_;
  std::shared_ptr<Core> core_;
  mutable std::mutex mutex_;  // guards the next, and what other threads look at while it is false
  bool ended_ = false;
  std::shared_ptr<manager::logs::LogBroker> log_broker_;
  std::shared_ptr<manager::examiner::Examiner> examiner_;
  std::vector<std::unique_ptr<grpc::Service>> services_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace muster::daemon
