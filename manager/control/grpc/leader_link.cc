#include "manager/control/grpc/leader_link.h"

#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/grpc/callback_threads.h"
#include "manager/control/control_api.h"
#include "manager/control/forwarding.h"
#include "manager/control/grpc/answers.h"
#include "manager/members/group_facts.h"

namespace muster::manager::control {
LeaderLink::LeaderLink(ControlApi& api, LeaderRoute route) : api_(api), route_(std::move(route)) {
  keep_callback_threads();
}

void LeaderLink::keep_looking(Look look) {
  looking_.push_back(std::move(look));
  if (std::exchange(ticking_, true)) return;
  api_.strand().after(kLookAgain, [self = shared_from_this()] { self->tick(); });
}

void LeaderLink::tick() {
  const std::optional<raft::GroupView> view = api_.group_view();
  std::list<Look> due;
  due.swap(looking_);
  for (auto look = due.begin(); look != due.end();) {
    look = (*look)(view ? &*view : nullptr) ? std::next(look) : due.erase(look);
  }
  looking_.splice(looking_.begin(), due);
  ticking_ = !looking_.empty();
  count_ahead(view);
  if (!ticking_) return;
  api_.strand().after(kLookAgain, [self = shared_from_this()] { self->tick(); });
}

std::unique_ptr<LeaderLink::Place> LeaderLink::enter() {
  if (under_way_ >= kUnderWayMax) return nullptr;
  return std::make_unique<Place>(shared_from_this());
}

Status LeaderLink::crowded() {
  return resource_exhausted("too many requests wait for the leader already");
}

void LeaderLink::explain_no_leader(UniqueFunction<void(Status)> done) {
  if (counted()) {
    return api_.strand().post(
        [status = counted_, done = std::move(done)]() mutable { done(std::move(status)); });
  }
  if (counting_ != nullptr) return counting_->done.push_back(std::move(done));
  begin_count();
  counting_->done.push_back(std::move(done));
}

bool LeaderLink::counted() const {
  return counted_at_ && api_.strand().clock().now() < *counted_at_ + kCountFresh;
}

void LeaderLink::count_ahead(const std::optional<raft::GroupView>& view) {
  if (!ticking_ || !view || view->leader) {
    leaderless_since_.reset();
    return;
  }
  const TimePoint now = api_.strand().clock().now();
  if (!leaderless_since_) leaderless_since_ = now;
  if (now < *leaderless_since_ + kCountAfter || counting_ != nullptr || counted()) return;
  begin_count();
}

void LeaderLink::begin_count() {
  const auto count = std::make_shared<Count>();
  counting_ = count;
  count->view = api_.group_view().value_or(raft::GroupView());
  const auto end = [self = shared_from_this(), count] { self->end_count(*count); };
  if (route_.reachability != nullptr) {
    for (const raft::MemberView& m : count->view.members) {
      if (m.member.id == count->view.self) continue;
      ++count->waiting;
      route_.reachability->check(m.member.address, [count, end](const Status& status) {
        if (status.ok()) ++count->reachable;
        if (--count->waiting == 0) end();
      });
    }
  }
  if (count->waiting == 0) return api_.strand().post(end);
  count->timer = api_.strand().after(kCountLimit, end);
}

// By the last answer or by the time limit, whichever is first.
void LeaderLink::end_count(Count& count) {
  if (counting_.get() != &count) return;
  const std::shared_ptr<Count> ended = std::exchange(counting_, nullptr);
  api_.strand().cancel(ended->timer);
  counted_ = members::no_leader(ended->view, ended->reachable);
  counted_at_ = api_.strand().clock().now();
  for (auto& done : ended->done) done(counted_);
}

std::shared_ptr<grpc::Channel> LeaderLink::channel(const std::string& address) const {
  return route_.channel ? route_.channel(address) : nullptr;
}

void LeaderLink::reconnect(const std::string& address) {
  const auto way = channel(address);
  if (way == nullptr || way->GetState(false) != GRPC_CHANNEL_TRANSIENT_FAILURE) return;
  const TimePoint now = api_.strand().clock().now();
  if (reconnected_at_ && now < *reconnected_at_ + kReconnectAfter) return;
  reconnected_at_ = now;
  grpc::experimental::ChannelResetConnectionBackoff(way.get());
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
          trailer_of(context, kReasonKey)};
}

uint64_t LeaderLink::read_version(const grpc::ClientContext& context) {
  const std::string text = trailer_of(context, kVersionKey);
  return text.empty() ? 0 : std::strtoull(text.c_str(), nullptr, 10);
}

bool LeaderLink::may_have_arrived(const grpc::Status& status) {
  // gRPC has no other sign of a connection that never came to be.
  return status.error_message().find("failed to connect to all addresses") == std::string::npos;
}

}  // namespace muster::manager::control
