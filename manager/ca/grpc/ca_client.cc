#include "manager/ca/grpc/ca_client.h"

#include <grpcpp/create_channel.h>

#include <chrono>
#include <utility>

#include "base/security/join_token.h"
#include "base/security/renewal.h"
#include "base/security/tls/credentials.h"
#include "base/transport_words.h"
#include "manager/control/grpc/answers.h"
#include "manager/control/grpc/ask_managers.h"
#include "muster/v1/ca.grpc.pb.h"

namespace muster::manager::ca {
namespace {

constexpr Duration kCallLimit = 5s;

std::shared_ptr<grpc::Channel> channel_to(const std::string& address,
                                          const std::shared_ptr<grpc::ChannelCredentials>& with) {
  return grpc::CreateCustomChannel(address, with, security::manager_channel_arguments(kCallLimit));
}

Status from_grpc(const grpc::ClientContext& context, const grpc::Status& status) {
  const std::string reason = control::trailer_of(context, control::kReasonKey);
  const auto code = static_cast<StatusCode>(status.error_code());
  // gRPC's own words are about subchannels; a manager's have a reason.
  const bool transport =
      reason.empty() && (code == StatusCode::kUnavailable || code == StatusCode::kDeadlineExceeded);
  return Status(code, transport ? transport_words(status.error_message()) : status.error_message(),
                reason);
}

using Deadline = std::chrono::system_clock::time_point;

// `attempt` as ask_managers() has it.
template <class Attempt>
Result<v1::IssueCertificateResponse> ask_all(const std::vector<std::string>& addresses,
                                             Duration limit, const Attempt& attempt) {
  std::string failures;
  auto answer = control::ask_managers<v1::IssueCertificateResponse>(addresses, {limit, kCallLimit},
                                                                    attempt, &failures);
  // Final is what one of them has said about the request.
  if (answer || !control::worth_another(answer.error())) return answer;
  if (failures.empty()) failures = "no address of one is known";
  return fail(answer.error().code(), "no manager gave a certificate: " + failures,
              answer.error().reason());
}

Result<v1::IssueCertificateResponse> call_issue(const std::shared_ptr<grpc::Channel>& channel,
                                                const v1::IssueCertificateRequest& request,
                                                Deadline deadline, std::string& leader) {
  grpc::ClientContext context;
  context.set_deadline(deadline);
  v1::IssueCertificateResponse response;
  const grpc::Status status =
      v1::Ca::NewStub(channel)->IssueCertificate(&context, request, &response);
  if (status.ok()) return response;
  leader = control::trailer_of(context, control::kLeaderKey);
  return fail(from_grpc(context, status));
}

// The root that the token means, out of a manager's mouth.
Result<std::string> ask_root(const std::string& address, const security::JoinToken& token,
                             WallTime now, Deadline deadline) {
  grpc::ClientContext context;
  context.set_deadline(deadline);
  v1::GetRootCertificateResponse response;
  const auto channel = channel_to(address, security::joiner_channel_credentials({}));
  const grpc::Status status = v1::Ca::NewStub(channel)->GetRootCertificate(&context, {}, &response);
  if (!status.ok()) return fail(from_grpc(context, status));
  return pinned_root(response, token, now);
}

}  // namespace

Result<Issued> join_swarm(const JoinRequest& request, WallTime now, Duration limit) {
  MUSTER_ASSIGN(const auto token, security::parse_join_token(request.join_token));
  v1::IssueCertificateRequest call;
  MUSTER_ASSIGN(*call.mutable_signing_request_pem(),
                security::create_signing_request(request.key_pem));
  call.set_join_token(request.join_token);
  call.set_availability(request.availability);
  call.set_hostname(request.hostname);
  call.set_address(request.advertise_address);
  const auto attempt = [&](const std::string& address, Deadline deadline,
                           std::string& leader) -> Result<v1::IssueCertificateResponse> {
    MUSTER_ASSIGN(const std::string root, ask_root(address, token, now, deadline));
    return call_issue(channel_to(address, security::joiner_channel_credentials(root)), call,
                      deadline, leader);
  };
  MUSTER_ASSIGN(auto response, ask_all(request.addresses, limit, attempt));
  return accept(std::move(response), request.key_pem, now);
}

Result<Issued> renew_certificate(const security::TlsIdentity& identity,
                                 const std::vector<std::string>& addresses, WallTime now,
                                 Duration limit) {
  const auto current = identity.current();
  MUSTER_TRY(security::check_validity(current->facts, now));
  MUSTER_ASSIGN(const std::string key, security::generate_key());
  v1::IssueCertificateRequest call;
  MUSTER_ASSIGN(*call.mutable_signing_request_pem(), security::create_signing_request(key));
  const auto attempt = [&](const std::string& address, Deadline deadline, std::string& leader) {
    return call_issue(channel_to(address, security::channel_credentials(current->credentials)),
                      call, deadline, leader);
  };
  MUSTER_ASSIGN(auto response, ask_all(addresses, limit, attempt));
  return accept(std::move(response), key, now);
}

}  // namespace muster::manager::ca
