#pragma once

#include <grpcpp/server.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/security/key_files.h"
#include "base/thread_executor.h"
#include "deploy/daemon/node_state.h"
#include "manager/control/cluster_objects.h"
#include "manager/control/control_api.h"
#include "manager/dispatcher/dispatcher.h"
#include "manager/logs/log_broker.h"

namespace muster::daemon {

struct ManagerDeps {
  Executor& strand;       // "main-loop"
  Executor& logs_strand;  // "logs": lines on their way never hold up the former
  Rng& rng;
  manager::control::ControlApi& api;
  Log log;
};

struct ManagerConfig {
  std::filesystem::path data_dir;
  Membership membership;
  security::NodeCredentials credentials;
};

// What makes this node a manager: store, log, the leader's loops, the dispatcher, and the server on
// the control port. Used from the daemon's lifecycle thread.
class ManagerRole {
 public:
  // Opens the log and replays it. DATA_LOSS and others when the disk does not hold what it should.
  static Result<std::unique_ptr<ManagerRole>> open(ManagerDeps deps, ManagerConfig config);
  ~ManagerRole();

  // Writes the first state of a new cluster; to be called once, before start().
  Status bootstrap(const manager::control::NewCluster& cluster, const v1::Node& self);

  // Binds the control port and starts the loops.
  Status start();
  // Ends sessions with the reason, stops everything, closes the log. Idempotent.
  void stop(const std::string& reason);

  manager::store::Snapshot snapshot() const;
  // Any thread. It refuses everybody while this manager does not lead.
  std::shared_ptr<manager::logs::LogBroker> log_broker() const;

 private:
  struct Core;
  ManagerRole(ManagerDeps deps, ManagerConfig config);
  Status start_server();

  ManagerDeps deps_;
  ManagerConfig config_;
  std::shared_ptr<Core> core_;
  std::shared_ptr<manager::logs::LogBroker> log_broker_;
  std::unique_ptr<grpc::Service> control_service_;
  std::unique_ptr<grpc::Service> dispatcher_service_;
  std::unique_ptr<grpc::Service> logs_service_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace muster::daemon
