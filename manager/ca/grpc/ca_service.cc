#include "manager/ca/grpc/ca_service.h"

#include <grpcpp/support/server_callback.h>

#include <utility>

#include "base/security/tls/credentials.h"
#include "manager/ca/address.h"
#include "manager/control/grpc/answers.h"
#include "muster/v1/ca.grpc.pb.h"

namespace muster::manager::ca {
namespace {

using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

class Service final : public v1::Ca::CallbackService {
 public:
  explicit Service(CaServiceDeps deps) : deps_(std::move(deps)) {}

  ServerUnaryReactor* GetRootCertificate(CallbackServerContext* context,
                                         const v1::GetRootCertificateRequest*,
                                         v1::GetRootCertificateResponse* response) override {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    answer(*context, *reactor, *response, root_certificate(deps_.snapshot()));
    return reactor;
  }

  // gRPC keeps context, request and response until Finish.
  ServerUnaryReactor* IssueCertificate(CallbackServerContext* context,
                                       const v1::IssueCertificateRequest* request,
                                       v1::IssueCertificateResponse* response) override {
    ServerUnaryReactor* reactor = context->DefaultReactor();
    deps_.strand.post([this, context, request, response, reactor] {
      CertificateAuthority* authority = deps_.current();
      if (authority == nullptr) {
        const Result<v1::IssueCertificateResponse> none =
            fail(StatusCode::kUnavailable, "this node is not a swarm manager", "not-a-manager");
        return answer(*context, *reactor, *response, none);
      }
      authority->issue(security::principal_of_tls(*context), peer_host(context->peer()), *request,
                       [this, context, response, reactor](auto result) {
                         answer(*context, *reactor, *response, std::move(result));
                       });
    });
    return reactor;
  }

 private:
  template <class Response>
  void answer(CallbackServerContext& context, ServerUnaryReactor& reactor, Response& response,
              Result<Response> result) const {
    if (result) {
      response = *std::move(result);
      return reactor.Finish(grpc::Status::OK);
    }
    control::add_reason(context, result.error());
    if (result.error().reason() == "not-leader") {
      const std::string leader = deps_.leader_address();
      if (!leader.empty()) context.AddTrailingMetadata(control::kLeaderKey, leader);
    }
    reactor.Finish(control::to_grpc(result.error()));
  }

  CaServiceDeps deps_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_ca_service(CaServiceDeps deps) {
  return std::make_unique<Service>(std::move(deps));
}

}  // namespace muster::manager::ca
