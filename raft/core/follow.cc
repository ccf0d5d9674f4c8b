// A follower's side: entries, commits and snapshots from the leader.
#include <algorithm>

#include "base/check.h"
#include "raft/core/core.h"
#include "raft/core/mutant.h"

namespace muster::raft {

void Core::hear_leader(TimePoint now, MemberId leader) {
  // Two leaders in one term would mean that votes were lost: nothing could be trusted any more.
  MUSTER_CHECK(role_ != Role::kLeader && (!leader_ || leader_ == leader), "two leaders in a term");
  if (role_ != Role::kFollower) become_follower(now, hard_state_.term, leader);
  leader_ = leader;
  suspects_ = false;
  lease_until_ = now + tuning_.election_min;
  arm_election(now);
}

void Core::on_append(TimePoint now, Message message) {
  hear_leader(now, message.from);
  Message reply = to(message.from, MessageKind::kAppendReply);
  const Index last_new = message.prev_index + message.entries.size();
  if (message.prev_index < commit_ && last_new <= commit_) {
    // Late, or sent again: it is all here, for good.
    reply.index = commit_;
    return send_when_durable(std::move(reply));
  }
  if (message.prev_index < log_.first() - 1) {
    // The beginning is in our snapshot, hence committed and the same.
    const Index known = log_.first() - 1 - message.prev_index;
    message.entries.erase(message.entries.begin(),
                          message.entries.begin() + static_cast<ptrdiff_t>(known));
    message.prev_index += known;
    message.prev_term = *log_.term(message.prev_index);
  }
  const bool known = fault(Mutant::kPreviousTermIgnored)
                         ? message.prev_index <= log_.last()
                         : log_.matches(message.prev_index, message.prev_term);
  if (!known) {
    reply.reject = true;
    reply.prev_index = message.prev_index;
    reply.index = log_.last_with_term_up_to(message.prev_index, message.prev_term);
    // It cannot be the previous entry itself, whose term may be smaller here than there.
    if (reply.index == message.prev_index && reply.index > 0) --reply.index;
    reply.hint_term = log_.term(reply.index).value_or(0);
    return send(std::move(reply));
  }
  take_entries(std::move(message.entries));
  // No more is known to agree with the leader than this message covers.
  commit_to(std::min(message.commit, last_new));
  reply.index = last_new;
  send_when_durable(std::move(reply));
}

// Keeps what agrees already: a message that comes late must not cut what came after it.
void Core::take_entries(std::vector<Entry> entries) {
  for (Entry& entry : entries) {
    const bool old_cuts = fault(Mutant::kOldAppendCuts) && entry.index > commit_;
    if (log_.matches(entry.index, entry.term) && !old_cuts) continue;
    if (entry.index <= log_.last()) truncate_from(entry.index);
    append_entry(std::move(entry));
  }
}

void Core::truncate_from(Index index) {
  MUSTER_CHECK(index > commit_, "a committed entry would be lost");
  log_.truncate_from(index);
  if (!fault(Mutant::kCutMembersKept)) {
    members_.erase(members_.lower_bound(index), members_.end());
  }
  durable_ = std::min(durable_, index - 1);
  for (Outstanding& step : outstanding_) {
    if (fault(Mutant::kLateWriteCounts)) break;
    step.durable_to = std::min(step.durable_to, index - 1);
  }
  if (unwritten_from_ >= index) unwritten_from_ = 0;
}

void Core::append_entry(Entry entry) {
  if (unwritten_from_ == 0) unwritten_from_ = entry.index;
  if (entry.kind == EntryKind::kMembers) {
    auto members = decode_members(entry.bytes());
    MUSTER_CHECK(members.has_value(), "a membership entry does not parse");
    members_.insert_or_assign(entry.index, *std::move(members));
  }
  log_.append(std::move(entry));
}

void Core::commit_to(Index index) {
  if (index <= commit_) return;
  MUSTER_CHECK(index <= log_.last(), "committed beyond the log");
  commit_ = index;
}

void Core::on_heartbeat(TimePoint now, const Message& message) {
  hear_leader(now, message.from);
  // The leader says no more than what it knows to be here.
  commit_to(std::min(message.commit, log_.last()));
  Message reply = to(message.from, MessageKind::kHeartbeatReply);
  reply.read_round = message.read_round;
  reply.index =
      commit_;  // shows a leader whose snapshot's acknowledgement was lost that it is here
  send(std::move(reply));
}

void Core::on_snapshot(TimePoint now, Message message) {
  hear_leader(now, message.from);
  Message reply = to(message.from, MessageKind::kAppendReply);
  const SnapshotMark& mark = message.snapshot;
  if (mark.index <= commit_) {
    reply.index = commit_;  // an old one, or a repeated one
  } else if (log_.matches(mark.index, mark.term)) {
    commit_to(mark.index);  // the entries are here already
    reply.index = mark.index;
  } else {
    reply.index = mark.index;
    log_ = EntryLog(mark.index, mark.term);
    Members group = fault(Mutant::kSnapshotMembersIgnored) ? members() : mark.members;
    members_.clear();
    members_.emplace(mark.index, std::move(group));
    commit_ = handed_out_ = mark.index;
    durable_ = 0;
    for (Outstanding& step : outstanding_) step.durable_to = 0;
    unwritten_from_ = 0;
    install_ = restore_ = mark;
    snapshot_ = std::move(message.snapshot);
    if (fault(Mutant::kSnapshotAckBeforeDisk)) return send(std::move(reply));
  }
  send_when_durable(std::move(reply));
}

}  // namespace muster::raft
