#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "deploy/cli/run.h"
#include "muster/v1/control.pb.h"
#include "muster/v1/local.pb.h"

namespace muster::deploy::cli {

// A musterd for tests: the state is what the test puts in, requests are kept for it to look at,
// and streams say what was scripted. Serves both services on a socket in a temporary directory.
class FakeDaemon {
 public:
  FakeDaemon();
  ~FakeDaemon();

  std::string address() const;

  // State; set before the command runs.
  std::vector<v1::GetServiceResponse> services;
  std::vector<v1::Task> tasks;
  std::vector<v1::Revision> revisions;
  std::vector<v1::Node> nodes;
  std::vector<v1::Network> networks;
  std::vector<v1::Secret> secrets;
  std::vector<v1::Config> configs;
  std::vector<v1::Container> containers;
  std::vector<v1::Image> images;
  std::vector<v1::LocalVolume> volumes;
  v1::GetInfoResponse info;
  std::vector<v1::GetInfoResponse> info_script;  // what GetInfo says before that, one each
  v1::Cluster cluster;
  v1::ExplainServiceResponse explanation;
  std::string unlock_key;
  v1::Node node_after_update;
  int node_reads = 0;
  v1::IssueClientCertificateRequest client_certificate_request;
  // Of a rotation of the root: the nodes still to be renewed, one list for each look; after the
  // last the rotation is over.
  std::vector<std::vector<std::string>> renewals;
  std::vector<std::string> backup_chunks;
  std::vector<v1::ExamineNetworksRequest> examinations;  // asked for, in order

  // Streams: each message is sent, then the stream stays open until the client leaves, unless
  // `end_streams`.
  std::vector<v1::WatchResponse> watch_messages;
  std::vector<v1::LogsResponse> log_messages;
  std::vector<v1::ServiceLogsResponse> service_log_messages;
  Status service_logs_end;  // how that stream ends
  std::vector<v1::ExamineNetworksResponse> examination_messages;
  std::vector<v1::StatsResponse> stats_messages;
  std::vector<v1::PullProgress> pull_messages;
  std::vector<v1::ExecOutput> exec_messages;
  bool end_streams = true;
  Status next_error;                               // what the next changing call fails with
  int calls_before_error = 0;                      // so many changing calls succeed before that
  std::vector<std::string> warnings;               // of every service created or updated
  std::vector<std::string> network_warnings;       // of every network created
  std::map<std::string, std::string> environment;  // of muster, over the usual
  // So many of the next GetService, ListTasks and RemoveNetwork calls find no manager.
  int calls_unavailable = 0;
  bool network_reads_fail = false;            // GetNetwork finds no manager
  std::function<void()> before_tasks_listed;  // what is committed just then
  bool tasks_by_name = true;                  // GetTask takes "web.1" for an id

  // What was asked, in order.
  std::vector<v1::CreateServiceRequest> created_services;
  std::vector<v1::UpdateServiceRequest> updated_services;
  std::vector<v1::CreateNetworkRequest> created_networks;
  std::vector<v1::UpdateNetworkRequest> updated_networks;
  std::vector<v1::ConnectNetworkRequest> connections;
  std::vector<v1::DisconnectNetworkRequest> disconnections;
  std::vector<v1::CreateSecretRequest> created_secrets;
  std::vector<v1::UpdateSecretRequest> updated_secrets;
  std::vector<v1::CreateConfigRequest> created_configs;
  std::vector<v1::UpdateConfigRequest> updated_configs;
  std::vector<v1::UpdateNodeRequest> updated_nodes;
  std::vector<std::string> removed;
  std::vector<v1::ExecInput> exec_inputs;
  std::vector<v1::LogsRequest> log_requests;
  std::vector<v1::ServiceLogsRequest> service_log_requests;
  std::vector<v1::WatchRequest> watch_requests;
  v1::InitSwarmRequest init_request;
  v1::JoinSwarmRequest join_request;
  std::vector<v1::UpdateClusterRequest> updated_clusters;
  std::vector<std::string> unlock_keys_tried;
  v1::BackupSwarmRequest backup_request;
  std::vector<v1::RestoreSwarmRequest> restore_requests;
  std::vector<v1::RemoveNodeRequest> removed_nodes;
  std::string loaded;

  // Adds a service of so many replicas with as many running tasks on node "n1".
  v1::Service& add_service(const std::string& name, uint64_t replicas);

 private:
  struct Server;
  std::unique_ptr<Server> server_;
};

// What one run of the program gave.
struct Outcome {
  int code = -1;
  std::string out, err;
};

// The clock of the tests: 2026-01-31T08:05:00Z.
inline constexpr int64_t kNow = 1769846700LL * 1'000'000'000;

// Runs "muster ARGS..." in this process against the daemon; `input` is its standard input. Time
// stands still unless `real_time`.
Outcome run_muster(FakeDaemon& daemon, const std::vector<std::string>& words,
                   const std::string& input = "", bool real_time = false);

}  // namespace muster::deploy::cli
