// What must hold of a leader: who made it one and lets it stay (R12), and what it sends ahead and
// takes in (R13). All of it is counted from the messages that left and arrived.
#include <algorithm>

#include "tests/sim/raft/raft_world.h"

namespace muster::sim {

// A candidate's own vote counts when it is on its disk. Who is removed learns of it late, and may
// win the votes of an older term meanwhile, but none of a later one.
void RaftWorld::check_elected(const RaftMember& member, Term term) {
  const raft::HardState& disk = member.disk.hard_state;
  const auto& granted = grants_[{member.id, term}];
  const auto votes = [&](MemberId id) {
    if (id == member.id) return disk.term == term && disk.vote == member.id;
    return granted.contains(id);
  };
  if (!majority(member.core->members(), votes)) {
    fail(fmt::format("{} leads term {} without the votes of a majority of the voters (R12)",
                     member.id.value, term));
  }
  if (!member.core->members().is_voter(member.id)) {
    fail(fmt::format("{} leads term {} and has no vote (R12)", member.id.value, term));
  }
  const auto gone = removed_.find(member.id);
  if (gone != removed_.end() && gone->second < term) {
    fail(fmt::format("{} leads term {}, but was removed in term {} (R12)", member.id.value, term,
                     gone->second));
  }
  RaftLeadership& led = leaderships_[member.id] = {};
  led.term = term;
  led.since = now_;
  led.members_index = member.core->members_index();
}

void RaftWorld::note_committed(const Members& before, const Members& after, Term term) {
  for (const raft::Member& member : before.list) {
    if (after.find(member.id) == nullptr) removed_.emplace(member.id, term);
  }
  for (const raft::Member& member : after.list) {
    if (removed_.contains(member.id)) {
      fail(fmt::format("{} was removed and is a member again (R12)", member.id.value));
    }
  }
}

// A message is about to be looked at.
void RaftWorld::note_heard(const RaftMember& member, const Message& message) {
  if (message.kind == MessageKind::kVoteReply && !message.reject) {
    grants_[{member.id, message.term}].insert(message.from);
  }
  const auto led = leaderships_.find(member.id);
  if (led == leaderships_.end() || led->second.term != message.term) return;
  const bool append = message.kind == MessageKind::kAppendReply;
  if (!append && message.kind != MessageKind::kHeartbeatReply) return;
  RaftLeadership::Follower& from = led->second.followers[message.from];
  from.heard = now_;
  from.probed = false;
  from.round = std::max(from.round, message.read_round);
  while (append && !message.reject && !from.ahead.empty() &&
         from.ahead.front().first <= message.index) {
    from.ahead_bytes -= from.ahead.front().second;
    from.ahead.pop_front();
  }
}

void RaftWorld::check_sent(const RaftMember& member, const Message& message) {
  const bool leads = message.kind == MessageKind::kAppend ||
                     message.kind == MessageKind::kHeartbeat ||
                     message.kind == MessageKind::kSnapshot;
  const Core& core = *member.core;
  // What it sent and then lost its place is not looked at: it counts no more.
  if (!leads || core.role() != raft::Role::kLeader || core.term() != message.term) return;
  if (core.members().find(message.to) == nullptr) {
    return fail(fmt::format("leader {} speaks to {}, who does not belong to the group (R12)",
                            member.id.value, message.to.value));
  }
  RaftLeadership& led = leaderships_[member.id];
  led.round = std::max(led.round, message.read_round);
  if (message.kind == MessageKind::kAppend)
    check_append(member, message, led.followers[message.to]);
}

// The window is full when either number is reached; one message may go beyond the bytes.
void RaftWorld::check_append(const RaftMember& member, const Message& message,
                             RaftLeadership::Follower& to) {
  const raft::Tuning& tuning = options_.tuning;
  size_t bytes = 0;
  for (const Entry& entry : message.entries) bytes += entry.bytes().size();
  if (message.entries.size() > 1 && bytes > tuning.append_bytes_max) {
    fail(fmt::format("{} bytes in one message (R13)", bytes));
  }
  const raft::Progress* progress = member.core->progress(message.to);
  if (progress == nullptr) return;
  if (progress->state() == raft::Progress::State::kProbe) {
    if (to.probed) fail(fmt::format("{} is probed twice at a time (R13)", message.to.value));
    to.probed = true;
  }
  if (progress->state() != raft::Progress::State::kReplicate || message.entries.empty()) return;
  if (to.ahead.size() >= tuning.window.messages || to.ahead_bytes >= tuning.window.bytes) {
    fail(fmt::format("{} messages with {} bytes are under way to {}, and one more is sent (R13)",
                     to.ahead.size(), to.ahead_bytes, message.to.value));
  }
  to.ahead.emplace_back(message.entries.back().index, bytes);
  to.ahead_bytes += bytes;
}

// After every event of a member.
void RaftWorld::check_leading(const RaftMember& member) {
  const Core& core = *member.core;
  const auto found = leaderships_.find(member.id);
  if (core.role() != raft::Role::kLeader) {
    if (found != leaderships_.end()) leaderships_.erase(found);
    return;
  }
  RaftLeadership& led = leaderships_[member.id];
  if (led.members_index != core.members_index()) {
    led.members_index = core.members_index();
    led.since = now_;
  }
  if (!core.members().is_voter(member.id) && core.commit() >= core.members_index()) {
    fail(fmt::format("{} leads on, though it is committed that it has no vote (R12)",
                     member.id.value));
  }
  // What was sent ahead is forgotten when it is no longer certain where the logs meet.
  std::erase_if(led.followers,
                [&](const auto& entry) { return core.progress(entry.first) == nullptr; });
  for (auto& [id, follower] : led.followers) {
    if (core.progress(id)->state() == raft::Progress::State::kReplicate) continue;
    follower.ahead.clear();
    follower.ahead_bytes = 0;
  }
  // Of what this leader has appended; one entry alone may be larger.
  size_t entries = 0;
  size_t bytes = 0;
  for (Index i = std::max(core.commit() + 1, core.own_term_index()); i <= core.log().last(); ++i) {
    bytes += core.log().at(i).bytes().size();
    entries += core.log().at(i).bytes().empty() ? 0 : 1;
  }
  if (entries > 1 && bytes > options_.tuning.uncommitted_bytes_max) {
    fail(fmt::format("{} bytes are not committed (R13)", bytes));
  }
  if (core.uncommitted_bytes() != bytes) {
    fail(fmt::format("{} bytes are not committed, and {} are counted (R13)", bytes,
                     core.uncommitted_bytes()));
  }
}

// A leader looks once an election time-out whether it has heard a quorum since the last time.
void RaftWorld::check_hears_quorum(const RaftMember& member) {
  const auto found = leaderships_.find(member.id);
  const Duration limit = options_.tuning.election_min * 2;
  if (found == leaderships_.end() || now_ - found->second.since <= limit) return;
  const auto heard = [&](MemberId id) {
    if (id == member.id) return true;
    const auto follower = found->second.followers.find(id);
    return follower != found->second.followers.end() && follower->second.heard &&
           now_ - *follower->second.heard <= limit;
  };
  if (!majority(member.core->members(), heard)) {
    fail(
        fmt::format("{} leads on without hearing a majority of the voters (R12)", member.id.value));
  }
}

bool RaftWorld::confirmed(const RaftMember& member, uint64_t after_round) const {
  const auto led = leaderships_.find(member.id);
  if (led == leaderships_.end()) return false;
  return majority(member.core->members(), [&](MemberId id) {
    if (id == member.id) return true;
    const auto follower = led->second.followers.find(id);
    return follower != led->second.followers.end() && follower->second.round > after_round;
  });
}

}  // namespace muster::sim
