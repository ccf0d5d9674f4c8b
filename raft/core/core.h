#pragma once

#include <functional>
#include <map>
#include <set>

#include "base/rng.h"
#include "base/time.h"
#include "raft/core/entry_log.h"
#include "raft/core/message.h"
#include "raft/core/progress.h"
#include "raft/core/quorum.h"
#include "raft/core/types.h"

namespace muster::raft {

struct Tuning {
  Duration heartbeat = 100ms;
  Duration election_min = 1s;  // time-outs are uniform in [min, 2 min)
  // Suspects of a dead leader wait up to this, so that they do not tie; if they do, they try again
  // after three to six times as long.
  Duration suspicion_spread = 50ms;
  // How long word of a commit waits for entries that take it along, before it is sent alone.
  // Whoever writes one after another sends the next before: each write is then two messages to a
  // follower instead of four. 0: it is not waited for.
  Duration commit_news = 2ms;
  size_t append_bytes_max = 512 << 10;     // payload of one append message
  Progress::Window window{128, 16 << 20};  // sent ahead to one member
  size_t proposal_bytes_max = 2 << 20;
  size_t uncommitted_bytes_max = 64 << 20;
  Index apply_gap_max = 5'000;       // committed and not yet applied
  size_t apply_bytes_max = 4 << 20;  // payload of one Output::apply

  // INVALID_ARGUMENT in words.
  Status validate() const;
};

// One step for the disk. Steps are written in the order of their tokens; written() is told of each.
struct Write {
  uint64_t token = 0;
  std::optional<HardState> hard_state;
  // The log after this: it begins anew after the snapshot, if there is one; from the first entry's
  // index on it is these entries.
  std::optional<SnapshotMark> install;
  std::vector<Entry> entries;

  bool nothing() const { return !hard_state && !install && entries.empty(); }
};

struct ReadGrant {
  uint64_t ticket = 0;
  Index index = 0;  // the state to read from must include it; 0 = refused, ask again
};

struct RoleChange {
  Role role = Role::kFollower;
  Term term = 0;
  MemberId leader;  // 0: unknown

  friend bool operator==(const RoleChange&, const RoleChange&) = default;
};

// What is to be done after an event, in this order.
struct Output {
  std::vector<Write> writes;
  std::vector<Message> messages;
  std::optional<SnapshotMark> restore;  // load this snapshot before `apply`
  std::vector<Entry> apply;             // committed; follow what was applied before
  std::vector<ReadGrant> reads;
  std::optional<RoleChange> role;
};

struct Restored {
  HardState hard_state;
  SnapshotMark snapshot;
  // All durable. They follow the snapshot, or begin before its end: what was kept for members that
  // are a little behind.
  std::vector<Entry> entries;
  Term before_term =
      0;  // of the entry before the first, when that one is before the snapshot's end
};

// The Raft protocol of one member, as a function of (state, event, time): no thread, clock, IO or
// order that depends on luck. After every event the driver takes the output and carries it out.
//
// Promises: a message that says something of what is stored here (votes, acknowledgements) leaves
// only after written() of the step that stores it. DIVERGENCE.md tells where it leaves the paper.
//
// Owned by a driver (raft/node) or a simulation, and used from one strand. Times never go back.
class Core {
 public:
  // `members` are the group of a log that is still empty; later the log itself says who belongs.
  // `rng` must outlive it.
  Core(Tuning tuning, MemberId self, Restored restored, Members members, Rng& rng, TimePoint now);

  // The latest moment at which tick() has to be called.
  TimePoint next_deadline() const;
  void tick(TimePoint now);
  void step(TimePoint now, Message message);
  // The disk has this step and all before it.
  void written(TimePoint now, uint64_t token);
  // The state machine has everything up to `index`.
  void applied(TimePoint now, Index index);

  // Leader only; else UNAVAILABLE, reason "not-leader". RESOURCE_EXHAUSTED, reason "overloaded" or
  // "too-large"; UNAVAILABLE, reason "transferring". The index it gets in the present term.
  Result<Index> propose(TimePoint now, std::string payload);
  // One voter may change at a time, and only after this leader has committed an entry of its term
  // and the change before: FAILED_PRECONDITION, reason "change-pending". A learner becomes a voter
  // only when it has caught up: reason "not-caught-up".
  Result<Index> propose_members(TimePoint now, Members members);
  // A read that sees everything acknowledged before now: answered in Output::reads.
  Result<uint64_t> read(TimePoint now);
  // Hands leadership over; given up after an election time-out. The target is told to take over
  // when it has the whole log and, but for kAtOnce, when that is committed too: then nobody whose
  // proposal is in flight is left without an answer. kAtOnce is for a leader whose own disk does
  // not answer, without which a commit may not come.
  enum class Handover { kCommitted, kAtOnce };
  Status transfer_to(TimePoint now, MemberId target, Handover how = Handover::kCommitted);
  // Gives leadership up, in its term; somebody is elected after a time-out.
  void step_down(TimePoint now);
  // A member that could not serve as a leader (its disk or its user does not answer) does not try
  // to become one. True at the beginning.
  void set_eligible(bool eligible) { eligible_ = eligible; }
  // The leader's process is not there any more (its stream ended without a goodbye and connecting
  // again is refused). Ends only this member's own lease; any word of the leader restores it.
  void suspect_leader(TimePoint now);
  // From the transport: messages to `peer` were lost, or a snapshot to it was.
  void unreachable(MemberId peer);
  void snapshot_failed(TimePoint now, MemberId peer);
  // Other times and limits, valid ones; in force from the next deadline that is set.
  void retune(const Tuning& tuning);
  // A snapshot of the state after mark.index is on the disk, and so is the log up to there; what is
  // before `keep_from` may be forgotten.
  void compacted(const SnapshotMark& mark, Index keep_from);

  Output take();
  bool has_output() const;

  MemberId self() const { return self_; }
  Role role() const { return role_; }
  Term term() const { return hard_state_.term; }
  MemberId vote() const { return hard_state_.vote; }
  MemberId leader() const { return leader_; }
  Index commit() const { return commit_; }
  Index applied_index() const { return applied_; }
  Index durable() const { return durable_; }
  const EntryLog& log() const { return log_; }
  const SnapshotMark& snapshot() const { return snapshot_; }
  const Members& members() const { return members_.rbegin()->second; }
  Index members_index() const { return members_.rbegin()->first; }
  Members members_at(Index index) const;
  // Of a leader; null for strangers.
  const Progress* progress(MemberId id) const;
  // Whether a leader has committed an entry of its own term, so that it knows all commits.
  bool leads_surely() const { return role_ == Role::kLeader && commit_ >= own_term_index_; }
  // Of a leader: the entry that began its term.
  Index own_term_index() const { return own_term_index_; }
  bool transferring() const { return bool(transfer_target_); }
  size_t uncommitted_bytes() const { return uncommitted_bytes_; }

  // Aborts when something that must hold does not.
  void check_invariants() const;
  // The same state gives the same number.
  uint64_t digest() const;

 private:
  // roles and elections (election.cc)
  void become_follower(TimePoint now, Term term, MemberId leader);
  void become_leader(TimePoint now);
  void campaign(TimePoint now, bool pre, bool transfer);
  void count_votes(TimePoint now);
  void arm_election(TimePoint now);
  bool in_lease(TimePoint now) const;
  bool may_campaign() const;
  void on_vote_request(TimePoint now, const Message& message);
  void on_vote_reply(TimePoint now, const Message& message);
  void on_older_term(const Message& message);

  // following (follow.cc)
  void hear_leader(TimePoint now, MemberId leader);
  void on_append(TimePoint now, Message message);
  void on_heartbeat(TimePoint now, const Message& message);
  void on_snapshot(TimePoint now, Message message);
  void take_entries(std::vector<Entry> entries);
  void truncate_from(Index index);
  void append_entry(Entry entry);
  void commit_to(Index index);

  // leading (lead.cc)
  void on_append_reply(TimePoint now, const Message& message);
  void on_heartbeat_reply(TimePoint now, const Message& message);
  void advance_commit(TimePoint now);
  // Whether an append may go out without entries: to tell how far is committed; to be answered.
  enum class Bare : uint8_t { kNever, kWithNews, kAlways };
  void replicate_all(Bare bare);
  bool send_append(MemberId to, Progress& progress, Bare bare);
  void tell_commit(TimePoint now, Index before);
  void send_snapshot(MemberId to, Progress& progress);
  void send_heartbeats(TimePoint now);
  void check_quorum(TimePoint now);
  void follow_members();
  void finish_transfer();
  void begin_read_round(TimePoint now);
  void finish_read_round(TimePoint now);
  void refuse_reads();
  Status check_change(const Members& next) const;
  Status can_propose(size_t bytes) const;
  Index append_own(TimePoint now, EntryKind kind, std::shared_ptr<const std::string> payload);

  // outgoing (output.cc)
  Message to(MemberId member, MessageKind kind) const;
  void send(Message message);
  void send_when_durable(Message message);

  Tuning tuning_;
  const MemberId self_;
  Rng& rng_;

  HardState hard_state_;
  Role role_ = Role::kFollower;
  MemberId leader_;
  EntryLog log_;
  SnapshotMark snapshot_;
  std::map<Index, Members> members_;  // by the index of the entry that states them, or of the base
  Index commit_ = 0;
  Index handed_out_ = 0;  // to be applied
  Index applied_ = 0;

  TimePoint election_deadline_;
  bool eligible_ = true;
  bool suspects_ = false;  // that there is no leader any more
  TimePoint lease_until_;  // no vote against the leader before
  std::map<MemberId, bool> votes_;

  // Leading.
  std::map<MemberId, Progress> progress_;
  Index own_term_index_ = 0;  // of the entry that began this term
  TimePoint heartbeat_due_;
  TimePoint quorum_check_due_;
  static constexpr TimePoint kNever{Duration::max()};
  TimePoint news_due_ = kNever;  // when word of a commit is sent alone
  MemberId transfer_target_;
  Handover handover_ = Handover::kCommitted;
  TimePoint transfer_deadline_;
  size_t uncommitted_bytes_ = 0;
  uint64_t last_ticket_ = 0;
  uint64_t read_round_ = 0;  // the newest one begun
  bool round_under_way_ = false;
  Index round_commit_ = 0;
  std::vector<uint64_t> round_tickets_;
  std::vector<uint64_t> waiting_tickets_;  // for the next round

  // Steps handed out and not yet written, oldest first. `durable_to` is what the log is durable up
  // to once it is written; a later step that cuts the log lowers it.
  struct Outstanding {
    uint64_t token = 0;
    Index durable_to = 0;
    std::vector<Message> messages;  // leave with it
  };
  std::deque<Outstanding> outstanding_;
  uint64_t last_token_ = 0;
  Index durable_ = 0;

  // Collected for the next output.
  bool hard_state_dirty_ = false;
  std::optional<SnapshotMark> install_;
  Index unwritten_from_ = 0;  // first entry not yet handed to the disk; 0: none
  std::vector<Message> when_durable_;
  std::vector<Message> messages_;
  std::optional<SnapshotMark> restore_;
  std::vector<ReadGrant> reads_;
  RoleChange told_;
};

}  // namespace muster::raft
