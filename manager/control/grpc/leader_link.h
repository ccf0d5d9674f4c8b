#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/executor.h"
#include "base/security/principal.h"
#include "base/status.h"
#include "base/unique_function.h"
#include "manager/control/grpc/control_service.h"
#include "raft/node/group.h"

namespace muster::manager::control {

// What requests that have to go to the leader, or to wait for one, have in common: looking at the
// group until there is one, the channel to it, who asks, and the error when there is none. Internal
// to the adapter.
//
// Lives on the API's strand, but for the functions that say otherwise; kept by what waits there.
//
// Bounds: kUnderWayMax requests at a time; one reconnection every kReconnectAfter; one count of who
// can be reached, however many wait.
class LeaderLink : public std::enable_shared_from_this<LeaderLink> {
 public:
  static constexpr Duration kLookAgain = 10ms;
  static constexpr Duration kCountLimit = 1s;
  // It begins when somebody has waited without a leader for so long, to be known when he gives up.
  static constexpr Duration kCountAfter = 1s;
  // A count serves whoever asks within this time of its end.
  static constexpr Duration kCountFresh = 2s;
  static constexpr size_t kUnderWayMax = 10'000;
  // A manager that refused a connection is tried again for whoever needs it, this often at most.
  static constexpr Duration kReconnectAfter = 20ms;

  LeaderLink(ControlApi& api, LeaderRoute route);

  // A request under way, until the place is given back. On the strand, like all else of it.
  class Place {
   public:
    explicit Place(std::shared_ptr<LeaderLink> link) : link_(std::move(link)) {
      ++link_->under_way_;
    }
    ~Place() { --link_->under_way_; }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

   private:
    const std::shared_ptr<LeaderLink> link_;
  };
  // Null when too many are under way.
  std::unique_ptr<Place> enter();
  static Status crowded();

  // Calls `look` every kLookAgain until it returns false; with null when this is no manager any
  // more.
  using Look = UniqueFunction<bool(const raft::GroupView*)>;
  void keep_looking(Look look);
  // The error without a leader, once it is known how many managers answer. Within kCountLimit and
  // a bit; never from inside the call.
  void explain_no_leader(UniqueFunction<void(Status)> done);

  // Any thread. Null when this manager cannot call others.
  std::shared_ptr<grpc::Channel> channel(const std::string& address) const;
  // The channel to `address` does not wait for the end of its backoff: whoever leads has come back,
  // though it refused connections a moment ago.
  void reconnect(const std::string& address);
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
  // How many of the group answer.
  struct Count {
    raft::GroupView view;
    size_t reachable = 1;  // this node
    size_t waiting = 0;
    Executor::TimerId timer = 0;
    std::vector<UniqueFunction<void(Status)>> done;
  };
  void tick();
  void count_ahead(const std::optional<raft::GroupView>& view);
  bool counted() const;
  void begin_count();
  void end_count(Count& count);

  ControlApi& api_;
  const LeaderRoute route_;
  std::list<Look> looking_;
  bool ticking_ = false;
  size_t under_way_ = 0;
  std::optional<TimePoint> reconnected_at_;
  std::optional<TimePoint> leaderless_since_;  // while somebody looks
  std::shared_ptr<Count> counting_;
  Status counted_;
  std::optional<TimePoint> counted_at_;
};

}  // namespace muster::manager::control
