#include "manager/control/grpc/control_service.h"

#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string>
#include <utility>

#include "manager/control/access.h"
#include "manager/control/control_api.h"
#include "manager/control/grpc/examine_relay.h"
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
    return read<v1::Name##Request, v1::Name##Response>(                                      \
        context, request, response, &ControlApi::method,                                     \
        &v1::Control::StubInterface::async_interface::Name);                                 \
  }
  MUSTER_OWN(InitSwarm, init_swarm)
  MUSTER_OWN(JoinSwarm, join_swarm)
  MUSTER_OWN(LeaveSwarm, leave_swarm)
  MUSTER_OWN(UnlockSwarm, unlock_swarm)
  MUSTER_OWN(GetInfo, get_info)
  MUSTER_WRITE(UpdateCluster, update_cluster)
  MUSTER_WRITE(CreateService, create_service)
  MUSTER_WRITE(UpdateService, update_service)
  MUSTER_WRITE(RemoveService, remove_service)
  MUSTER_WRITE(UpdateNode, update_node)
  MUSTER_WRITE(RemoveNode, remove_node)
  MUSTER_WRITE(CreateNetwork, create_network)
  MUSTER_WRITE(RemoveNetwork, remove_network)
  MUSTER_WRITE(UpdateNetwork, update_network)
  MUSTER_WRITE(ConnectNetwork, connect_network)
  MUSTER_WRITE(DisconnectNetwork, disconnect_network)
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

  // Only the leader knows what is in force.
  ServerUnaryReactor* GetUnlockKey(CallbackServerContext* context,
                                   const v1::GetUnlockKeyRequest* request,
                                   v1::GetUnlockKeyResponse* response) override {
    return route<v1::GetUnlockKeyRequest, v1::GetUnlockKeyResponse>(
        context, kept(request), response,
        {Forwarding::Kind::kRead, as_serve(&ControlApi::get_unlock_key),
         &v1::Control::StubInterface::async_interface::GetUnlockKey, options_.request_limit});
  }
  // Repeated at the next leader, if need be: nothing is changed by it.
  ServerUnaryReactor* IssueClientCertificate(
      CallbackServerContext* context, const v1::IssueClientCertificateRequest* request,
      v1::IssueClientCertificateResponse* response) override {
    return route<v1::IssueClientCertificateRequest, v1::IssueClientCertificateResponse>(
        context, kept(request), response,
        {Forwarding::Kind::kRead, as_serve(&ControlApi::issue_client_certificate),
         &v1::Control::StubInterface::async_interface::IssueClientCertificate,
         options_.request_limit});
  }
  // Only the leader knows which managers answer.
  ServerUnaryReactor* GetNode(CallbackServerContext* context, const v1::GetNodeRequest* request,
                              v1::GetNodeResponse* response) override {
    auto wanted = std::make_shared<v1::GetNodeRequest>(*request);
    if (wanted->node() == "self") wanted->set_node(api_.node_id());
    return read_nodes<v1::GetNodeRequest, v1::GetNodeResponse>(
        context, std::move(wanted), response, &ControlApi::get_node,
        &v1::Control::StubInterface::async_interface::GetNode, {});
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
    const auto refusal = [context](const Status& why) { return make_logs_refusal(context, why); };
    const Result<Caller> caller = caller_of(*context);
    if (!caller) return refusal(caller.error());
    // The API knows who may ask, and why nobody can answer.
    if (Status allowed = api_.may_read_logs(caller->principal); !allowed.ok()) {
      return refusal(allowed);
    }
    const auto view = api_.group_view();
    if (view && !view->leads) return make_logs_relay(scope(), context, *caller, request);
    auto* answer = options_.service_logs ? options_.service_logs(context, *request) : nullptr;
    return answer != nullptr ? answer
                             : refusal(unavailable("this manager is starting or stopping"));
  }

  grpc::ServerWriteReactor<v1::ExamineNetworksResponse>* ExamineNetworks(
      CallbackServerContext* context, const v1::ExamineNetworksRequest* request) override {
    const auto refusal = [context](const Status& why) {
      return make_examine_refusal(context, why);
    };
    const Result<Caller> caller = caller_of(*context);
    if (!caller) return refusal(caller.error());
    if (Status allowed = api_.may_examine(caller->principal); !allowed.ok()) {
      return refusal(allowed);
    }
    const auto view = api_.group_view();
    if (view && !view->leads) return make_examine_relay(scope(), context, *caller, request);
    auto* answer =
        options_.examine_networks ? options_.examine_networks(context, *request) : nullptr;
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
  using Write = void (ControlApi::*)(const Principal&, const Request&, Callback<Response>);
  template <class Request, class Response>
  using Read = Result<Response> (ControlApi::*)(const Principal&, const Request&) const;

  template <class Request, class Response>
  std::function<void(const Principal&, const Request&, Callback<Response>)> as_serve(
      Write<Request, Response> method) {
    return [this, method](const Principal& principal, const Request& request,
                          Callback<Response> done) {
      (api_.*method)(principal, request, std::move(done));
    };
  }

  // gRPC keeps it for as long as the call lasts.
  template <class Request>
  static std::shared_ptr<const Request> kept(const Request* request) {
    return {std::shared_ptr<const Request>(), request};
  }

  template <class Request, class Response>
  ServerUnaryReactor* route(CallbackServerContext* context, std::shared_ptr<const Request> request,
                            Response* response, Route<Request, Response> way) {
    Result<Caller> caller = caller_of(*context);
    if (!caller) return answer_now<Response>(context, response, fail(caller.error()));
    auto call = std::make_shared<RoutedCall<Request, Response>>(
        scope(), context, std::move(request), response, *std::move(caller), std::move(way));
    return call->start();
  }

  template <class Request, class Response>
  ServerUnaryReactor* write(CallbackServerContext* context, const Request* request,
                            Response* response, Write<Request, Response> method,
                            Ask<Request, Response> ask) {
    auto kind = Forwarding::Kind::kChange;
    if constexpr (requires { request->request_id(); }) {
      if (!request->request_id().empty()) kind = Forwarding::Kind::kRepeatable;
    }
    return route<Request, Response>(context, kept(request), response,
                                    {kind, as_serve(method), ask, options_.request_limit});
  }

  template <class Response>
  static ServerUnaryReactor* answer_now(CallbackServerContext* context, Response* response,
                                        Result<Response> result) {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    Call<Response>::answer(*context, *reactor, *response, std::move(result));
    return reactor;
  }

  static bool wants_exact(const CallbackServerContext& context) {
    return context.client_metadata().count(kLinearizableKey) != 0;
  }

  // Answered on gRPC's thread, from a snapshot, when a leader is known and the state has what it
  // had before a restart: nobody sees it go back. Else once that is so. One that is to be exact is
  // the leader's.
  template <class Request, class Response>
  ServerUnaryReactor* read(CallbackServerContext* context, const Request* request,
                           Response* response, Read<Request, Response> method,
                           Ask<Request, Response> ask) {
    const bool exact = wants_exact(*context);
    const auto view = api_.group_view();
    if (!view || (view->leader && !view->behind && !exact)) {
      return answer_now<Response>(context, response,
                                  (api_.*method)(principal_of_(*context), *request));
    }
    if (exact) {
      return route<Request, Response>(
          context, kept(request), response,
          {Forwarding::Kind::kRead, confirmed(method), ask, options_.request_limit});
    }
    return route<Request, Response>(context, kept(request), response,
                                    {Forwarding::Kind::kOwnRead, at_once(method)});
  }

  template <class Request, class Response>
  std::function<void(const Principal&, const Request&, Callback<Response>)> at_once(
      Read<Request, Response> method) {
    return [this, method](const Principal& principal, const Request& request,
                          Callback<Response> done) { done((api_.*method)(principal, request)); };
  }
  // After a majority has said that this manager leads still. What is asked is kept until then: the
  // call may end before.
  template <class Request, class Response>
  std::function<void(const Principal&, const Request&, Callback<Response>)> confirmed(
      Read<Request, Response> method) {
    return [this, method](const Principal& principal, const Request& request,
                          Callback<Response> done) {
      api_.read_barrier(
          [this, method, principal, request, done = std::move(done)](Status status) mutable {
            if (!status.ok()) return done(fail(std::move(status)));
            done((api_.*method)(principal, request));
          });
    };
  }

  // From the leader, or as well as this manager knows when the leader cannot be asked.
  template <class Request, class Response>
  ServerUnaryReactor* read_nodes(CallbackServerContext* context,
                                 std::shared_ptr<const Request> request, Response* response,
                                 Read<Request, Response> method, Ask<Request, Response> ask_leader,
                                 std::function<void(Response&)> adapt) {
    const bool exact = wants_exact(*context);
    const auto view = api_.group_view();
    const bool passed_on = context->client_metadata().count(kForwardedKey) != 0;
    if (!exact && !passed_on && (!view || view->leads)) {
      return answer_now<Response>(context, response,
                                  (api_.*method)(principal_of_(*context), *request));
    }
    Route<Request, Response> way{Forwarding::Kind::kRead, at_once(method), ask_leader, kNodesLimit,
                                 std::move(adapt)};
    if (exact) {
      way.serve = confirmed(method);
    } else {
      way.instead = [this, method](const Principal& principal, const Request& wanted) {
        return (api_.*method)(principal, wanted);
      };
    }
    return route<Request, Response>(context, std::move(request), response, std::move(way));
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
