#include "manager/control/grpc/control_service.h"

#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string>
#include <utility>

#include "manager/control/access.h"
#include "manager/control/control_api.h"
#include "manager/control/grpc/logs_relay.h"
#include "manager/control/grpc/routed_call.h"
#include "manager/control/grpc/transfer_calls.h"
#include "manager/control/grpc/watch_call.h"
#include "manager/members/group_facts.h"

namespace muster::manager::control {
namespace {

using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

// A unary call that this node answers by itself, on the strand.
template <class Response>
struct Call {
  CallbackServerContext* context;
  Response* response;
  ServerUnaryReactor* reactor;
  Executor* strand;
  Executor::TimerId timer = 0;
  bool finished = false;

  void finish(Result<Response> result) {
    if (finished) return;
    finished = true;
    strand->cancel(timer);
    answer(*context, *reactor, *response, std::move(result));
  }

  static void answer(CallbackServerContext& context, ServerUnaryReactor& reactor,
                     Response& response, Result<Response> result) {
    if (!result) {
      add_reason(context, result.error());
      reactor.Finish(to_grpc(result.error()));
      return;
    }
    response = *std::move(result);
    reactor.Finish(grpc::Status::OK);
  }
};

class ControlService final : public v1::Control::CallbackService {
 public:
  ControlService(ControlApi& api, PrincipalOf principal_of, ControlServiceOptions options)
      : api_(api),
        principal_of_(std::move(principal_of)),
        options_(std::move(options)),
        link_(std::make_shared<LeaderLink>(api, options_.leader)) {}

// One line a method: those of a kind differ only in how the API answers.
#define MUSTER_OWN(Name, method)                                                             \
  ServerUnaryReactor* Name(CallbackServerContext* context, const v1::Name##Request* request, \
                           v1::Name##Response* response) override {                          \
    return own(context, request, response, &ControlApi::method);                             \
  }
#define MUSTER_WRITE(Name, method)                                                           \
  ServerUnaryReactor* Name(CallbackServerContext* context, const v1::Name##Request* request, \
                           v1::Name##Response* response) override {                          \
    return write<v1::Name##Request, v1::Name##Response>(                                     \
        context, request, response, &ControlApi::method,                                     \
        &v1::Control::StubInterface::async_interface::Name);                                 \
  }
#define MUSTER_READ(Name, method)                                                            \
  ServerUnaryReactor* Name(CallbackServerContext* context, const v1::Name##Request* request, \
                           v1::Name##Response* response) override {                          \
    return read(context, request, response, &ControlApi::method);                            \
  }
  MUSTER_OWN(InitSwarm, init_swarm)
  MUSTER_OWN(JoinSwarm, join_swarm)
  MUSTER_OWN(LeaveSwarm, leave_swarm)
  MUSTER_OWN(UnlockSwarm, unlock_swarm)
  MUSTER_OWN(GetInfo, get_info)
  MUSTER_WRITE(GetUnlockKey, get_unlock_key)
  MUSTER_WRITE(UpdateCluster, update_cluster)
  MUSTER_WRITE(CreateService, create_service)
  MUSTER_WRITE(UpdateService, update_service)
  MUSTER_WRITE(RemoveService, remove_service)
  MUSTER_WRITE(UpdateNode, update_node)
  MUSTER_WRITE(RemoveNode, remove_node)
  MUSTER_WRITE(CreateNetwork, create_network)
  MUSTER_WRITE(RemoveNetwork, remove_network)
  MUSTER_WRITE(CreateSecret, create_secret)
  MUSTER_WRITE(UpdateSecret, update_secret)
  MUSTER_WRITE(RemoveSecret, remove_secret)
  MUSTER_WRITE(CreateConfig, create_config)
  MUSTER_WRITE(UpdateConfig, update_config)
  MUSTER_WRITE(RemoveConfig, remove_config)
  MUSTER_READ(GetCluster, get_cluster)
  MUSTER_READ(GetService, get_service)
  MUSTER_READ(ExplainService, explain_service)
  MUSTER_READ(ListServices, list_services)
  MUSTER_READ(GetTask, get_task)
  MUSTER_READ(ListTasks, list_tasks)
  MUSTER_READ(GetNetwork, get_network)
  MUSTER_READ(ListNetworks, list_networks)
  MUSTER_READ(GetSecret, get_secret)
  MUSTER_READ(ListSecrets, list_secrets)
  MUSTER_READ(GetConfig, get_config)
  MUSTER_READ(ListConfigs, list_configs)
#undef MUSTER_OWN
#undef MUSTER_WRITE
#undef MUSTER_READ

  // Only the leader knows which managers answer.
  ServerUnaryReactor* GetNode(CallbackServerContext* context, const v1::GetNodeRequest* request,
                              v1::GetNodeResponse* response) override {
    auto wanted = std::make_shared<v1::GetNodeRequest>(*request);
    if (wanted->node() == "self") wanted->set_node(api_.node_id());
    return read_nodes<v1::GetNodeRequest, v1::GetNodeResponse>(
        context, std::move(wanted), response, &ControlApi::get_node,
        &v1::Control::StubInterface::async_interface::GetNode, [](v1::GetNodeResponse&) {});
  }
  ServerUnaryReactor* ListNodes(CallbackServerContext* context, const v1::ListNodesRequest* request,
                                v1::ListNodesResponse* response) override {
    return read_nodes<v1::ListNodesRequest, v1::ListNodesResponse>(
        context, std::make_shared<v1::ListNodesRequest>(*request), response,
        &ControlApi::list_nodes, &v1::Control::StubInterface::async_interface::ListNodes,
        [this](v1::ListNodesResponse& r) { r.set_self_id(api_.node_id()); });
  }

  grpc::ServerWriteReactor<v1::WatchResponse>* Watch(CallbackServerContext* context,
                                                     const v1::WatchRequest* request) override {
    return make_watch_call(api_, context, principal_of_(*context), request,
                           options_.watch_bytes_max);
  }

  grpc::ServerWriteReactor<v1::ServiceLogsResponse>* ServiceLogs(
      CallbackServerContext* context, const v1::ServiceLogsRequest* request) override {
    const auto refusal = [context](Status why) {
      return make_logs_refusal(context, [&](auto done) { done(std::move(why)); });
    };
    const Result<Caller> caller = caller_of(*context);
    if (!caller) return refusal(caller.error());
    // The API knows who may ask, and why nobody can answer.
    if (Status allowed = api_.may_read_logs(caller->principal); !allowed.ok()) {
      return refusal(std::move(allowed));
    }
    const auto view = api_.group_view();
    if (view && !view->leads) {
      const std::string leader = members::leader_address(*view);
      if (caller->forwarded || view->leader == view->self) {
        return refusal(members::not_leader(*view));
      }
      if (leader.empty()) {
        return make_logs_refusal(context, [this](auto done) {
          api_.strand().post([link = link_, done = std::move(done)]() mutable {
            link->explain_no_leader(std::move(done));
          });
        });
      }
      auto* relay = make_logs_relay(scope(), leader, context, caller->principal, request);
      return relay != nullptr ? relay : refusal(members::not_leader(*view));
    }
    auto* answer = options_.service_logs ? options_.service_logs(context, *request) : nullptr;
    return answer != nullptr ? answer
                             : refusal(unavailable("this manager is starting or stopping"));
  }

  grpc::ServerWriteReactor<v1::BackupSwarmResponse>* BackupSwarm(
      CallbackServerContext* context, const v1::BackupSwarmRequest* request) override {
    return make_backup_call(api_, context, principal_of_(*context), request);
  }
  grpc::ServerReadReactor<v1::RestoreSwarmRequest>* RestoreSwarm(
      CallbackServerContext* context, v1::RestoreSwarmResponse* response) override {
    return make_restore_call(api_, context, principal_of_(*context), response);
  }

 private:
  CallScope scope() {
    return {api_, *link_, options_.request_limit, options_.leader.patience};
  }

  // Another manager speaks for its caller; whoever else tries that is refused.
  Result<Caller> caller_of(const CallbackServerContext& context) const {
    Caller caller{principal_of_(context), false};
    const auto& metadata = context.client_metadata();
    const auto named = metadata.find(kForwardedKey);
    if (named == metadata.end()) return caller;
    if (caller.principal.kind != security::Principal::Kind::kNode || !caller.principal.manager) {
      return fail(permission_denied("only managers pass on what others ask"));
    }
    MUSTER_TRY(api_.check_caller(caller.principal));
    MUSTER_ASSIGN(caller.principal, decode_caller({named->second.data(), named->second.size()}));
    caller.forwarded = true;
    return caller;
  }

  template <class Request, class Response>
  ServerUnaryReactor* own(CallbackServerContext* context, const Request* request,
                          Response* response,
                          void (ControlApi::*method)(const Principal&, const Request&,
                                                     Callback<Response>)) {
    Executor& strand = api_.strand();
    auto call = std::make_shared<Call<Response>>();
    call->context = context;
    call->response = response;
    call->strand = &strand;
    call->reactor = new UnaryReactor(
        [call, &strand] { strand.post([call] { call->finish(fail(cancelled())); }); });
    strand.post([this, call, request, method, principal = principal_of_(*context)] {
      call->timer = call->strand->after(options_.request_limit, [call] {
        call->finish(fail(StatusCode::kDeadlineExceeded,
                          "the node did not answer in time; the change may still happen",
                          "request-limit"));
      });
      (api_.*method)(principal, *request,
                     [call](Result<Response> result) { call->finish(std::move(result)); });
    });
    return call->reactor;
  }

  template <class Request, class Response>
  ServerUnaryReactor* write(CallbackServerContext* context, const Request* request,
                            Response* response, typename RoutedCall<Request, Response>::Serve serve,
                            Ask<Request, Response> ask) {
    Result<Caller> caller = caller_of(*context);
    if (!caller) return refuse(context, response, caller.error());
    auto call = std::make_shared<RoutedCall<Request, Response>>(scope(), context, request, response,
                                                                *std::move(caller), serve, ask);
    return call->start();
  }

  template <class Response>
  static ServerUnaryReactor* refuse(CallbackServerContext* context, Response* response,
                                    const Status& why) {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    Call<Response>::answer(*context, *reactor, *response, fail(why));
    return reactor;
  }

  // Answered on gRPC's thread, from a snapshot, when a leader is known; else once there is one.
  template <class Request, class Response>
  ServerUnaryReactor* read(CallbackServerContext* context, const Request* request,
                           Response* response,
                           Result<Response> (ControlApi::*method)(const Principal&, const Request&)
                               const) {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    read_locally(context, std::shared_ptr<const Request>(request, [](const Request*) {}), response,
                 reactor, principal_of_(*context), method);
    return reactor;
  }

  template <class Request, class Response>
  using Read = Result<Response> (ControlApi::*)(const Principal&, const Request&) const;

  template <class Request, class Response>
  void read_locally(CallbackServerContext* context, std::shared_ptr<const Request> request,
                    Response* response, ServerUnaryReactor* reactor,
                    const security::Principal& principal, Read<Request, Response> method) {
    const auto answer = [this, context, request, response, reactor, principal, method] {
      Call<Response>::answer(*context, *reactor, *response, (api_.*method)(principal, *request));
    };
    const auto view = api_.group_view();
    const auto& metadata = context->client_metadata();
    const bool exact = view && metadata.find(kLinearizableKey) != metadata.end();
    if (!view || (view->leader && !exact)) return answer();
    const auto read = [this, context, response, reactor, answer, exact] {
      if (!exact) return answer();
      api_.read_barrier([context, response, reactor, answer](Status status) {
        if (status.ok()) return answer();
        Call<Response>::answer(*context, *reactor, *response, fail(std::move(status)));
      });
    };
    api_.strand().post([this, context, response, reactor, read] {
      if (api_.group_view().value_or(raft::GroupView()).leader) return read();
      const TimePoint until = api_.strand().clock().now() + options_.leader.patience;
      link_->keep_looking(
          [this, context, response, reactor, read, until](const raft::GroupView& now) {
            if (now.leader || now.members.empty()) {
              read();
              return false;
            }
            if (api_.strand().clock().now() < until) return true;
            link_->explain_no_leader([context, response, reactor](Status why) {
              Call<Response>::answer(*context, *reactor, *response, fail(std::move(why)));
            });
            return false;
          });
    });
  }

  // From the leader, or as well as this manager knows when the leader cannot be asked.
  template <class Request, class Response, class Adapt>
  ServerUnaryReactor* read_nodes(CallbackServerContext* context,
                                 std::shared_ptr<const Request> request, Response* response,
                                 Read<Request, Response> method, Ask<Request, Response> ask_leader,
                                 Adapt adapt) {
    const Result<Caller> caller = caller_of(*context);
    if (!caller) return refuse(context, response, caller.error());
    ServerUnaryReactor* reactor = context->DefaultReactor();
    const security::Principal principal = caller->principal;
    const auto view = api_.group_view();
    if (caller->forwarded && view && !view->leads) {
      Call<Response>::answer(*context, *reactor, *response, fail(members::not_leader(*view)));
      return reactor;
    }
    const std::string leader = view && !view->leads ? members::leader_address(*view) : "";
    const bool asked =
        !leader.empty() && view->leader != view->self &&
        ask(scope(), leader, *context, principal, kNodesLimit, request.get(), ask_leader,
            static_cast<std::shared_ptr<Outgoing<Response>>*>(nullptr),
            [this, context, request, response, reactor, principal, method, adapt](
                Outgoing<Response>& out, const grpc::Status& status) {
              if (status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                  status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED ||
                  status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) {
                return read_locally(context, request, response, reactor, principal, method);
              }
              if (!status.ok()) {
                return Call<Response>::answer(*context, *reactor, *response,
                                              fail(LeaderLink::read_status(status, *out.context)));
              }
              adapt(out.response);
              Call<Response>::answer(*context, *reactor, *response, std::move(out.response));
            });
    if (!asked) read_locally(context, request, response, reactor, principal, method);
    return reactor;
  }
  static constexpr Duration kNodesLimit = 2s;

  ControlApi& api_;
  PrincipalOf principal_of_;
  ControlServiceOptions options_;
  std::shared_ptr<LeaderLink> link_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_control_service(ControlApi& api, PrincipalOf principal_of,
                                                    ControlServiceOptions options) {
  return std::make_unique<ControlService>(api, std::move(principal_of), std::move(options));
}

}  // namespace muster::manager::control
