#include "manager/members/grpc/membership_service.h"

#include <grpcpp/support/server_callback.h>

#include <utility>

#include "base/security/tls/credentials.h"
#include "manager/control/access.h"
#include "manager/control/grpc/answers.h"
#include "manager/members/group_facts.h"
#include "muster/v1/raft.grpc.pb.h"

namespace muster::manager::members {
namespace {

using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

class Service final : public v1::Membership::CallbackService {
 public:
  Service(Executor& strand, std::function<members::Membership*()> current)
      : strand_(strand), current_(std::move(current)) {}

  ServerUnaryReactor* Join(CallbackServerContext* context, const v1::JoinMemberRequest* request,
                           v1::JoinMemberResponse* response) override {
    return answer("muster.v1.Membership.Join", context, request, response,
                  &members::Membership::join);
  }
  ServerUnaryReactor* Leave(CallbackServerContext* context, const v1::LeaveMemberRequest* request,
                            v1::LeaveMemberResponse* response) override {
    return answer("muster.v1.Membership.Leave", context, request, response,
                  &members::Membership::leave);
  }

 private:
  static void refuse(CallbackServerContext& context, ServerUnaryReactor& reactor,
                     const Status& why) {
    control::add_reason(context, why);
    reactor.Finish(control::to_grpc(why));
  }

  void add_leader(CallbackServerContext& context) const {
    const members::Membership* membership = current_();
    if (membership == nullptr) return;
    const std::string leader = leader_address(membership->view());
    if (!leader.empty()) context.AddTrailingMetadata(control::kLeaderKey, leader);
  }

  // gRPC keeps context, request and response until Finish.
  template <class Request, class Response>
  ServerUnaryReactor* answer(
      const char* name, CallbackServerContext* context, const Request* request, Response* response,
      void (members::Membership::*method)(const std::string&, const Request&,
                                          UniqueFunction<void(Result<Response>)>)) {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    const security::Principal caller = security::principal_of_tls(*context);
    if (const Status allowed = control::check_access(name, caller); !allowed.ok()) {
      refuse(*context, *reactor, allowed);
      return reactor;
    }
    strand_.post([this, context, request, response, reactor, method, node_id = caller.node_id] {
      members::Membership* membership = current_();
      if (membership == nullptr) {
        return refuse(
            *context, *reactor,
            Status(StatusCode::kUnavailable, "this node is not a swarm manager", "not-a-manager"));
      }
      // Who leads may be another by the end: a leader that leaves hands over first.
      (membership->*method)(node_id, *request,
                            [this, context, response, reactor](Result<Response> result) {
                              if (result) {
                                *response = *std::move(result);
                                reactor->Finish(grpc::Status::OK);
                                return;
                              }
                              if (result.error().reason() == "not-leader") add_leader(*context);
                              refuse(*context, *reactor, result.error());
                            });
    });
    return reactor;
  }

  Executor& strand_;
  std::function<members::Membership*()> current_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_membership_service(
    Executor& strand, std::function<members::Membership*()> current) {
  return std::make_unique<Service>(strand, std::move(current));
}

}  // namespace muster::manager::members
