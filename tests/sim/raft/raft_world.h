#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "base/time.h"
#include "raft/core/core.h"

namespace muster::sim {

using raft::Core;
using raft::Entry;
using raft::Index;
using raft::MemberId;
using raft::Members;
using raft::Message;
using raft::MessageKind;
using raft::SnapshotMark;
using raft::Term;

// What is on a member's disk: only what a finished write put there.
struct RaftImage {
  raft::HardState hard_state;
  SnapshotMark snapshot;
  Index base_index = 0;  // the entries begin after it
  Term base_term = 0;
  std::vector<Entry> entries;

  Index last() const { return base_index + entries.size(); }
  // Whether it holds this entry, or a snapshot of something later.
  bool holds(Index index, Term term) const;
  // False when the write does not fit what is there.
  bool write(const raft::Write& write);
  raft::Restored restored() const;
};

// One member: the real core over a virtual disk, and a state machine that only keeps count.
struct RaftMember {
  MemberId id;
  Members first_members;
  RaftImage disk;
  std::unique_ptr<SeededRng> rng;
  std::unique_ptr<Core> core;  // null: not running
  uint64_t life = 0;           // grows with every start and crash
  bool paused = false;
  Index applied = 0;
  std::vector<raft::Write> writing;  // asked for, oldest first
  TimePoint disk_free;
  std::optional<TimePoint> timer;  // armed for then
  bool snapshotting = false;
  std::vector<std::function<void()>> held;  // what happened while paused
};

// What is seen from outside of a member that leads: whom it hears, what it has sent ahead. It is
// kept apart from what the member itself counts, so that its counting can be wrong.
struct RaftLeadership {
  struct Follower {
    std::optional<TimePoint> heard;
    uint64_t round = 0;  // the newest round of reads it has confirmed
    // Messages with entries that it has not acknowledged: their last entry, and their payload.
    std::deque<std::pair<Index, size_t>> ahead;
    size_t ahead_bytes = 0;
    bool probed = false;  // and has not answered
  };

  Term term = 0;
  TimePoint since;  // it leads this group, and has not been paused
  Index members_index = 0;
  uint64_t round = 0;  // the newest round of reads it has asked for
  std::map<MemberId, Follower> followers;
};

// How the world behaves; a run changes it as it goes.
struct RaftWeather {
  Duration latency_min = 1ms;
  Duration latency_max = 5ms;
  uint64_t lost_permille = 0;
  uint64_t doubled_permille = 0;
  Duration disk_min = 100us;
  Duration disk_max = 2ms;
};

struct RaftWorldOptions {
  raft::Tuning tuning;
  RaftWeather weather;
  Index snapshot_every = 20;
  Index trailing = 5;
};

// More than half of the voters, and of those that a joint change takes the vote from. Counted here
// once more: the core's own counting is what is judged.
bool majority(const Members& group, const std::function<bool(MemberId)>& agrees);

// A group of cores in virtual time: network, disks and processes from one seed, and the rules that
// must hold after every event. The first broken rule is kept in broken() and ends the run.
class RaftWorld {
 public:
  explicit RaftWorld(uint64_t seed, RaftWorldOptions options = {});

  // A group of `voters` members, all running.
  void found(size_t voters);
  // A running member that belongs to nothing yet.
  MemberId add_stranger();
  raft::Member describe(MemberId id, bool voter) const;

  bool run_event();  // false: broken, or nothing left to happen
  void run_for(Duration duration);
  // Whether it became true in time.
  bool run_until(const std::function<bool()>& condition, Duration limit);
  // Elects by itself; the leader that all running members follow.
  MemberId await_leader(Duration limit = 20s);

  TimePoint now() const { return now_; }
  Rng& rng() { return rng_; }
  RaftWeather& weather() { return options_.weather; }
  RaftMember& member(MemberId id) { return members_.at(id); }
  Core& core(MemberId id) { return *members_.at(id).core; }
  std::vector<MemberId> ids() const;
  std::vector<MemberId> running() const;
  std::optional<MemberId> leader() const;  // of the highest term, if it runs

  // What a user and an operator do.
  Result<Index> propose(MemberId at, const std::string& payload);
  Result<Index> change_members(MemberId at, Members members);
  void read(MemberId at);
  void crash(MemberId id);
  void restart(MemberId id);
  void pause(MemberId id);
  void resume(MemberId id);
  void suspect(MemberId id);
  void transfer(MemberId from, MemberId to);

  void cut(MemberId from, MemberId to) { cut_.insert({from, to}); }
  void mend(MemberId from, MemberId to) { cut_.erase({from, to}); }
  void isolate(MemberId id);
  void mend_all() { cut_.clear(); }
  // Messages for which it says true are lost.
  std::function<bool(const Message&)> lose;
  // Sees every message that leaves a member.
  std::function<void(const Message&)> watch;

  const std::string& broken() const { return broken_; }
  void fail(std::string what);
  // Committed entries, as the first member to apply each saw them; [0] is index 1.
  const std::vector<Entry>& canonical() const { return canonical_; }
  size_t acknowledged() const { return acknowledged_.size(); }
  size_t reads_answered() const { return reads_answered_; }
  // A number for the whole run so far: equal seeds give equal numbers.
  uint64_t trace() const { return trace_; }
  // All members of the group that run have applied the same.
  Status check_settled();

  // Something happens to a member after a while, unless it has crashed by then.
  void later(MemberId id, Duration delay, std::function<void(RaftMember&)> event);

 private:
  struct Event {
    TimePoint at;
    uint64_t tie = 0;
    uint64_t serial = 0;
    std::function<void()> run;
  };
  struct Later {
    bool operator()(const Event& a, const Event& b) const {
      return std::tie(a.at, a.tie, a.serial) > std::tie(b.at, b.tie, b.serial);
    }
  };

  void schedule(TimePoint at, std::function<void()> run);
  void boot(RaftMember& member);
  void drain(RaftMember& member);
  void arm_timer(RaftMember& member);
  void disk_write(RaftMember& member, raft::Write write);
  void finish_writes(RaftMember& member, uint64_t token);
  void apply(RaftMember& member, const std::vector<Entry>& entries);
  void maybe_snapshot(RaftMember& member);
  void save_snapshot(RaftMember& member, const SnapshotMark& mark);
  void deliver(const Message& message);
  void lost(const Message& message);
  Duration between(Duration low, Duration high);
  bool chance(uint64_t permille) { return rng_.below(1000) < permille; }

  // rules (raft_rules.cc)
  void check_role(const RaftMember& member, const raft::RoleChange& change);
  void check_message(const RaftMember& member, const Message& message);
  void check_write(const RaftMember& member, const raft::Write& write);
  void check_applied(const RaftMember& member, const Entry& entry);
  void check_restored(const RaftMember& member, const SnapshotMark& mark);
  void check_new_commit(const RaftMember& member, const Entry& entry);
  void check_read(const RaftMember& member, const raft::ReadGrant& grant);
  Members canonical_members(Index index) const;
  // of leaders (raft_lead_rules.cc)
  void check_elected(const RaftMember& member, Term term);
  void check_sent(const RaftMember& member, const Message& message);
  void check_append(const RaftMember& member, const Message& message, RaftLeadership::Follower& to);
  void note_heard(const RaftMember& member, const Message& message);
  void note_committed(const Members& before, const Members& after, Term term);
  void check_leading(const RaftMember& member);
  void check_hears_quorum(const RaftMember& member);
  bool confirmed(const RaftMember& member, uint64_t after_round) const;
  void note(uint64_t value) { trace_ = (trace_ ^ value) * 0x100000001b3; }

  RaftWorldOptions options_;
  SeededRng rng_;
  TimePoint now_;
  uint64_t serial_ = 0;
  uint64_t next_id_ = 1;
  std::priority_queue<Event, std::vector<Event>, Later> events_;
  std::map<MemberId, RaftMember> members_;
  std::set<std::pair<MemberId, MemberId>> cut_;

  std::string broken_;
  uint64_t trace_ = 0xcbf29ce484222325;
  Members founders_;
  std::map<Term, MemberId> leaders_;
  std::map<std::pair<MemberId, Term>, MemberId> votes_;
  std::map<MemberId, Term> durable_terms_;
  struct Stored {
    Term previous = 0;
    Entry entry;
  };
  std::map<std::pair<Index, Term>, Stored> stored_;
  std::vector<Entry> canonical_;
  std::set<std::string> payloads_;
  std::map<std::string, std::pair<Index, Term>> proposed_;
  std::set<Index> acknowledged_;
  struct Read {
    Index floor = 0;     // what it must see
    uint64_t round = 0;  // the newest round of reads that had begun before
  };
  std::map<std::pair<MemberId, uint64_t>, Read> reads_;  // by ticket
  size_t reads_answered_ = 0;
  std::map<MemberId, RaftLeadership> leaderships_;
  std::map<std::pair<MemberId, Term>, std::set<MemberId>> grants_;  // that reached who asked
  std::map<MemberId, Term> removed_;  // in the term of the entry that said so, which is committed
};

}  // namespace muster::sim
