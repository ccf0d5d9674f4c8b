#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/executor.h"
#include "base/log.h"
#include "manager/members/reachability.h"
#include "manager/store/store.h"
#include "muster/v1/raft.pb.h"
#include "raft/node/group.h"

namespace muster::manager::members {

// Who wants to be a member: the node its certificate names.
struct Joiner {
  std::string node_id;
  raft::MemberId id;
  std::string address;
};

// The next thing to do for one that joins, as a function of what is true now; repeated until it is
// in, so that a request that comes twice, or whose answer was lost, ends the same.
struct JoinStep {
  enum class Kind {
    kDone,          // it is a member
    kRefuse,        // `status` says why
    kCheckAddress,  // whether it can be reached there
    kRemove,        // `older`, the same node's member of an earlier life
    kAdd,
  };
  Kind kind = Kind::kRefuse;
  Status status;
  raft::MemberId older;
};
// `node` is null when there is none. `checked`: the address was reached. Pure.
JoinStep next_join_step(const raft::GroupView& view, const v1::Node* node, const Joiner& joiner,
                        bool checked);

// The same for a member that leaves because its node does; kTransfer: this node is the one.
struct LeaveStep {
  enum class Kind { kDone, kRefuse, kTransfer, kRemove };
  Kind kind = Kind::kRefuse;
  Status status;
};
LeaveStep next_leave_step(const raft::GroupView& view, const std::string& node_id,
                          raft::MemberId id);

// What managers ask on behalf of the group; answered by the leader, UNAVAILABLE with reason
// "not-leader" by others. The caller's identity is checked before: it has a manager's certificate.
//
// Lives on the store's strand; callbacks arrive there, exactly once, within kLimit and the time of
// the step that was under way then.
class Membership {
 public:
  template <class T>
  using Callback = UniqueFunction<void(Result<T>)>;
  static constexpr Duration kLimit = 10s;
  static constexpr Duration kAgain = 100ms;  // when another change of the group is under way

  // `group` and `reachability` outlive it.
  Membership(Executor& strand, store::Store& store, raft::Group& group, Reachability& reachability,
             Log log);

  Executor& strand() { return strand_; }
  // Any thread.
  raft::GroupView view() const { return group_.view(); }

  void join(const std::string& node_id, const v1::JoinMemberRequest& request,
            Callback<v1::JoinMemberResponse> done);
  void leave(const std::string& node_id, const v1::LeaveMemberRequest& request,
             Callback<v1::LeaveMemberResponse> done);

 private:
  struct Join;
  struct Leave;
  void go_on(std::shared_ptr<Join> join);
  void go_on(std::shared_ptr<Leave> leave);
  // Calls go_on() again when `status` allows that, else ends.
  template <class Request>
  void after_change(std::shared_ptr<Request> request, const Status& status);
  // True: it has ended because of that.
  template <class Request>
  bool out_of_time(Request& request);

  Executor& strand_;
  store::Store& store_;
  raft::Group& group_;
  Reachability& reachability_;
  Log log_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace muster::manager::members
