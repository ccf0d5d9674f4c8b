// A leader's side: proposals, replication, commits, reads, membership and handing over.
#include <algorithm>

#include "base/check.h"
#include "raft/core/core.h"
#include "raft/core/mutant.h"

namespace muster::raft {

namespace {

Status not_leader(MemberId leader) {
  return Status(StatusCode::kUnavailable,
                leader ? fmt::format("this member does not lead; {:x} does", leader.value)
                       : "this member does not lead and knows no leader",
                "not-leader");
}

Status change_refused(std::string message) {
  return Status(StatusCode::kFailedPrecondition, std::move(message), "change-pending");
}

}  // namespace

// ---------------------------------------------------------------- proposals

Status Core::can_propose(size_t bytes) const {
  if (role_ != Role::kLeader) return not_leader(leader_);
  if (transfer_target_) {
    return Status(StatusCode::kUnavailable, "leadership is being handed over", "transferring");
  }
  if (bytes > tuning_.proposal_bytes_max && !fault(Mutant::kProposalUnlimited)) {
    return Status(
        StatusCode::kResourceExhausted,
        fmt::format("a proposal of {} bytes, the limit is {}", bytes, tuning_.proposal_bytes_max),
        "too-large");
  }
  // One proposal passes even if it is larger than what may be uncommitted.
  const bool full = uncommitted_bytes_ > 0 &&
                    uncommitted_bytes_ + bytes > tuning_.uncommitted_bytes_max &&
                    !fault(Mutant::kUncommittedUnlimited);
  if (full || commit_ - applied_ > tuning_.apply_gap_max) {
    return Status(StatusCode::kResourceExhausted,
                  full ? "too much is waiting for a quorum of members"
                       : "too much is waiting for the state machine",
                  "overloaded");
  }
  return ok_status();
}

Index Core::append_own(TimePoint now, EntryKind kind, std::shared_ptr<const std::string> payload) {
  Entry entry{log_.last() + 1, hard_state_.term, kind, std::move(payload)};
  const Index index = entry.index;
  uncommitted_bytes_ += entry.bytes().size();
  append_entry(std::move(entry));
  if (kind == EntryKind::kMembers) {
    follow_members();
    advance_commit(now);
    // A leader that is the only voter now hears no more answers, for which a round may wait.
    if (role_ == Role::kLeader) finish_read_round(now);
  }
  if (role_ == Role::kLeader) replicate_all(Bare::kNever);
  return index;
}

Result<Index> Core::propose(TimePoint now, std::string payload) {
  MUSTER_TRY(can_propose(payload.size()));
  return append_own(now, EntryKind::kData, std::make_shared<const std::string>(std::move(payload)));
}

Status Core::check_change(const Members& next) const {
  if (!leads_surely() && !fault(Mutant::kChangeBeforeOwnTerm)) {
    return change_refused("this leader has not yet committed an entry of its term");
  }
  if (members_index() > commit_ && !fault(Mutant::kChangesOverlap)) {
    return change_refused("another change of the group is under way");
  }
  const Members& present = members();
  size_t changed = 0;
  for (const Member& member : next.list) {
    const bool voted = present.is_voter(member.id);
    if (member.outgoing) return invalid_argument("joint changes are not open yet");
    if (member.voter == voted) continue;
    ++changed;
    if (!member.voter) continue;
    const Progress* known = progress(member.id);
    if (known == nullptr || !known->caught_up()) {
      return Status(StatusCode::kFailedPrecondition,
                    fmt::format("member {:x} has not caught up with the log", member.id.value),
                    "not-caught-up");
    }
  }
  for (const Member& member : present.list) {
    if (present.is_voter(member.id) && next.find(member.id) == nullptr) ++changed;
  }
  if (changed > 1) return invalid_argument("only one voter can change at a time");
  if (next.voters().empty()) return invalid_argument("the group would have no voter");
  return ok_status();
}

Result<Index> Core::propose_members(TimePoint now, Members members) {
  std::string payload = encode_members(members);
  MUSTER_TRY(can_propose(payload.size()));
  MUSTER_TRY(check_change(members));
  return append_own(now, EntryKind::kMembers,
                    std::make_shared<const std::string>(std::move(payload)));
}

// ---------------------------------------------------------------- replication

void Core::follow_members() {
  for (const Member& member : members().list) {
    if (progress_.contains(member.id)) continue;
    Progress fresh(log_.last() + 1);
    fresh.active = true;  // it gets a period to be heard in
    progress_.emplace(member.id, std::move(fresh));
  }
  if (fault(Mutant::kRemovedServed)) return;
  std::erase_if(progress_, [&](const auto& entry) {
    return entry.first != self_ && members().find(entry.first) == nullptr;
  });
}

// After this nobody who can be told of commits waits for word of them.
void Core::replicate_all(Bare bare) {
  bool untold = false;
  for (auto& [id, progress] : progress_) {
    if (id == self_) continue;
    send_append(id, progress, bare);
    untold |= progress.untold(commit_);
  }
  if (!untold || bare != Bare::kNever) news_due_ = kNever;
}

bool Core::send_append(MemberId member, Progress& progress, Bare bare) {
  const bool paused = progress.paused(tuning_.window);
  // A full window must not keep back how far is committed.
  const bool wanted =
      bare == Bare::kAlways || (bare == Bare::kWithNews && progress.untold(commit_));
  if (paused && (progress.state() != Progress::State::kReplicate || !wanted)) return false;
  const std::optional<Term> prev_term = log_.term(progress.next() - 1);
  if (!prev_term) {
    send_snapshot(member, progress);
    return false;
  }
  std::vector<Entry> entries;
  const size_t most = fault(Mutant::kAppendUnlimited) ? SIZE_MAX : tuning_.append_bytes_max;
  if (!paused) entries = log_.slice(progress.next(), log_.last(), most);
  if (entries.empty() && !wanted) return false;
  Message append = to(member, MessageKind::kAppend);
  append.prev_index = progress.next() - 1;
  append.prev_term = *prev_term;
  append.commit = commit_;
  const Index last = append.prev_index + entries.size();
  progress.commit_sent = std::min(commit_, last);
  const bool more = !entries.empty();
  if (more || progress.state() == Progress::State::kProbe) {
    size_t bytes = 0;
    for (const Entry& entry : entries) bytes += entry.bytes().size();
    progress.sent(last, bytes);
  }
  append.entries = std::move(entries);
  send(std::move(append));
  return more;
}

void Core::send_snapshot(MemberId member, Progress& progress) {
  // Nobody takes it, and it is large; it is sent when the member is heard of.
  if (!progress.active || snapshot_.index == 0) return;
  progress.await_snapshot(snapshot_.index);
  Message message = to(member, MessageKind::kSnapshot);
  message.snapshot = snapshot_;
  send(std::move(message));
}

void Core::on_append_reply(TimePoint now, const Message& message) {
  const auto found = progress_.find(message.from);
  if (found == progress_.end()) return;
  Progress& progress = found->second;
  progress.active = true;
  if (message.reject && !fault(Mutant::kRejectionAcknowledges)) {
    // What is left out on either side has terms that cannot agree.
    const Index meeting = message.hint_term == 0
                              ? message.index
                              : log_.last_with_term_up_to(message.index, message.hint_term);
    if (progress.rejected(message.prev_index, meeting)) {
      send_append(message.from, progress, Bare::kAlways);
    }
    return;
  }
  if (message.index > log_.last()) return;  // of another life of the group
  const bool was_paused = progress.paused(tuning_.window);
  const bool news = progress.acknowledged(message.index);
  const bool meets = progress.match() == message.index;
  if (progress.state() == Progress::State::kProbe && meets) progress.replicate();
  // The snapshot that arrived, even one that the log has left behind meanwhile, or anything else
  // that lets the log go on, ends the waiting for it.
  if (progress.state() == Progress::State::kSnapshot &&
      ((progress.match() >= progress.snapshot_index() && !fault(Mutant::kSnapshotAwaitedForEver)) ||
       progress.match() + 1 >= log_.first())) {
    progress.replicate();
  }
  if (!news && !was_paused) return;
  const Index committed = commit_;
  if (news) advance_commit(now);
  if (role_ != Role::kLeader || !progress_.contains(message.from)) return;
  const bool waits = tuning_.commit_news > Duration::zero();
  while (send_append(message.from, progress, waits ? Bare::kNever : Bare::kWithNews)) {
  }
  if (progress.untold(commit_)) news_due_ = std::min(news_due_, now + tuning_.commit_news);
  progress.track_round(log_.last(), now, tuning_.election_min);
  if (message.from == transfer_target_ && commit_ == committed) finish_transfer();
}

void Core::on_heartbeat_reply(TimePoint now, const Message& message) {
  const auto found = progress_.find(message.from);
  if (found == progress_.end()) return;
  Progress& progress = found->second;
  progress.active = true;
  progress.resume_probe();
  if (progress.state() == Progress::State::kSnapshot &&
      message.index >= progress.snapshot_index() && !fault(Mutant::kSnapshotAwaitedForEver)) {
    progress.probe_after_snapshot();
  }
  // What was sent ahead may be lost; an empty message shows it.
  if (progress.match() < log_.last()) send_append(message.from, progress, Bare::kAlways);
  progress.track_round(log_.last(), now, tuning_.election_min);
  progress.read_round = std::max(progress.read_round, message.read_round);
  finish_read_round(now);
}

void Core::unreachable(MemberId peer) {
  const auto found = progress_.find(peer);
  // Of what was sent ahead something is probably lost.
  if (found != progress_.end() && found->second.state() == Progress::State::kReplicate) {
    found->second.probe();
  }
}

void Core::snapshot_failed(TimePoint, MemberId peer) {
  const auto found = progress_.find(peer);
  if (found == progress_.end() || found->second.state() != Progress::State::kSnapshot) return;
  found->second.probe();
  found->second.sent(found->second.match(), 0);  // not before it is heard of again
}

// Only entries of this term are counted; those before are committed with them (Raft, 5.4.2).
void Core::advance_commit(TimePoint now) {
  const Index agreed = committed_index(members(), [&](MemberId id) -> Index {
    if (id == self_) return durable_;
    const Progress* known = progress(id);
    return known == nullptr ? 0 : known->match();
  });
  const bool counts = log_.term(agreed) == hard_state_.term || fault(Mutant::kOlderTermCommitted);
  if (agreed <= commit_ || !counts) return;
  const Index counted = fault(Mutant::kOlderTermUncounted) ? 0 : own_term_index_;
  for (Index i = std::max(commit_ + 1, counted); i <= agreed; ++i) {
    uncommitted_bytes_ -= std::min(uncommitted_bytes_, log_.at(i).bytes().size());
  }
  const Index before = commit_;
  commit_to(agreed);
  if (before < own_term_index_ && agreed >= own_term_index_) begin_read_round(now);
  tell_commit(now, before);
  const bool removed = !members().is_voter(self_) && !fault(Mutant::kRemovedLeadsOn);
  if (commit_ >= members_index() && removed) {
    // The change that takes this member out is done; the best of the others goes on.
    const MemberId* best = nullptr;
    for (const auto& [id, progress] : progress_) {
      if (!members().is_voter(id)) continue;
      if (best == nullptr || progress.match() > progress_.at(*best).match()) best = &id;
    }
    if (best != nullptr) send(to(*best, MessageKind::kTimeoutNow));
    return become_follower(now, hard_state_.term, {});
  }
  finish_transfer();
}

// What a group waits for is told at once: that somebody leads it surely, and who is in it.
void Core::tell_commit(TimePoint now, Index before) {
  const auto is_news = [&](Index index) { return before < index && index <= commit_; };
  if (is_news(own_term_index_) || is_news(members_index()) ||
      tuning_.commit_news == Duration::zero()) {
    replicate_all(Bare::kWithNews);
  } else {
    news_due_ = std::min(news_due_, now + tuning_.commit_news);
  }
}

// ---------------------------------------------------------------- time

void Core::send_heartbeats(TimePoint now) {
  for (auto& [id, progress] : progress_) {
    if (id == self_) continue;
    Message heartbeat = to(id, MessageKind::kHeartbeat);
    heartbeat.commit =
        fault(Mutant::kHeartbeatCommitsAll) ? commit_ : std::min(commit_, progress.match());
    progress.commit_sent = std::max(progress.commit_sent, heartbeat.commit);
    heartbeat.read_round = round_under_way_ ? read_round_ : 0;
    send(std::move(heartbeat));
  }
  heartbeat_due_ = now + tuning_.heartbeat;
}

void Core::check_quorum(TimePoint now) {
  const auto heard_by = [&](const Members& group) {
    return is_quorum(group, [&](MemberId id) {
      const Progress* known = progress(id);
      return id == self_ || (known != nullptr && known->active);
    });
  };
  const bool heard =
      fault(Mutant::kLearnersKeepLeader) ? heard_by(all_voting(members())) : heard_by(members());
  for (auto& [id, progress] : progress_) progress.active = false;
  quorum_check_due_ = now + tuning_.election_min;
  if (!heard) become_follower(now, hard_state_.term, {});
}

// ---------------------------------------------------------------- reads

Result<uint64_t> Core::read(TimePoint now) {
  if (role_ != Role::kLeader) return fail(not_leader(leader_));
  waiting_tickets_.push_back(++last_ticket_);
  begin_read_round(now);
  return last_ticket_;
}

// A round: heartbeats with a number of their own; a quorum of answers shows that nobody else led
// when it began (dissertation, 6.4). What comes meanwhile waits for the next one.
void Core::begin_read_round(TimePoint now) {
  if (round_under_way_ || waiting_tickets_.empty()) return;
  if (!leads_surely() && !fault(Mutant::kReadBeforeOwnTerm)) return;
  round_under_way_ = true;
  round_commit_ = commit_;
  round_tickets_.swap(waiting_tickets_);
  if (!fault(Mutant::kReadRoundReused) || read_round_ == 0) ++read_round_;
  send_heartbeats(now);
  finish_read_round(now);
}

void Core::finish_read_round(TimePoint now) {
  if (!round_under_way_) return;
  const auto confirmed_by = [&](const Members& group) {
    return is_quorum(group, [&](MemberId id) {
      const Progress* known = progress(id);
      return id == self_ || (known != nullptr && known->read_round >= read_round_);
    });
  };
  const bool confirmed = fault(Mutant::kLearnersConfirmReads) ? confirmed_by(all_voting(members()))
                                                              : confirmed_by(members());
  if (!confirmed && !fault(Mutant::kReadWithoutQuorum)) return;
  for (const uint64_t ticket : round_tickets_) reads_.push_back({ticket, round_commit_});
  round_tickets_.clear();
  round_under_way_ = false;
  begin_read_round(now);
}

void Core::refuse_reads() {
  for (const auto* tickets : {&round_tickets_, &waiting_tickets_}) {
    for (const uint64_t ticket : *tickets) reads_.push_back({ticket, 0});
  }
  round_tickets_.clear();
  waiting_tickets_.clear();
  round_under_way_ = false;
}

// ---------------------------------------------------------------- handing over

Status Core::transfer_to(TimePoint now, MemberId target, Handover how) {
  if (role_ != Role::kLeader) return not_leader(leader_);
  if (target == self_) return ok_status();
  if (!members().is_voter(target)) {
    return failed_precondition("member {:x} has no vote", target.value);
  }
  if (transfer_target_) {
    return Status(StatusCode::kUnavailable, "leadership is being handed over", "transferring");
  }
  transfer_target_ = target;
  handover_ = how;
  transfer_deadline_ = now + tuning_.election_min;
  Progress& progress = progress_.at(target);
  if (progress.match() < log_.last()) send_append(target, progress, Bare::kAlways);
  finish_transfer();
  return ok_status();
}

void Core::finish_transfer() {
  if (!transfer_target_) return;
  const Progress* known = progress(transfer_target_);
  if (handover_ == Handover::kCommitted && commit_ < log_.last()) return;
  if (known != nullptr && known->match() == log_.last()) {
    send(to(transfer_target_, MessageKind::kTimeoutNow));
  }
}

}  // namespace muster::raft
