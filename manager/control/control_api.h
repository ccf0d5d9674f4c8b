#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/status.h"
#include "base/unique_function.h"
#include "manager/store/store.h"
#include "muster/v1/control.pb.h"

namespace muster::manager::control {

// The answer to a call; runs exactly once, on the store's strand.
template <class Response>
using Reply = UniqueFunction<void(Result<Response>)>;

struct ControlDeps {
  Executor& strand;  // the store's
  store::Store& store;
  Rng& rng;
  std::string node_id;  // the answering node, "self" in references
  Log log;
};

// What the control API does, without the wire: validation, references, transactions. Callers are
// authorised before (access.h).
//
// Writes are called on the store's strand. Reads answer from a snapshot, from any thread, at once.
class ControlApi {
 public:
  explicit ControlApi(ControlDeps deps);
  ~ControlApi();

  void update_cluster(const v1::UpdateClusterRequest& request,
                      Reply<v1::UpdateClusterResponse> reply);
  void create_service(const v1::CreateServiceRequest& request,
                      Reply<v1::CreateServiceResponse> reply);
  void update_service(const v1::UpdateServiceRequest& request,
                      Reply<v1::UpdateServiceResponse> reply);
  void remove_service(const v1::RemoveServiceRequest& request,
                      Reply<v1::RemoveServiceResponse> reply);
  void update_node(const v1::UpdateNodeRequest& request, Reply<v1::UpdateNodeResponse> reply);
  void create_network(const v1::CreateNetworkRequest& request,
                      Reply<v1::CreateNetworkResponse> reply);
  void remove_network(const v1::RemoveNetworkRequest& request,
                      Reply<v1::RemoveNetworkResponse> reply);

  Result<v1::GetClusterResponse> get_cluster(const v1::GetClusterRequest& request) const;
  Result<v1::GetServiceResponse> get_service(const v1::GetServiceRequest& request) const;
  Result<v1::ListServicesResponse> list_services(const v1::ListServicesRequest& request) const;
  Result<v1::GetTaskResponse> get_task(const v1::GetTaskRequest& request) const;
  Result<v1::ListTasksResponse> list_tasks(const v1::ListTasksRequest& request) const;
  Result<v1::GetNodeResponse> get_node(const v1::GetNodeRequest& request) const;
  Result<v1::ListNodesResponse> list_nodes(const v1::ListNodesRequest& request) const;
  Result<v1::GetNetworkResponse> get_network(const v1::GetNetworkRequest& request) const;
  Result<v1::ListNetworksResponse> list_networks(const v1::ListNetworksRequest& request) const;

  // Follows the store's commits on the strand: `event` for each that has something the request
  // selects, until the subscription is destroyed. OUT_OF_RANGE when resume_from is no longer kept.
  Result<store::Store::Subscription> watch(const v1::WatchRequest& request,
                                           std::function<void(v1::WatchResponse)> event);

 private:
  ControlDeps deps_;
};

// What the daemon answers itself, in a swarm or outside of one. Any thread; replies on any thread.
class NodeControl {
 public:
  virtual ~NodeControl() = default;
  virtual void init_swarm(const v1::InitSwarmRequest& request,
                          Reply<v1::InitSwarmResponse> reply) = 0;
  virtual void leave_swarm(const v1::LeaveSwarmRequest& request,
                           Reply<v1::LeaveSwarmResponse> reply) = 0;
  virtual void get_info(const v1::GetInfoRequest& request, Reply<v1::GetInfoResponse> reply) = 0;
};

}  // namespace muster::manager::control
