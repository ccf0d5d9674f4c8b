#include "manager/members/membership.h"

#include <fmt/format.h>

#include <utility>

#include "base/check.h"
#include "manager/ca/address.h"
#include "manager/members/group_facts.h"

namespace muster::manager::members {
namespace {

JoinStep refuse(Status status) {
  return {JoinStep::Kind::kRefuse, std::move(status), {}};
}

}  // namespace

JoinStep next_join_step(const raft::GroupView& view, const v1::Node* node, const Joiner& joiner,
                        bool checked) {
  if (!view.leads) return refuse(not_leader(view));
  if (!joiner.id) return refuse(invalid_argument("a member needs an id"));
  if (Status form = ca::check_manager_address(joiner.address); !form.ok())
    return refuse(std::move(form));
  if (node == nullptr) {
    return refuse(Status(StatusCode::kPermissionDenied,
                         fmt::format("node {} is not part of the swarm any more", joiner.node_id),
                         "node-removed"));
  }
  if (node->spec().desired_role() != v1::NodeSpec::MANAGER) {
    return refuse(Status(StatusCode::kFailedPrecondition,
                         fmt::format("node {} is to be a worker, not a manager", joiner.node_id),
                         "not-a-manager"));
  }
  const raft::MemberView* same = view.find(joiner.id);
  if (same != nullptr && same->member.node_id != joiner.node_id) {
    return refuse(already_exists("member {} is of another node", raft_id_text(joiner.id)));
  }
  if (same != nullptr && same->member.address == joiner.address) {
    return {JoinStep::Kind::kDone, {}, {}};
  }
  const raft::MemberView* older = nullptr;
  for (const raft::MemberView& m : view.members) {
    if (m.member.id == joiner.id) continue;
    if (m.member.node_id == joiner.node_id) {
      older = &m;
    } else if (m.member.address == joiner.address) {
      return refuse(Status(
          StatusCode::kAlreadyExists,
          fmt::format("manager {} has the address {} already{}", m.member.node_id, joiner.address,
                      m.reachable || m.member.id == view.self
                          ? ""
                          : ", and does not answer: if it was this host before, demote and remove "
                            "it (muster node demote, muster node rm), then join again"),
          "address-in-use"));
    }
  }
  // One that answers lives: its disk was copied, not lost.
  if (older != nullptr && (older->member.id == view.self || older->reachable)) {
    return refuse(Status(
        StatusCode::kUnavailable,
        fmt::format("node {} is a manager at {} already, and that one answers: two managers cannot "
                    "have one identity. A manager that has lost its disk is let in once its "
                    "earlier self has been silent for a while",
                    joiner.node_id, older->member.address),
        "identity-in-use"));
  }
  if (!checked) return {JoinStep::Kind::kCheckAddress, {}, {}};
  if (older != nullptr) {
    if (older->member.voter && !keeps_quorum(view, {older->member.id})) {
      return refuse(failed_precondition(
          "member cannot be removed, because removing it may result in loss of quorum: node {} was "
          "member {} before",
          joiner.node_id, raft_id_text(older->member.id)));
    }
    return {JoinStep::Kind::kRemove, {}, older->member.id};
  }
  return {JoinStep::Kind::kAdd, {}, {}};
}

LeaveStep next_leave_step(const raft::GroupView& view, const std::string& node_id,
                          raft::MemberId id) {
  if (!view.leads) return {LeaveStep::Kind::kRefuse, not_leader(view)};
  const raft::MemberView* member = view.find(id);
  if (member == nullptr) return {LeaveStep::Kind::kDone, {}};
  if (member->member.node_id != node_id) {
    return {LeaveStep::Kind::kRefuse,
            permission_denied("member {} is of another node than {}", raft_id_text(id), node_id)};
  }
  if (member->member.voter && !keeps_quorum(view, {id})) {
    return {LeaveStep::Kind::kRefuse,
            failed_precondition("member cannot be removed, because removing it may result in loss "
                                "of quorum")};
  }
  return {id == view.self ? LeaveStep::Kind::kTransfer : LeaveStep::Kind::kRemove, {}};
}

// ------------------------------------------------------------ the shell

struct Membership::Join {
  Joiner joiner;
  bool checked = false;
  int changes = 0;  // of the group, made for it
  Status waits_for;
  TimePoint until;
  Callback<v1::JoinMemberResponse> done;

  void end(Status status) { done(fail(std::move(status))); }
};

struct Membership::Leave {
  std::string node_id;
  raft::MemberId id;
  bool demoted = false;
  int changes = 0;
  Status waits_for;
  TimePoint until;
  Callback<v1::LeaveMemberResponse> done;

  void end(Status status) { done(fail(std::move(status))); }
};

Membership::Membership(Executor& strand, store::Store& store, raft::Group& group,
                       Reachability& reachability, Log log)
    : strand_(strand),
      store_(store),
      group_(group),
      reachability_(reachability),
      log_(std::move(log)) {}

void Membership::join(const std::string& node_id, const v1::JoinMemberRequest& request,
                      Callback<v1::JoinMemberResponse> done) {
  MUSTER_CHECK(strand_.is_current());
  auto join = std::make_shared<Join>();
  join->joiner = {node_id, {request.member_id()}, request.address()};
  join->until = strand_.clock().now() + kLimit;
  join->done = std::move(done);
  go_on(std::move(join));
}

template <class Request>
void Membership::after_change(std::shared_ptr<Request> request, const Status& status) {
  // Removing an earlier self and adding is all there is to do; the view may lag behind it.
  if (status.ok() && ++request->changes <= 2) return go_on(std::move(request));
  // Somebody else's change is under way: it ends, one way or the other.
  if (!status.ok() && status.reason() != "change-pending") return request->end(status);
  request->waits_for = status;
  strand_.after(kAgain, [this, weak = std::weak_ptr<int>(alive_), request]() mutable {
    if (weak.expired()) return request->end(unavailable("this manager stops"));
    go_on(std::move(request));
  });
}

template <class Request>
bool Membership::out_of_time(Request& request) {
  if (strand_.clock().now() < request.until) return false;
  request.end(request.waits_for.ok() ? Status(StatusCode::kDeadlineExceeded,
                                              "the group of managers did not change in time; it "
                                              "may still do so")
                                     : request.waits_for);
  return true;
}

void Membership::go_on(std::shared_ptr<Join> join) {
  const raft::GroupView view = group_.view();
  const auto node = store_.snapshot().get<v1::Node>(join->joiner.node_id);
  JoinStep step = next_join_step(view, node.get(), join->joiner, join->checked);
  const bool over = step.kind == JoinStep::Kind::kRefuse || step.kind == JoinStep::Kind::kDone;
  if (!over && out_of_time(*join)) return;
  const auto changed = [this, weak = std::weak_ptr<int>(alive_), join](const Status& status) {
    if (weak.expired()) return join->end(unavailable("this manager stops"));
    after_change(join, status);
  };
  switch (step.kind) {
    case JoinStep::Kind::kRefuse: return join->end(std::move(step.status));
    case JoinStep::Kind::kDone: return join->done(v1::JoinMemberResponse());
    case JoinStep::Kind::kCheckAddress:
      return reachability_.check(
          join->joiner.address, [this, weak = std::weak_ptr<int>(alive_), join](const Status& s) {
            if (weak.expired()) return join->end(unavailable("this manager stops"));
            if (!s.ok()) {
              return join->end(Status(
                  StatusCode::kFailedPrecondition,
                  fmt::format("could not connect to prospective new cluster member using its "
                              "advertised address {}: {}",
                              join->joiner.address, s.message()),
                  "address-unreachable"));
            }
            join->checked = true;
            go_on(join);
          });
    case JoinStep::Kind::kRemove:
      log_->warn("node {} is back with an empty disk: member {} is removed", join->joiner.node_id,
                 raft_id_text(step.older));
      return group_.remove(step.older, changed);
    case JoinStep::Kind::kAdd: {
      raft::Member member;
      member.id = join->joiner.id;
      member.node_id = join->joiner.node_id;
      member.address = join->joiner.address;
      log_->info("node {} at {} joins as member {}", member.node_id, member.address,
                 raft_id_text(member.id));
      return group_.add_learner(std::move(member), changed);
    }
  }
}

void Membership::leave(const std::string& node_id, const v1::LeaveMemberRequest& request,
                       Callback<v1::LeaveMemberResponse> done) {
  MUSTER_CHECK(strand_.is_current());
  auto leave = std::make_shared<Leave>();
  leave->node_id = node_id;
  leave->id = {request.member_id()};
  leave->until = strand_.clock().now() + kLimit;
  leave->done = std::move(done);
  go_on(std::move(leave));
}

void Membership::go_on(std::shared_ptr<Leave> leave) {
  LeaveStep step = next_leave_step(group_.view(), leave->node_id, leave->id);
  const std::weak_ptr<int> weak = alive_;
  const bool over = step.kind == LeaveStep::Kind::kRefuse || step.kind == LeaveStep::Kind::kDone;
  if (!over && out_of_time(*leave)) return;
  switch (step.kind) {
    case LeaveStep::Kind::kRefuse: return leave->end(std::move(step.status));
    case LeaveStep::Kind::kDone: return leave->done(v1::LeaveMemberResponse());
    case LeaveStep::Kind::kTransfer:
      // The next leader does the rest: the caller goes there.
      return group_.transfer_leadership({}, [this, weak, leave](const Status& status) {
        if (weak.expired() || !status.ok()) {
          return leave->end(status.ok() ? unavailable("this manager stops") : status);
        }
        leave->end(not_leader(group_.view()));
      });
    case LeaveStep::Kind::kRemove: break;
  }
  if (leave->demoted) {
    return group_.remove(leave->id, [this, weak, leave](const Status& status) {
      if (weak.expired()) return leave->end(unavailable("this manager stops"));
      after_change(leave, status);
    });
  }
  // First it is to be a worker, or it could join again.
  store_.update(
      [node_id = leave->node_id](store::Transaction& tx) -> Status {
        const auto known = tx.view().get<v1::Node>(node_id);
        if (!known || known->spec().desired_role() == v1::NodeSpec::WORKER) return ok_status();
        v1::Node node = *known;
        node.mutable_spec()->set_desired_role(v1::NodeSpec::WORKER);
        return tx.update(std::move(node));
      },
      [this, weak, leave](const store::Commit& commit) {
        if (weak.expired() || !commit.status.ok()) {
          return leave->end(commit.status.ok() ? unavailable("this manager stops") : commit.status);
        }
        leave->demoted = true;
        go_on(leave);
      });
}

}  // namespace muster::manager::members
