#include "manager/control/grpc/leader_link.h"

#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "manager/control/control_api.h"
#include "manager/control/forwarding.h"
#include "manager/control/grpc/answers.h"
#include "manager/members/group_facts.h"

namespace muster::manager::control {
namespace {

std::string trailer(const grpc::ClientContext& context, const char* key) {
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto it = trailers.find(key);
  return it == trailers.end() ? std::string() : std::string(it->second.data(), it->second.size());
}

// How many of the group answer; shared by the checks under way and the time limit.
struct Count {
  raft::GroupView view;
  size_t reachable = 1;  // this node
  size_t waiting = 0;
  Executor* strand = nullptr;
  Executor::TimerId timer = 0;
  UniqueFunction<void(Status)> done;

  void finish() {
    if (!done) return;
    strand->cancel(timer);
    std::exchange(done, nullptr)(members::no_leader(view, reachable));
  }
};

}  // namespace

LeaderLink::LeaderLink(ControlApi& api, LeaderRoute route) : api_(api), route_(std::move(route)) {}

void LeaderLink::keep_looking(Look look) {
  looking_.push_back(std::move(look));
  if (std::exchange(ticking_, true)) return;
  api_.strand().after(kLookAgain, [self = shared_from_this()] { self->tick(); });
}

void LeaderLink::tick() {
  const raft::GroupView view = api_.group_view().value_or(raft::GroupView());
  std::list<Look> due;
  due.swap(looking_);
  for (auto look = due.begin(); look != due.end();) {
    look = (*look)(view) ? std::next(look) : due.erase(look);
  }
  looking_.splice(looking_.begin(), due);
  ticking_ = !looking_.empty();
  if (!ticking_) return;
  api_.strand().after(kLookAgain, [self = shared_from_this()] { self->tick(); });
}

void LeaderLink::explain_no_leader(UniqueFunction<void(Status)> done) {
  const auto count = std::make_shared<Count>();
  count->view = api_.group_view().value_or(raft::GroupView());
  count->strand = &api_.strand();
  count->done = std::move(done);
  count->timer = api_.strand().after(kCountLimit, [count] { count->finish(); });
  if (route_.reachability == nullptr) return count->finish();
  for (const raft::MemberView& m : count->view.members) {
    if (m.member.id == count->view.self) continue;
    ++count->waiting;
    route_.reachability->check(m.member.address, [count](const Status& status) {
      if (status.ok()) ++count->reachable;
      if (--count->waiting == 0) count->finish();
    });
  }
  if (count->waiting == 0) count->finish();
}

std::shared_ptr<grpc::Channel> LeaderLink::channel(const std::string& address) const {
  return route_.channel ? route_.channel(address) : nullptr;
}

std::unique_ptr<grpc::ClientContext> LeaderLink::pass_on(grpc::CallbackServerContext& from,
                                                         const security::Principal& caller,
                                                         Duration limit) {
  auto context = grpc::ClientContext::FromCallbackServerContext(from);
  const auto latest = std::chrono::system_clock::now() +
                      std::chrono::duration_cast<std::chrono::system_clock::duration>(limit);
  context->set_deadline(std::min(from.deadline(), latest));
  context->AddMetadata(kForwardedKey, encode_caller(caller));
  if (from.client_metadata().count(kLinearizableKey) != 0)
    context->AddMetadata(kLinearizableKey, "1");
  return context;
}

Status LeaderLink::read_status(const grpc::Status& status, const grpc::ClientContext& context) {
  return {static_cast<StatusCode>(status.error_code()), status.error_message(),
          trailer(context, kReasonKey)};
}

uint64_t LeaderLink::read_version(const grpc::ClientContext& context) {
  const std::string text = trailer(context, kVersionKey);
  return text.empty() ? 0 : std::strtoull(text.c_str(), nullptr, 10);
}

bool LeaderLink::may_have_arrived(const grpc::Status& status) {
  // gRPC has no other sign of a connection that never came to be.
  return status.error_message().find("failed to connect to all addresses") == std::string::npos;
}

}  // namespace muster::manager::control
