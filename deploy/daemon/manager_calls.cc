#include "deploy/daemon/manager_calls.h"

#include <chrono>
#include <utility>

#include "base/security/tls/credentials.h"
#include "base/transport_words.h"
#include "manager/ca/grpc/ca_client.h"
#include "manager/control/grpc/answers.h"
#include "manager/control/grpc/ask_managers.h"
#include "muster/v1/control.grpc.pb.h"
#include "muster/v1/raft.grpc.pb.h"

namespace muster::daemon {
namespace {

using Deadline = std::chrono::system_clock::time_point;

constexpr Duration kOneManager = 12s;  // the leader takes up to 10 s to take a member in

Status to_status(const grpc::Status& status, const grpc::ClientContext& context,
                 const std::string& address) {
  if (status.ok()) return ok_status();
  const std::string reason = manager::control::trailer_of(context, manager::control::kReasonKey);
  const auto code = static_cast<StatusCode>(status.error_code());
  // gRPC's own words are about subchannels; a manager's have a reason.
  const bool transport =
      reason.empty() && (code == StatusCode::kUnavailable || code == StatusCode::kDeadlineExceeded);
  if (!transport) return Status(code, status.error_message(), reason);
  return Status(StatusCode::kUnavailable,
                fmt::format("cannot reach a manager at {}: {}", address,
                            transport_words(status.error_message())),
                "unreachable");
}

template <class Response, class Service, class Method>
Result<Response> ask(const Managers& managers, Method method) {
  return manager::control::ask_managers<Response>(
      managers.addresses, {managers.limit, kOneManager},
      [&](const std::string& address, Deadline deadline, std::string& leader) -> Result<Response> {
        security::ManagerChannel channel(managers.identity, address);
        const auto stub = Service::NewStub(channel.get());
        grpc::ClientContext context;
        context.set_deadline(deadline);
        Response response;
        const grpc::Status status = method(*stub, context, response);
        leader = manager::control::trailer_of(context, manager::control::kLeaderKey);
        MUSTER_TRY(to_status(status, context, address));
        return response;
      });
}

}  // namespace

Result<v1::JoinMemberResponse> join_group(const Managers& managers,
                                          const v1::JoinMemberRequest& request) {
  return ask<v1::JoinMemberResponse, v1::Membership>(
      managers, [&](auto& stub, grpc::ClientContext& context, auto& out) {
        return stub.Join(&context, request, &out);
      });
}

Status withdraw_node(const Managers& managers, const std::string& node_id) {
  v1::RemoveNodeRequest request;
  request.set_node_id(node_id);
  request.set_force(true);
  const auto removed = ask<v1::RemoveNodeResponse, v1::Control>(
      managers, [&](auto& stub, grpc::ClientContext& context, auto& out) {
        return stub.RemoveNode(&context, request, &out);
      });
  return removed ? ok_status() : removed.error();
}

Status leave_group(const Managers& managers, const v1::LeaveMemberRequest& request) {
  const auto left = ask<v1::LeaveMemberResponse, v1::Membership>(
      managers, [&](auto& stub, grpc::ClientContext& context, auto& out) {
        return stub.Leave(&context, request, &out);
      });
  return left ? ok_status() : left.error();
}

void renew_certificate(WorkPool& pool, Executor& strand, Managers managers, WallTime now,
                       UniqueFunction<void(Result<manager::ca::Issued>)> done) {
  using Done = UniqueFunction<void(Result<manager::ca::Issued>)>;
  const auto kept = std::make_shared<Done>(std::move(done));
  const bool queued = pool.post([&strand, managers = std::move(managers), now, kept] {
    auto issued =
        manager::ca::renew_certificate(*managers.identity, managers.addresses, now, managers.limit);
    strand.post([kept, issued = std::move(issued)]() mutable { (*kept)(std::move(issued)); });
  });
  if (queued) return;
  strand.post(
      [kept] { (*kept)(fail(resource_exhausted("too much waits to be done on this node"))); });
}

}  // namespace muster::daemon
