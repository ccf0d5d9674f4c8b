#include "raft/core/core.h"

#include <algorithm>

#include "base/check.h"

namespace muster::raft {

Status Tuning::validate() const {
  if (heartbeat <= Duration(0)) return invalid_argument("the heartbeat must be positive");
  if (election_min < 3 * heartbeat) {
    return invalid_argument("the election time-out must be three heartbeats or more");
  }
  if (window.messages == 0 || window.bytes == 0 || append_bytes_max == 0) {
    return invalid_argument("a window of nothing");
  }
  return ok_status();
}

Core::Core(Tuning tuning, MemberId self, Restored restored, Members members, Rng& rng,
           TimePoint now)
    : tuning_(tuning),
      self_(self),
      rng_(rng),
      hard_state_(restored.hard_state),
      log_(restored.snapshot.index, restored.snapshot.term),
      snapshot_(std::move(restored.snapshot)) {
  MUSTER_CHECK(bool(self) && tuning.validate().ok());
  members_.emplace(snapshot_.index, snapshot_.index == 0 ? std::move(members) : snapshot_.members);
  commit_ = handed_out_ = snapshot_.index;
  if (!restored.entries.empty() && restored.entries.front().index <= snapshot_.index) {
    // The group of before the snapshot is never asked for: nothing committed is cut off.
    const Index base = restored.entries.front().index - 1;
    log_ = EntryLog(base, restored.before_term);
    auto group = members_.extract(snapshot_.index);
    group.key() = base;
    members_.insert(std::move(group));
  }
  for (Entry& entry : restored.entries) {
    if (entry.index <= snapshot_.index) {
      log_.append(std::move(entry));
    } else {
      append_entry(std::move(entry));
    }
  }
  MUSTER_CHECK(log_.last() >= snapshot_.index, "the log ends before its snapshot");
  unwritten_from_ = 0;
  durable_ = log_.last();
  if (snapshot_.index > 0) restore_ = snapshot_;
  told_ = {.role = Role::kFollower, .term = 0, .leader = {}};
  arm_election(now);
  lease_until_ = now;
  // Nobody else could win: there is nothing to wait for.
  const bool alone = is_quorum(this->members(), [&](MemberId id) { return id == self_; });
  if (alone && this->members().is_voter(self_)) election_deadline_ = now;
}

void Core::retune(const Tuning& tuning) {
  MUSTER_CHECK(tuning.validate().ok());
  tuning_ = tuning;
}

TimePoint Core::next_deadline() const {
  if (role_ != Role::kLeader) return election_deadline_;
  const TimePoint next = std::min({heartbeat_due_, quorum_check_due_, news_due_});
  return transfer_target_ ? std::min(next, transfer_deadline_) : next;
}

void Core::tick(TimePoint now) {
  if (role_ != Role::kLeader) {
    if (now < election_deadline_) return;
    if (may_campaign()) return campaign(now, true, false);
    return arm_election(now);
  }
  if (transfer_target_ && now >= transfer_deadline_) transfer_target_ = {};
  if (now >= quorum_check_due_) check_quorum(now);
  if (role_ == Role::kLeader && now >= news_due_) replicate_all(Bare::kWithNews);
  if (role_ == Role::kLeader && now >= heartbeat_due_) send_heartbeats(now);
}

void Core::step(TimePoint now, Message message) {
  if (message.to != self_ || !well_formed(message)) return;
  if (message.term < hard_state_.term) return on_older_term(message);
  const bool request = message.kind == MessageKind::kPreVote || message.kind == MessageKind::kVote;
  if (message.term > hard_state_.term) {
    // Who hears a leader does not help to unseat it (dissertation, 4.2.3 and 6.4.1).
    if (request && !message.transfer && in_lease(now)) return;
    const bool hypothetical = message.kind == MessageKind::kPreVote ||
                              (message.kind == MessageKind::kPreVoteReply && !message.reject);
    const bool from_leader = message.kind == MessageKind::kAppend ||
                             message.kind == MessageKind::kHeartbeat ||
                             message.kind == MessageKind::kSnapshot;
    if (!hypothetical) {
      become_follower(now, message.term, from_leader ? message.from : MemberId());
    }
  }
  switch (message.kind) {
    case MessageKind::kPreVote:
    case MessageKind::kVote: return on_vote_request(now, message);
    case MessageKind::kPreVoteReply:
    case MessageKind::kVoteReply: return on_vote_reply(now, message);
    case MessageKind::kAppend: return on_append(now, std::move(message));
    case MessageKind::kHeartbeat: return on_heartbeat(now, message);
    case MessageKind::kSnapshot: return on_snapshot(now, std::move(message));
    case MessageKind::kAppendReply:
      if (role_ == Role::kLeader) on_append_reply(now, message);
      return;
    case MessageKind::kHeartbeatReply:
      if (role_ == Role::kLeader) on_heartbeat_reply(now, message);
      return;
    case MessageKind::kTimeoutNow:
      if (role_ != Role::kLeader && may_campaign()) campaign(now, false, true);
      return;
  }
}

void Core::applied(TimePoint, Index index) {
  MUSTER_CHECK(index >= applied_ && index <= handed_out_);
  applied_ = index;
}

void Core::compacted(const SnapshotMark& mark, Index keep_from) {
  if (mark.index <= snapshot_.index) return;
  MUSTER_CHECK(mark.index <= applied_ && mark.index <= durable_);
  MUSTER_CHECK(log_.matches(mark.index, mark.term));
  snapshot_ = mark;
  const Index to = std::min(mark.index, keep_from - std::min<Index>(keep_from, 1));
  if (to < log_.first()) return;
  // The group as of the new beginning stays known.
  Members base = members_at(to);
  members_.erase(members_.begin(), members_.upper_bound(to));
  members_.emplace(to, std::move(base));
  log_.compact_to(to);
}

Members Core::members_at(Index index) const {
  auto after = members_.upper_bound(index);
  MUSTER_CHECK(after != members_.begin());
  return std::prev(after)->second;
}

const Progress* Core::progress(MemberId id) const {
  const auto found = progress_.find(id);
  return found == progress_.end() ? nullptr : &found->second;
}

}  // namespace muster::raft
