// The group, as managers deal with it.
#include <algorithm>
#include <utility>

#include "raft/node/node_impl.h"

namespace muster::raft {
namespace {

Status not_leader() {
  return Status(StatusCode::kUnavailable, "this manager is not the leader", "not-leader");
}

Status outcome_of(ProposeResult result) {
  if (result.outcome == Outcome::kCommitted) return ok_status();
  if (result.outcome == Outcome::kRejected) return std::move(result.why);
  return Status(StatusCode::kDeadlineExceeded,
                "the change of the group was not committed in time; it may still come true",
                "outcome-unknown");
}

}  // namespace

const MemberView* GroupView::find(MemberId id) const {
  for (const MemberView& view : members) {
    if (view.member.id == id) return &view;
  }
  return nullptr;
}

const MemberView* GroupView::find_node(const std::string& node_id) const {
  for (const MemberView& view : members) {
    if (view.member.node_id == node_id) return &view;
  }
  return nullptr;
}

GroupView Node::Impl::view() const {
  const std::lock_guard lock(mutex_);
  const TimePoint at = now();
  GroupView view;
  view.self = core_.self();
  view.term = core_.term();
  view.leader = core_.leader();
  view.leads = serving_term_ != 0;
  view.commit = core_.commit();
  view.applied = user_applied_;
  // A member that waits to be added only knows of the group what it was told at first.
  for (const Member& member : core_.members().list) {
    MemberView& one = view.members.emplace_back();
    one.member = member;
    one.leader = member.id == core_.leader();
    one.reachable = reachable(at, member.id);
    if (const Progress* progress = core_.progress(member.id)) {
      one.caught_up = !member.voter && progress->caught_up();
      one.match = member.id == core_.self() ? core_.durable() : progress->match();
    }
  }
  return view;
}

void Node::Impl::change_members(Change change, Group::Done done) {
  event([&](TimePoint at) {
    const auto answer = [&](Status status) {
      push_answer([done = std::move(done), status = std::move(status)]() mutable {
        done(std::move(status));
      });
    };
    if (serving_term_ == 0) return answer(not_leader());
    auto next = change(core_.members());
    if (!next) return answer(next.error());
    if (!*next) {
      // So it is, but it is certain only when it is committed.
      if (core_.members_index() <= core_.commit()) return answer(ok_status());
      return answer(Status(StatusCode::kFailedPrecondition,
                           "another change of the group is under way", "change-pending"));
    }
    const Term term = core_.term();
    const auto index = core_.propose_members(at, **std::move(next));
    if (!index) return answer(index.error());
    in_flight_.push_back({*index, term, at + options_.deadline,
                          [done = std::move(done)](ProposeResult result) mutable {
                            done(outcome_of(std::move(result)));
                          }});
  });
  if (done) done = nullptr;
}

void Node::Impl::transfer(MemberId target, Group::Done done) {
  event([&](TimePoint at) {
    const auto answer = [&](Status status) {
      push_answer([done = std::move(done), status = std::move(status)]() mutable {
        done(std::move(status));
      });
    };
    if (core_.role() != Role::kLeader) return answer(not_leader());
    if (transfer_ || core_.transferring()) {
      return answer(
          Status(StatusCode::kUnavailable, "leadership is being handed over", "transferring"));
    }
    const MemberId to = target ? target : best_successor(at);
    if (!to) return answer(failed_precondition("no other manager could take over the leadership"));
    if (to == core_.self()) return answer(ok_status());
    if (Status status = core_.transfer_to(at, to); !status.ok()) return answer(std::move(status));
    transfer_ = Transfer{target, at + options_.deadline, std::move(done)};
  });
}

void Node::Impl::read(UniqueFunction<void(Result<Index>)> done) {
  event([&](TimePoint at) {
    Result<uint64_t> ticket = fail(not_leader());
    if (core_.role() == Role::kLeader) ticket = core_.read(at);
    if (!ticket) {
      push_answer([done = std::move(done), status = ticket.error()]() mutable {
        done(fail(std::move(status)));
      });
      return;
    }
    reads_.emplace(*ticket, Read{at + options_.deadline, 0, std::move(done)});
  });
}

}  // namespace muster::raft
