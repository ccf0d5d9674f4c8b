#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>

#include <functional>
#include <list>
#include <memory>
#include <string>

#include "base/executor.h"
#include "base/security/principal.h"
#include "base/status.h"
#include "base/unique_function.h"
#include "manager/control/grpc/control_service.h"
#include "raft/node/group.h"

namespace muster::manager::control {

// What requests that have to go to the leader have in common: looking at the group until there is
// one, the channel to it, who asks, and the error when there is none. Internal to the adapter.
//
// Lives on the API's strand, but for the functions that say otherwise; kept by what waits there.
class LeaderLink : public std::enable_shared_from_this<LeaderLink> {
 public:
  static constexpr Duration kLookAgain = 25ms;
  static constexpr Duration kCountLimit = 1s;
  // More requests than this do not wait for a leader.
  static constexpr size_t kLookingMax = 10'000;

  LeaderLink(ControlApi& api, LeaderRoute route);

  // Calls `look` every kLookAgain until it returns false.
  using Look = UniqueFunction<bool(const raft::GroupView&)>;
  void keep_looking(Look look);
  bool crowded() const { return looking_.size() >= kLookingMax; }
  // The error without a leader, once it is known how many managers answer. Within kCountLimit and
  // a bit.
  void explain_no_leader(UniqueFunction<void(Status)> done);

  // Any thread. Null when this manager cannot call others.
  std::shared_ptr<grpc::Channel> channel(const std::string& address) const;
  // Any thread. Carries the caller's deadline, at most `limit` away, its cancellation and its name.
  static std::unique_ptr<grpc::ClientContext> pass_on(grpc::CallbackServerContext& from,
                                                      const security::Principal& caller,
                                                      Duration limit);
  // Any thread. An answer of the leader's as it is meant: with its reason.
  static Status read_status(const grpc::Status& status, const grpc::ClientContext& context);
  // Any thread. The store's version with the answer; 0 when it does not say.
  static uint64_t read_version(const grpc::ClientContext& context);
  // Whether a call that ended like this may have reached the other side.
  static bool may_have_arrived(const grpc::Status& status);

 private:
  void tick();

  ControlApi& api_;
  const LeaderRoute route_;
  std::list<Look> looking_;
  bool ticking_ = false;
};

}  // namespace muster::manager::control
