#include "manager/control/grpc/control_service.h"

#include <grpcpp/support/server_callback.h>

#include <string>
#include <utility>

#include "manager/control/access.h"
#include "manager/control/grpc/watch_stream.h"
#include "muster/v1/control.grpc.pb.h"

namespace muster::manager::control {
namespace {

const Status kNotAManager(
    StatusCode::kUnavailable,
    "This node is not a swarm manager. Use \"muster swarm init\" to create a swarm and try again.",
    "not-a-manager");

grpc::Status to_wire(grpc::CallbackServerContext& context, const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  if (!status.reason().empty()) context.AddTrailingMetadata("muster-reason", status.reason());
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), status.message());
}

using Context = grpc::CallbackServerContext;

class Service final : public v1::Control::CallbackService {
 public:
  explicit Service(ControlServiceDeps deps) : deps_(std::move(deps)) {}

  grpc::ServerUnaryReactor* InitSwarm(Context* c, const v1::InitSwarmRequest* in,
                                      v1::InitSwarmResponse* out) override {
    return node(c, "InitSwarm", *in, out, &NodeControl::init_swarm);
  }
  grpc::ServerUnaryReactor* LeaveSwarm(Context* c, const v1::LeaveSwarmRequest* in,
                                       v1::LeaveSwarmResponse* out) override {
    return node(c, "LeaveSwarm", *in, out, &NodeControl::leave_swarm);
  }
  grpc::ServerUnaryReactor* GetInfo(Context* c, const v1::GetInfoRequest* in,
                                    v1::GetInfoResponse* out) override {
    return node(c, "GetInfo", *in, out, &NodeControl::get_info);
  }

  grpc::ServerUnaryReactor* UpdateCluster(Context* c, const v1::UpdateClusterRequest* in,
                                          v1::UpdateClusterResponse* out) override {
    return write(c, "UpdateCluster", *in, out, &ControlApi::update_cluster);
  }
  grpc::ServerUnaryReactor* CreateService(Context* c, const v1::CreateServiceRequest* in,
                                          v1::CreateServiceResponse* out) override {
    return write(c, "CreateService", *in, out, &ControlApi::create_service);
  }
  grpc::ServerUnaryReactor* UpdateService(Context* c, const v1::UpdateServiceRequest* in,
                                          v1::UpdateServiceResponse* out) override {
    return write(c, "UpdateService", *in, out, &ControlApi::update_service);
  }
  grpc::ServerUnaryReactor* RemoveService(Context* c, const v1::RemoveServiceRequest* in,
                                          v1::RemoveServiceResponse* out) override {
    return write(c, "RemoveService", *in, out, &ControlApi::remove_service);
  }
  grpc::ServerUnaryReactor* UpdateNode(Context* c, const v1::UpdateNodeRequest* in,
                                       v1::UpdateNodeResponse* out) override {
    return write(c, "UpdateNode", *in, out, &ControlApi::update_node);
  }
  grpc::ServerUnaryReactor* CreateNetwork(Context* c, const v1::CreateNetworkRequest* in,
                                          v1::CreateNetworkResponse* out) override {
    return write(c, "CreateNetwork", *in, out, &ControlApi::create_network);
  }
  grpc::ServerUnaryReactor* RemoveNetwork(Context* c, const v1::RemoveNetworkRequest* in,
                                          v1::RemoveNetworkResponse* out) override {
    return write(c, "RemoveNetwork", *in, out, &ControlApi::remove_network);
  }

  grpc::ServerUnaryReactor* GetCluster(Context* c, const v1::GetClusterRequest* in,
                                       v1::GetClusterResponse* out) override {
    return read(c, "GetCluster", *in, out, &ControlApi::get_cluster);
  }
  grpc::ServerUnaryReactor* GetService(Context* c, const v1::GetServiceRequest* in,
                                       v1::GetServiceResponse* out) override {
    return read(c, "GetService", *in, out, &ControlApi::get_service);
  }
  grpc::ServerUnaryReactor* ListServices(Context* c, const v1::ListServicesRequest* in,
                                         v1::ListServicesResponse* out) override {
    return read(c, "ListServices", *in, out, &ControlApi::list_services);
  }
  grpc::ServerUnaryReactor* GetTask(Context* c, const v1::GetTaskRequest* in,
                                    v1::GetTaskResponse* out) override {
    return read(c, "GetTask", *in, out, &ControlApi::get_task);
  }
  grpc::ServerUnaryReactor* ListTasks(Context* c, const v1::ListTasksRequest* in,
                                      v1::ListTasksResponse* out) override {
    return read(c, "ListTasks", *in, out, &ControlApi::list_tasks);
  }
  grpc::ServerUnaryReactor* GetNode(Context* c, const v1::GetNodeRequest* in,
                                    v1::GetNodeResponse* out) override {
    return read(c, "GetNode", *in, out, &ControlApi::get_node);
  }
  grpc::ServerUnaryReactor* ListNodes(Context* c, const v1::ListNodesRequest* in,
                                      v1::ListNodesResponse* out) override {
    return read(c, "ListNodes", *in, out, &ControlApi::list_nodes);
  }
  grpc::ServerUnaryReactor* GetNetwork(Context* c, const v1::GetNetworkRequest* in,
                                       v1::GetNetworkResponse* out) override {
    return read(c, "GetNetwork", *in, out, &ControlApi::get_network);
  }
  grpc::ServerUnaryReactor* ListNetworks(Context* c, const v1::ListNetworksRequest* in,
                                         v1::ListNetworksResponse* out) override {
    return read(c, "ListNetworks", *in, out, &ControlApi::list_networks);
  }

  grpc::ServerWriteReactor<v1::WatchResponse>* Watch(Context* c,
                                                     const v1::WatchRequest* in) override {
    const Status allowed = check(*c, "Watch");
    if (!allowed.ok()) return refuse_watch(to_wire(*c, allowed));
    const auto api = deps_.current();
    if (api == nullptr) return refuse_watch(to_wire(*c, kNotAManager));
    return stream_watch(deps_.strand, api, *in);
  }

 private:
  Status check(Context& context, std::string_view method) const {
    return check_access("muster.v1.Control." + std::string(method), deps_.principal_of(context));
  }

  // A reply that fills the response and finishes the call, wherever it runs.
  template <class Response>
  static Reply<Response> answer(Context* context, grpc::ServerUnaryReactor* reactor,
                                Response* out) {
    return [context, reactor, out](Result<Response> result) {
      if (!result) {
        reactor->Finish(to_wire(*context, result.error()));
        return;
      }
      *out = *std::move(result);
      reactor->Finish(grpc::Status::OK);
    };
  }

  template <class Request, class Response>
  grpc::ServerUnaryReactor* node(Context* context, std::string_view method, const Request& request,
                                 Response* out,
                                 void (NodeControl::*call)(const Request&, Reply<Response>)) {
    auto* reactor = context->DefaultReactor();
    if (const Status allowed = check(*context, method); !allowed.ok()) {
      reactor->Finish(to_wire(*context, allowed));
    } else {
      (deps_.node.*call)(request, answer(context, reactor, out));
    }
    return reactor;
  }

  template <class Request, class Response>
  grpc::ServerUnaryReactor* write(Context* context, std::string_view method, const Request& request,
                                  Response* out,
                                  void (ControlApi::*call)(const Request&, Reply<Response>)) {
    auto* reactor = context->DefaultReactor();
    const auto api = deps_.current();
    Status refused = check(*context, method);
    if (refused.ok() && api == nullptr) refused = kNotAManager;
    if (!refused.ok()) {
      reactor->Finish(to_wire(*context, refused));
      return reactor;
    }
    // The request lives until the call is finished.
    deps_.strand.post([api, call, &request, reply = answer(context, reactor, out)]() mutable {
      ((*api).*call)(request, std::move(reply));
    });
    return reactor;
  }

  template <class Request, class Response>
  grpc::ServerUnaryReactor* read(Context* context, std::string_view method, const Request& request,
                                 Response* out,
                                 Result<Response> (ControlApi::*call)(const Request&) const) {
    auto* reactor = context->DefaultReactor();
    const auto api = deps_.current();
    Status refused = check(*context, method);
    if (refused.ok() && api == nullptr) refused = kNotAManager;
    if (!refused.ok()) {
      reactor->Finish(to_wire(*context, refused));
    } else {
      answer(context, reactor, out)(((*api).*call)(request));
    }
    return reactor;
  }

  ControlServiceDeps deps_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_control_service(ControlServiceDeps deps) {
  return std::make_unique<Service>(std::move(deps));
}

}  // namespace muster::manager::control
