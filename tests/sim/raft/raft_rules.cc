// What must hold in a group of members after every event. The numbers are those of the list of
// invariants in tests/sim/raft/README.md.
#include <algorithm>

#include "tests/sim/raft/raft_world.h"

namespace muster::sim {

void RaftWorld::fail(std::string what) {
  if (broken_.empty()) {
    broken_ = fmt::format("at {:.3f} s: {}",
                          std::chrono::duration<double>(now_.since_start).count(), what);
  }
}

bool majority(const Members& group, const std::function<bool(MemberId)>& agrees) {
  for (const bool outgoing : {false, true}) {
    size_t voters = 0;
    size_t agreeing = 0;
    for (const raft::Member& member : group.list) {
      if (!(outgoing ? member.outgoing : member.voter)) continue;
      ++voters;
      agreeing += agrees(member.id) ? 1 : 0;
    }
    if (voters > 0 && agreeing * 2 <= voters) return false;
  }
  return true;
}

void RaftWorld::check_role(const RaftMember& member, const raft::RoleChange& change) {
  note(change.term << 8 | static_cast<uint64_t>(change.role));
  if (change.role != raft::Role::kLeader) return;
  check_elected(member, change.term);
  const auto [known, fresh] = leaders_.emplace(change.term, member.id);
  if (!fresh && known->second != member.id) {
    fail(fmt::format("term {} has two leaders, {} and {} (R1)", change.term, known->second.value,
                     member.id.value));
  }
  // What was committed is in the log of every later leader (R5); by log matching it is enough to
  // look at the last.
  Index until = canonical_.size();
  while (until > 0 && canonical_[until - 1].term > change.term) --until;
  if (fresh && until > 0) {
    const Entry& last = canonical_[until - 1];
    const auto term = member.core->log().term(last.index);
    if (last.index > member.core->snapshot().index && term != last.term) {
      fail(fmt::format("leader {} of term {} lacks the committed entry {} (R5)", member.id.value,
                       change.term, last.index));
    }
  }
}

void RaftWorld::check_message(const RaftMember& member, const Message& message) {
  const RaftImage& disk = member.disk;
  if (!raft::well_formed(message)) return fail("a malformed message left a member");
  if (message.kind == MessageKind::kVoteReply && !message.reject) {
    const auto [known, fresh] = votes_.emplace(std::pair(member.id, message.term), message.to);
    if (!fresh && known->second != message.to) {
      fail(fmt::format("{} voted twice in term {} (R2)", member.id.value, message.term));
    }
    if (disk.hard_state.term < message.term ||
        (disk.hard_state.term == message.term && disk.hard_state.vote != message.to)) {
      fail(fmt::format("{} sent a vote that is not on its disk (R7)", member.id.value));
    }
  }
  if (message.kind == MessageKind::kAppendReply && !message.reject && message.index > 0) {
    auto term = member.core->log().term(message.index);
    if (!term && message.index <= canonical_.size()) term = canonical_[message.index - 1].term;
    const bool stored =
        disk.snapshot.index >= message.index || (term && disk.holds(message.index, *term));
    if (!stored) {
      fail(fmt::format("{} acknowledged entry {} that is not on its disk (R7)", member.id.value,
                       message.index));
    }
  }
  if (message.kind == MessageKind::kHeartbeat && message.commit > member.core->commit()) {
    fail("a heartbeat says more is committed than the leader knows (B45)");
  }
}

void RaftWorld::check_write(const RaftMember& member, const raft::Write& write) {
  for (const Entry& entry : write.entries) {
    const Term previous = member.core->log().term(entry.index - 1).value_or(0);
    const auto [known, fresh] =
        stored_.emplace(std::pair(entry.index, entry.term), Stored{previous, entry});
    if (fresh) continue;
    if (!(known->second.entry == entry) || known->second.previous != previous) {
      fail(
          fmt::format("entry {} of term {} differs between members (R4)", entry.index, entry.term));
    }
  }
}

Members RaftWorld::canonical_members(Index index) const {
  for (Index i = std::min<Index>(index, canonical_.size()); i > 0; --i) {
    const Entry& entry = canonical_[i - 1];
    if (entry.kind == raft::EntryKind::kMembers) return *raft::decode_members(entry.bytes());
  }
  return founders_;
}

void RaftWorld::check_applied(const RaftMember& member, const Entry& entry) {
  if (entry.index <= canonical_.size()) {
    if (!(canonical_[entry.index - 1] == entry)) {
      fail(fmt::format("{} applied another entry {} than others (R6)", member.id.value,
                       entry.index));
    }
  } else {
    check_new_commit(member, entry);
  }
  if (entry.kind != raft::EntryKind::kData || member.core->role() != raft::Role::kLeader) return;
  const auto proposal = proposed_.find(std::string(entry.bytes()));
  if (proposal != proposed_.end() && proposal->second == std::pair(entry.index, entry.term)) {
    acknowledged_.insert(entry.index);
  }
}

void RaftWorld::check_new_commit(const RaftMember& member, const Entry& entry) {
  if (entry.index != canonical_.size() + 1) return fail("a gap in what is committed (R6)");
  // On the disks of a quorum (R8) of the group that is in force at the leader, who learns of every
  // commit first: that of the last entry it has appended.
  const auto holds = [&](MemberId id) {
    const auto found = members_.find(id);
    return found != members_.end() && found->second.disk.holds(entry.index, entry.term);
  };
  if (!majority(member.core->members(), holds)) {
    fail(fmt::format("entry {} of term {} is committed without a quorum of disks (R8)", entry.index,
                     entry.term));
  }
  if (entry.kind == raft::EntryKind::kMembers) {
    const Members before = canonical_members(entry.index - 1);
    const Members after = *raft::decode_members(entry.bytes());
    size_t changed = 0;
    for (const MemberId id : ids()) changed += before.is_voter(id) != after.is_voter(id) ? 1 : 0;
    if (changed > 1) fail("two voters changed in one step (R11)");
    note_committed(before, after, entry.term);
  }
  if (entry.kind == raft::EntryKind::kData &&
      !payloads_.insert(std::string(entry.bytes())).second) {
    fail(fmt::format("'{}' was committed twice (R9)", entry.bytes()));
  }
  canonical_.push_back(entry);
  note(entry.index ^ entry.term << 20);
}

void RaftWorld::check_restored(const RaftMember& member, const SnapshotMark& mark) {
  if (mark.index > canonical_.size()) return fail("a snapshot of what is not committed (R14)");
  if (canonical_[mark.index - 1].term != mark.term ||
      !(canonical_members(mark.index) == mark.members)) {
    fail(fmt::format("the snapshot at {} that {} takes says something else than the log (R14)",
                     mark.index, member.id.value));
  }
}

void RaftWorld::check_read(const RaftMember& member, const raft::ReadGrant& grant) {
  const auto found = reads_.find({member.id, member.life << 32 | grant.ticket});
  if (found == reads_.end()) return fail("a read was answered that nobody asked for");
  if (grant.index != 0) {
    ++reads_answered_;
    const Read& read = found->second;
    if (grant.index < read.floor) {
      fail(fmt::format("a read at {} misses entry {}, acknowledged before it began (R10)",
                       grant.index, read.floor));
    }
    if (!confirmed(member, read.round)) {
      fail(fmt::format("{} answered a read that no majority of voters confirmed (R12)",
                       member.id.value));
    }
  }
  reads_.erase(found);
}

Status RaftWorld::check_settled() {
  const auto leading = leader();
  if (!leading) return internal_error("there is no leader");
  const Members group = core(*leading).members();
  for (const MemberId id : running()) {
    if (group.find(id) == nullptr) continue;
    if (member(id).applied != canonical_.size()) {
      return internal_error("member {} has applied {} of {}", id.value, member(id).applied,
                            canonical_.size());
    }
    if (!(core(id).members() == group)) {
      return internal_error("member {} knows another group", id.value);
    }
  }
  for (const Index index : acknowledged_) {
    if (index > canonical_.size()) return internal_error("acknowledged entry {} is gone", index);
  }
  return ok_status();
}

}  // namespace muster::sim
