#include "deploy/daemon/manager_calls.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <utility>

#include "base/security/tls/credentials.h"
#include "manager/control/grpc/answers.h"
#include "muster/v1/control.grpc.pb.h"
#include "muster/v1/raft.grpc.pb.h"

namespace muster::daemon {
namespace {

using Deadline = std::chrono::system_clock::time_point;

constexpr Duration kOneManager = 12s;  // the leader takes up to 10 s to take a member in
constexpr size_t kAttemptsMax = 12;

Deadline in(Duration limit) {
  return std::chrono::system_clock::now() +
         std::chrono::duration_cast<std::chrono::system_clock::duration>(limit);
}

std::string trailer(const grpc::ClientContext& context, const char* key) {
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto it = trailers.find(key);
  return it == trailers.end() ? std::string() : std::string(it->second.data(), it->second.size());
}

Status to_status(const grpc::Status& status, const grpc::ClientContext& context,
                 const std::string& address) {
  if (status.ok()) return ok_status();
  const std::string reason = trailer(context, manager::control::kReasonKey);
  const auto code = static_cast<StatusCode>(status.error_code());
  // gRPC's own words are about subchannels; a manager's have a reason.
  const bool transport =
      reason.empty() && (code == StatusCode::kUnavailable || code == StatusCode::kDeadlineExceeded);
  if (!transport) return Status(code, status.error_message(), reason);
  return Status(StatusCode::kUnavailable,
                fmt::format("cannot reach a manager at {}: {}", address, status.error_message()),
                "unreachable");
}

// One call to one manager.
template <class Response, class Method>
Result<Response> call(const std::string& address, Deadline deadline, Method method,
                      std::string* leader = nullptr) {
  grpc::ClientContext context;
  context.set_deadline(deadline);
  Response response;
  const grpc::Status status = method(context, response);
  if (leader != nullptr) *leader = trailer(context, manager::control::kLeaderKey);
  MUSTER_TRY(to_status(status, context, address));
  return response;
}

bool worth_another(const Status& status) {
  return status.code() == StatusCode::kUnavailable ||
         status.code() == StatusCode::kDeadlineExceeded || status.reason() == "not-leader";
}

// Asks one manager after the other.
template <class Response, class Service, class Method>
Result<Response> ask(const Managers& managers, Method method) {
  const Deadline end = in(managers.limit);
  std::deque<std::string> next(managers.addresses.begin(), managers.addresses.end());
  std::vector<std::string> asked;
  Status last = unavailable("no manager of the swarm is known");
  for (size_t attempts = 0; !next.empty() && attempts < kAttemptsMax; ++attempts) {
    if (std::chrono::system_clock::now() >= end) break;
    const std::string address = next.front();
    next.pop_front();
    asked.push_back(address);
    security::ManagerChannel channel(managers.identity, address);
    const auto stub = Service::NewStub(channel.get());
    std::string leader;
    auto response = call<Response>(
        address, std::min(end, in(kOneManager)),
        [&](grpc::ClientContext& context, Response& out) { return method(*stub, context, out); },
        &leader);
    if (response || !worth_another(response.error())) return response;
    last = response.error();
    // The leader is asked next, once more at most when it was asked before.
    if (!leader.empty() && std::count(asked.begin(), asked.end(), leader) < 2) {
      std::erase(next, leader);
      next.push_front(leader);
    }
  }
  return fail(last);
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

}  // namespace muster::daemon
