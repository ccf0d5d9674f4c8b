#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/security/principal.h"
#include "base/status.h"
#include "base/unique_function.h"
#include "manager/control/applied_wait.h"
#include "manager/control/blob_keeper.h"
#include "manager/control/image_questions.h"
#include "manager/store/store.h"
#include "muster/v1/control.pb.h"
#include "raft/node/group.h"

namespace muster::manager::control {

using security::Principal;
template <class T>
using Callback = UniqueFunction<void(Result<T>)>;

// A backup on its way to a client. Used by one reader, on any thread; destroyed early when the
// client goes away.
class BackupStream {
 public:
  virtual ~BackupStream() = default;
  // The next piece, some 64 KiB; empty at the end. Answers on any thread, never from inside the
  // call.
  virtual void next(Callback<std::string> done) = 0;
};

// A backup on its way in. One call at a time, on any thread; answers on any thread, never from
// inside the call. Destroyed without finish(): nothing has happened.
class RestoreStream {
 public:
  virtual ~RestoreStream() = default;
  // The first message carries passphrase and addresses.
  virtual void write(v1::RestoreSwarmRequest message, UniqueFunction<void(Status)> done) = 0;
  virtual void finish(Callback<v1::RestoreSwarmResponse> done) = 0;
};

// What only the daemon can answer: the node's own part in a swarm. Called on the strand; callbacks
// are made there.
class NodeControl {
 public:
  virtual ~NodeControl() = default;
  virtual void init_swarm(const v1::InitSwarmRequest& request,
                          Callback<v1::InitSwarmResponse> done) = 0;
  virtual void leave_swarm(const v1::LeaveSwarmRequest& request,
                           Callback<v1::LeaveSwarmResponse> done) = 0;
  virtual void get_info(Callback<v1::GetInfoResponse> done) = 0;
  virtual void join_swarm(const v1::JoinSwarmRequest& request,
                          Callback<v1::JoinSwarmResponse> done);
  virtual void unlock_swarm(const v1::UnlockSwarmRequest& request,
                            Callback<v1::UnlockSwarmResponse> done);
  virtual void backup_swarm(const v1::BackupSwarmRequest& request,
                            Callback<std::unique_ptr<BackupStream>> done);
  virtual void restore_swarm(Callback<std::unique_ptr<RestoreStream>> done);
  // The answering node's id; empty outside a swarm. Called from any thread.
  virtual std::string node_id() const = 0;
  // A new join token of this cluster; for rotation.
  virtual Result<std::string> new_join_token(const v1::Cluster& cluster) = 0;
  // Why a member of a swarm has no manager running; empty when nothing is wrong. Any thread.
  // In a whole sentence.
  virtual std::string role_error() const { return {}; }
};

// The control API without a transport: validation, references, versions, lists.
//
// Every method checks the caller against the access table. Writes are called on the strand and call
// back there, exactly once. Reads answer from a snapshot, on any thread. Outside a swarm all but
// init, leave and info are UNAVAILABLE with reason "not-a-manager".
//
// `strand`, `rng` and `node` outlive it.
class ControlApi {
 public:
  ControlApi(Executor& strand, Rng& rng, NodeControl& node, Log log);

  // Where digests come from; before the first request. Outlives it. Without: no image is pinned.
  void use_registries(ImageResolver* images) { images_.use(images); }

  // Gives and takes the store, on the strand. The store outlives its activity here, and so does the
  // group; without one this is the only manager.
  void activate(store::Store& store, raft::Group* group = nullptr);
  void deactivate();
  // Looks for payloads that nobody refers to; with every start of leadership. On the strand.
  void collect_blobs();

  Executor& strand() { return strand_; }

  // The group as this manager sees it; nothing when there is none. Any thread.
  std::optional<raft::GroupView> group_view() const;
  // This node's id; empty outside a swarm. Any thread.
  std::string node_id() const { return node_.node_id(); }
  // Of the store; 0 when there is none. Any thread.
  uint64_t version() const;
  // Whether the caller's certificate is still good for what it says; any thread.
  Status check_caller(const Principal&) const;
  // OK when this manager's store has every change acknowledged before the call, as a majority
  // confirms. On the strand.
  void read_barrier(UniqueFunction<void(Status)> done);
  // Runs `done` when this manager's store is at `version`; see AppliedWait. On the strand.
  void when_applied(uint64_t version, UniqueFunction<void()> done);

  void init_swarm(const Principal&, const v1::InitSwarmRequest&, Callback<v1::InitSwarmResponse>);
  void leave_swarm(const Principal&, const v1::LeaveSwarmRequest&,
                   Callback<v1::LeaveSwarmResponse>);
  void get_info(const Principal&, const v1::GetInfoRequest&, Callback<v1::GetInfoResponse>);
  void join_swarm(const Principal&, const v1::JoinSwarmRequest&, Callback<v1::JoinSwarmResponse>);
  void unlock_swarm(const Principal&, const v1::UnlockSwarmRequest&,
                    Callback<v1::UnlockSwarmResponse>);
  void backup_swarm(const Principal&, const v1::BackupSwarmRequest&,
                    Callback<std::unique_ptr<BackupStream>>);
  void restore_swarm(const Principal&, Callback<std::unique_ptr<RestoreStream>>);
  // Answered by the leader alone, like a write: what is told must be what is in force.
  void get_unlock_key(const Principal&, const v1::GetUnlockKeyRequest&,
                      Callback<v1::GetUnlockKeyResponse>);
  // By the leader, which has the root that is in force. Leaves nothing in the store but a line in
  // the leader's log.
  void issue_client_certificate(const Principal&, const v1::IssueClientCertificateRequest&,
                                Callback<v1::IssueClientCertificateResponse>);
  void update_cluster(const Principal&, const v1::UpdateClusterRequest&,
                      Callback<v1::UpdateClusterResponse>);
  void create_service(const Principal&, const v1::CreateServiceRequest&,
                      Callback<v1::CreateServiceResponse>);
  void update_service(const Principal&, const v1::UpdateServiceRequest&,
                      Callback<v1::UpdateServiceResponse>);
  void remove_service(const Principal&, const v1::RemoveServiceRequest&,
                      Callback<v1::RemoveServiceResponse>);
  void update_node(const Principal&, const v1::UpdateNodeRequest&,
                   Callback<v1::UpdateNodeResponse>);
  // Its tasks are given up, its certificate is refused until it ends.
  void remove_node(const Principal&, const v1::RemoveNodeRequest&,
                   Callback<v1::RemoveNodeResponse>);
  void create_network(const Principal&, const v1::CreateNetworkRequest&,
                      Callback<v1::CreateNetworkResponse>);
  void remove_network(const Principal&, const v1::RemoveNetworkRequest&,
                      Callback<v1::RemoveNetworkResponse>);
  // Further subnets, and labels. What the allocator has to give comes a moment later.
  void update_network(const Principal&, const v1::UpdateNetworkRequest&,
                      Callback<v1::UpdateNetworkResponse>);
  // A task enters a network while it runs, and leaves it; likewise.
  void connect_network(const Principal&, const v1::ConnectNetworkRequest&,
                       Callback<v1::ConnectNetworkResponse>);
  void disconnect_network(const Principal&, const v1::DisconnectNetworkRequest&,
                          Callback<v1::DisconnectNetworkResponse>);
  // In two entries: the payload as a blob of its own, then the object that refers to it.
  void create_secret(const Principal&, const v1::CreateSecretRequest&,
                     Callback<v1::CreateSecretResponse>);
  void update_secret(const Principal&, const v1::UpdateSecretRequest&,
                     Callback<v1::UpdateSecretResponse>);
  void remove_secret(const Principal&, const v1::RemoveSecretRequest&,
                     Callback<v1::RemoveSecretResponse>);
  void create_config(const Principal&, const v1::CreateConfigRequest&,
                     Callback<v1::CreateConfigResponse>);
  void update_config(const Principal&, const v1::UpdateConfigRequest&,
                     Callback<v1::UpdateConfigResponse>);
  void remove_config(const Principal&, const v1::RemoveConfigRequest&,
                     Callback<v1::RemoveConfigResponse>);

  Result<v1::GetClusterResponse> get_cluster(const Principal&, const v1::GetClusterRequest&) const;
  Result<v1::GetServiceResponse> get_service(const Principal&, const v1::GetServiceRequest&) const;
  Result<v1::ExplainServiceResponse> explain_service(const Principal&,
                                                     const v1::ExplainServiceRequest&) const;
  Result<v1::ListServicesResponse> list_services(const Principal&,
                                                 const v1::ListServicesRequest&) const;
  Result<v1::GetTaskResponse> get_task(const Principal&, const v1::GetTaskRequest&) const;
  Result<v1::ListTasksResponse> list_tasks(const Principal&, const v1::ListTasksRequest&) const;
  Result<v1::GetNodeResponse> get_node(const Principal&, const v1::GetNodeRequest&) const;
  Result<v1::ListNodesResponse> list_nodes(const Principal&, const v1::ListNodesRequest&) const;
  Result<v1::GetNetworkResponse> get_network(const Principal&, const v1::GetNetworkRequest&) const;
  Result<v1::ListNetworksResponse> list_networks(const Principal&,
                                                 const v1::ListNetworksRequest&) const;
  Result<v1::GetSecretResponse> get_secret(const Principal&, const v1::GetSecretRequest&) const;
  Result<v1::ListSecretsResponse> list_secrets(const Principal&,
                                               const v1::ListSecretsRequest&) const;
  Result<v1::GetConfigResponse> get_config(const Principal&, const v1::GetConfigRequest&) const;
  Result<v1::ListConfigsResponse> list_configs(const Principal&,
                                               const v1::ListConfigsRequest&) const;

  // Whether the caller may have logs and this node could serve them; any thread.
  Status may_read_logs(const Principal&) const;
  // The same for examinations of networks.
  Status may_examine(const Principal&) const;

  // Reports commits to `sink` on the strand until the subscription is dropped. On the strand. An
  // error is the last that is reported: the caller may not look any more.
  using WatchSink = UniqueFunction<void(const Result<v1::WatchResponse>&)>;
  Result<store::Store::Subscription> watch(const Principal&, const v1::WatchRequest&, WatchSink);

 private:
  Result<store::Snapshot> reading(std::string_view method, const Principal& principal) const;
  Result<store::Store*> writing(std::string_view method, const Principal& principal) const;
  // Secrets and configs are alike; control_payloads.cc has one of each.
  template <class T, class Request, class Response>
  void create_payload(store::Store& store, const Request& request, T* (Response::*field)(),
                      Callback<Response> done);
  template <class T, class Request, class Response>
  void update_payload(store::Store& store, const std::string& id, const Request& request,
                      T* (Response::*field)(), Callback<Response> done);

  void remove_node_tasks(std::shared_ptr<const v1::Node> node, bool force, int passes,
                         Callback<v1::RemoveNodeResponse> done);
  void write_new_service(const Principal&, const v1::CreateServiceRequest&, v1::ServiceSpec spec,
                         std::vector<std::string> warnings, Callback<v1::CreateServiceResponse>);
  void write_service(const Principal&, const v1::UpdateServiceRequest&,
                     std::optional<ImageAnswer> image, Callback<v1::UpdateServiceResponse>);

  Executor& strand_;
  Rng& rng_;
  NodeControl& node_;
  Log log_;
  ImageQuestions images_;     // on the strand
  mutable std::mutex mutex_;  // guards the pointer, for reads from other threads
  store::Store* store_ = nullptr;
  raft::Group* group_ = nullptr;
  std::shared_ptr<BlobKeeper> blobs_;  // of store_
  std::unique_ptr<AppliedWait> applied_;
};

}  // namespace muster::manager::control
