// Who leads: time-outs, pre-votes and votes, leases, and the changes of role.
#include <algorithm>

#include "base/check.h"
#include "raft/core/core.h"
#include "raft/core/mutant.h"

namespace muster::raft {

void Core::become_follower(TimePoint now, Term term, MemberId leader) {
  MUSTER_CHECK(term >= hard_state_.term);
  if (term > hard_state_.term) {
    hard_state_ = {.term = term, .vote = {}};
    hard_state_dirty_ = true;
  }
  role_ = Role::kFollower;
  leader_ = leader;
  lease_until_ = now;
  votes_.clear();
  progress_.clear();
  own_term_index_ = 0;
  uncommitted_bytes_ = 0;
  transfer_target_ = {};
  refuse_reads();
  arm_election(now);
}

void Core::become_leader(TimePoint now) {
  MUSTER_CHECK(role_ == Role::kCandidate);
  role_ = Role::kLeader;
  leader_ = self_;
  suspects_ = false;
  votes_.clear();
  progress_.clear();
  follow_members();
  heartbeat_due_ = now + tuning_.heartbeat;
  news_due_ = kNever;
  quorum_check_due_ = now + tuning_.election_min;
  // Whatever is in the log is not counted: the limit is for what this leader adds.
  uncommitted_bytes_ = 0;
  // Commits of older terms are only known through one of our own (Raft paper, 5.4.2). The very
  // first entry states the founders, so that every log and snapshot says who belongs.
  own_term_index_ = log_.last() + 1;
  if (log_.last() == 0) {
    append_own(now, EntryKind::kMembers,
               std::make_shared<const std::string>(encode_members(members())));
  } else {
    append_own(now, EntryKind::kEmpty, nullptr);
  }
}

void Core::arm_election(TimePoint now) {
  const auto spread = static_cast<uint64_t>(tuning_.election_min.count());
  election_deadline_ = now + tuning_.election_min + Duration(rng_.below(spread));
}

bool Core::in_lease(TimePoint now) const {
  return role_ == Role::kLeader || (leader_ && now < lease_until_);
}

// A member that waits for a snapshot to be installed has no log to lead with.
bool Core::may_campaign() const {
  const bool voter = members().is_voter(self_) || fault(Mutant::kRemovedElected);
  return eligible_ && voter && durable_ >= snapshot_.index;
}

void Core::step_down(TimePoint now) {
  if (role_ == Role::kLeader) become_follower(now, hard_state_.term, {});
}

void Core::suspect_leader(TimePoint now) {
  if (role_ != Role::kFollower || !leader_) return;
  lease_until_ = now;
  const auto spread = static_cast<uint64_t>(tuning_.suspicion_spread.count());
  const TimePoint soon = now + Duration(spread == 0 ? 0 : rng_.below(spread));
  if (soon < election_deadline_) election_deadline_ = soon;
  suspects_ = true;
}

// With `pre` nothing changes but the role: only a member that could win raises the term.
void Core::campaign(TimePoint now, bool pre, bool transfer) {
  role_ = pre ? Role::kPreCandidate : Role::kCandidate;
  leader_ = {};
  if (!fault(Mutant::kEarlierVotesCount)) votes_.clear();
  arm_election(now);
  if (suspects_) {
    const Duration again = tuning_.suspicion_spread * 3;
    const auto spread = static_cast<uint64_t>(again.count());
    const TimePoint soon = now + again + Duration(spread == 0 ? 0 : rng_.below(spread));
    election_deadline_ = std::min(election_deadline_, soon);
  }
  if (!pre) {
    hard_state_ = {.term = hard_state_.term + 1, .vote = self_};
    hard_state_dirty_ = true;
  }
  const Term asked = hard_state_.term + (pre ? 1 : 0);
  for (const Member& member : members().list) {
    const bool votes = member.voter || member.outgoing || fault(Mutant::kLearnersElect);
    if (member.id == self_ || !votes) continue;
    Message request = to(member.id, pre ? MessageKind::kPreVote : MessageKind::kVote);
    request.term = asked;
    request.prev_index = log_.last();
    request.prev_term = log_.last_term();
    request.transfer = transfer;
    send(std::move(request));
  }
  // One's own vote counts like everybody's: when it is on the disk.
  Message own = to(self_, pre ? MessageKind::kPreVoteReply : MessageKind::kVoteReply);
  own.term = asked;
  if (pre) {
    votes_[self_] = true;
    return count_votes(now);
  }
  send_when_durable(std::move(own));
}

void Core::count_votes(TimePoint now) {
  const auto result = [&](const Members& group) {
    return vote_result(group, [&](MemberId id) -> std::optional<bool> {
      const auto vote = votes_.find(id);
      return vote == votes_.end() ? std::nullopt : std::optional(vote->second);
    });
  };
  switch (fault(Mutant::kLearnersElect) ? result(all_voting(members())) : result(members())) {
    case VoteResult::kPending: return;
    case VoteResult::kLost: return become_follower(now, hard_state_.term, {});
    case VoteResult::kWon:
      if (role_ == Role::kPreCandidate) return campaign(now, false, false);
      return become_leader(now);
  }
}

// Members that do not belong to the group, and learners, answer too: their own idea of the group
// may be the outdated one, and the asker may need them.
void Core::on_vote_request(TimePoint now, const Message& message) {
  const bool pre = message.kind == MessageKind::kPreVote;
  const bool free = fault(Mutant::kVotesTwice) || hard_state_.vote == message.from ||
                    (!hard_state_.vote && !leader_) || (pre && message.term > hard_state_.term);
  const bool up_to_date =
      fault(Mutant::kAnyLogElected) ||
      std::pair(message.prev_term, message.prev_index) >= std::pair(log_.last_term(), log_.last());
  Message reply = to(message.from, pre ? MessageKind::kPreVoteReply : MessageKind::kVoteReply);
  if (!free || !up_to_date) {
    reply.reject = true;
    return send(std::move(reply));
  }
  if (pre) {
    reply.term = message.term;  // of the vote to come
  } else {
    if (hard_state_.vote != message.from) {
      hard_state_.vote = message.from;
      hard_state_dirty_ = !fault(Mutant::kVoteNotStored);
    }
    arm_election(now);
  }
  send_when_durable(std::move(reply));
}

void Core::on_vote_reply(TimePoint now, const Message& message) {
  const bool pre = message.kind == MessageKind::kPreVoteReply;
  if (role_ != (pre ? Role::kPreCandidate : Role::kCandidate)) return;
  if (pre && !message.reject && message.term != hard_state_.term + 1) return;
  votes_.emplace(message.from, !message.reject);
  count_votes(now);
}

// Silence would leave a leader that lost its place, or a candidate that asks too low, where it is.
void Core::on_older_term(const Message& message) {
  switch (message.kind) {
    case MessageKind::kAppend:
    case MessageKind::kHeartbeat:
    case MessageKind::kSnapshot: {
      // Says nothing but the term; index 0 is in common with everybody.
      return send(to(message.from, MessageKind::kAppendReply));
    }
    case MessageKind::kPreVote: {
      Message reply = to(message.from, MessageKind::kPreVoteReply);
      reply.reject = true;
      return send(std::move(reply));
    }
    case MessageKind::kAppendReply:
    case MessageKind::kHeartbeatReply:
    case MessageKind::kPreVoteReply:
    case MessageKind::kVote:
    case MessageKind::kVoteReply:
    case MessageKind::kTimeoutNow: return;
  }
}

}  // namespace muster::raft
