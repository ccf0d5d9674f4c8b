// The group, as managers deal with it.
#include <algorithm>
#include <utility>

#include "raft/node/node_impl.h"

namespace muster::raft {
namespace {

Status outcome_of(ProposeResult result) {
  if (result.outcome == Outcome::kCommitted) return ok_status();
  if (result.outcome == Outcome::kRejected) return std::move(result.why);
  return Status(StatusCode::kDeadlineExceeded,
                "the change of the group was not committed in time; it may still come true",
                "outcome-unknown");
}

}  // namespace

GroupView Node::Impl::view() const {
  const std::lock_guard lock(mutex_);
  const TimePoint at = now();
  GroupView view;
  view.self = core_.self();
  view.term = core_.term();
  view.leader = core_.leader();
  view.leads = serving_term_ != 0;
  view.behind = behind();
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
  const auto answer = [&](Status status) { push_answer(std::move(done), std::move(status)); };
  const bool heard = event([&](TimePoint at) {
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
  if (!heard) refuse([&] { answer(member_stops()); });
}

void Node::Impl::transfer(MemberId target, Group::Done done) {
  const auto answer = [&](Status status) { push_answer(std::move(done), std::move(status)); };
  const bool heard = event([&](TimePoint at) {
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
  if (!heard) refuse([&] { answer(member_stops()); });
}

void Node::Impl::read(UniqueFunction<void(Result<Index>)> done) {
  const auto answer = [&](Status status) { push_refusal(std::move(done), std::move(status)); };
  const bool heard = event([&](TimePoint at) {
    if (core_.role() != Role::kLeader) return answer(not_leader());
    if (fault(DriverMutant::kReadsUnconfirmed)) {
      return push_answer(
          [done = std::move(done), index = core_.commit()]() mutable { done(index); });
    }
    if (reads_.size() >= options_.proposals_max) {
      return answer(Status(StatusCode::kResourceExhausted,
                           fmt::format("{} reads wait already", reads_.size()), "overloaded"));
    }
    const auto ticket = core_.read(at);
    if (!ticket) return answer(ticket.error());
    reads_.emplace(*ticket, Read{at + options_.deadline, 0, std::move(done)});
  });
  if (!heard) refuse([&] { answer(member_stops()); });
}

}  // namespace muster::raft
