// From the core to its surroundings: steps to the disk, messages to the transport, entries and
// leadership to the user. Everything here runs under the lock.
#include <iterator>
#include <utility>

#include "base/check.h"
#include "raft/node/chunk_frames.h"
#include "raft/node/node_impl.h"

namespace muster::raft {

void Node::Impl::carry_out(TimePoint at) {
  do {
    Output out = core_.take();
    // Whoever is written to must be known, and leadership that was lost ends before anything of
    // another leader is applied.
    follow_members();
    if (leadership_is_lost()) {
      sort_out(committed_here(out.apply));
      end_serving();
    }
    hand_to_disk(at, std::move(out.writes));
    for (Message& message : out.messages) send(std::move(message));
    if (out.restore) {
      // One that waits to be loaded need not be any more.
      std::erase_if(deliveries_,
                    [](const Delivery& d) { return d.kind == Delivery::Kind::kRestore; });
      push({.kind = Delivery::Kind::kRestore,
            .index = out.restore->index,
            .term = out.restore->term});
    }
    sort_out(std::move(out.apply));
    for (const ReadGrant& granted : out.reads) grant(granted);
  } while (core_.has_output());
  begin_serving();
  finish_transfer(at);
  note_changes(at);
  maybe_stop(at);
  arm_timer(at);
  post_deliveries();
}

void Node::Impl::hand_to_disk(TimePoint at, std::vector<Write> writes) {
  unflushed_ |= !writes.empty();
  for (Write& write : writes) {
    writing_.push_back({write.token, at});
    disk_.write(std::move(write));
  }
}

void Node::Impl::send(Message message) {
  unflushed_ = true;
  if (message.kind != MessageKind::kSnapshot) return transport_->send(std::move(message));
  log_->info("sending the snapshot at entry {} to member {:x}", message.snapshot.index,
             message.to.value);
  auto body = std::make_unique<FramedReader>(disk_, message.snapshot.index, message.snapshot.term);
  transport_->send_snapshot(std::move(message), std::move(body));
}

// What was proposed here in the term that still lasts is answered, everything else is applied.
void Node::Impl::sort_out(std::vector<Entry> entries) {
  if (entries.empty()) return;
  Delivery delivery{.kind = Delivery::Kind::kEntries};
  delivery.index = entries.back().index;
  delivery.steps.reserve(entries.size());
  for (Entry& entry : entries) {
    Delivery::Step step;
    if (!in_flight_.empty() && in_flight_.front().index == entry.index) {
      InFlight& ours = in_flight_.front();
      MUSTER_CHECK(ours.term == entry.term, "a leader's own entry was replaced");
      step.done = std::move(ours.done);
      in_flight_.pop_front();
    }
    step.entry = std::move(entry);
    delivery.steps.push_back(std::move(step));
  }
  push(std::move(delivery));
}

void Node::Impl::grant(const ReadGrant& granted) {
  const auto found = reads_.find(granted.ticket);
  if (found == reads_.end()) return;  // its deadline passed
  if (granted.index != 0 && granted.index > user_applied_) {
    found->second.index = granted.index;  // caught_up_to() answers
    return;
  }
  if (granted.index == 0) {
    push_refusal(
        std::move(found->second.done),
        Status(StatusCode::kUnavailable, "this manager lost the leadership", "not-leader"));
  } else {
    push_answer(
        [done = std::move(found->second.done), index = granted.index]() mutable { done(index); });
  }
  reads_.erase(found);
}

// The transport reaches those who belong by the newest entry, committed or not. Who is being taken
// out stays until that is committed: before, it may be undone, and "removed" would be final. A
// member that has not yet read of itself reads of groups of the past, and keeps everybody it knows.
void Node::Impl::follow_members() {
  const Index newest = core_.members_index();
  const bool settled = newest <= core_.commit();
  if (newest == listed_index_ && (!settled || newest == settled_index_)) return;
  const Members& members = core_.members();
  listed_index_ = newest;
  if (settled) {
    settled_index_ = newest;
    const bool member = members.find(core_.self()) != nullptr;
    if (was_member_ && !member) tell_removed();
    was_member_ = was_member_ || member;
    if (was_member_) listed_ = members;
  }
  for (const Member& member : members.list) listed_.put(member);
  transport_->set_members(listed_);
}

void Node::Impl::tell_removed() {
  if (std::exchange(told_removed_, true) || fault(DriverMutant::kRemovalUntold)) return;
  log_->warn("this member was removed from the group");
  push({.kind = Delivery::Kind::kRemoved});
}

bool Node::Impl::leadership_is_lost() {
  const bool leads = core_.role() == Role::kLeader;
  if (!leads) resign_by_.reset();
  return serving_term_ != 0 && !(leads && core_.term() == serving_term_);
}

// Takes out of `entries` those up to the last one that was proposed here: the commit that ended
// this leadership (a leader that was taken out), or one that came with the word of the next leader.
std::vector<Entry> Node::Impl::committed_here(std::vector<Entry>& entries) {
  size_t count = 0;
  auto ours = in_flight_.begin();
  for (size_t i = 0; i < entries.size() && ours != in_flight_.end(); ++i) {
    if (entries[i].index < ours->index) continue;
    if (entries[i].term != ours->term) break;
    count = i + 1;
    ++ours;
  }
  const auto end = entries.begin() + static_cast<ptrdiff_t>(count);
  std::vector<Entry> committed(std::make_move_iterator(entries.begin()),
                               std::make_move_iterator(end));
  entries.erase(entries.begin(), end);
  return committed;
}

// The user leads once its state has every commit of before; the entry that began the term is the
// last of them.
void Node::Impl::begin_serving() {
  if (life_ != Life::kRunning || serving_term_ != 0 || core_.role() != Role::kLeader) return;
  if (core_.term() == resigned_term_) return;
  if (core_.applied_index() < core_.own_term_index() && !fault(DriverMutant::kLeadsBeforeApplied)) {
    return;
  }
  serving_term_ = core_.term();
  push({.kind = Delivery::Kind::kLead, .term = serving_term_});
}

void Node::Impl::end_serving() {
  if (serving_term_ == 0) return;
  for (InFlight& proposal : std::exchange(in_flight_, {})) {
    if (fault(DriverMutant::kUnknownIsCommitted)) {
      push_answer([done = std::move(proposal.done), index = proposal.index]() mutable {
        done({Outcome::kCommitted, index, {}});
      });
      continue;
    }
    push_answer([done = std::move(proposal.done)]() mutable {
      done({Outcome::kUnknown, 0,
            Status(StatusCode::kUnknown, "leadership was lost before a quorum had the entry",
                   "outcome-unknown")});
    });
  }
  if (!fault(DriverMutant::kEndOfLeadershipUntold)) {
    push({.kind = Delivery::Kind::kEndLeading, .term = serving_term_});
  }
  serving_term_ = 0;
}

}  // namespace muster::raft
