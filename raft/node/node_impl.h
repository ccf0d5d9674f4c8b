#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "raft/node/mutant.h"
#include "raft/node/node.h"

namespace muster::raft {

// What callers are told who want what only a leader does.
inline Status not_leader() {
  return Status(StatusCode::kUnavailable, "this manager is not the leader", "not-leader");
}

// And at the end of a node: ask another member.
inline Status member_stops() {
  return Status(StatusCode::kUnavailable, "this manager stops", "not-leader");
}

// What is on its way to the user's strand, in order.
struct Delivery {
  enum class Kind : uint8_t {
    kAnswer,       // call `answer`
    kEntries,      // apply, or answer what was proposed here
    kRestore,      // load the snapshot at `index`
    kLead,         // `term` begins
    kEndLeading,   //
    kGroup,        // the view changed
    kRemoved,      //
    kTakeSnapshot  // the disk caught up with the state
  };
  struct Step {
    Entry entry;
    UniqueFunction<void(ProposeResult)> done;  // null: not ours, or not any more
  };

  Kind kind = Kind::kAnswer;
  UniqueFunction<void()> answer;
  std::vector<Step> steps;
  Index index = 0;
  Term term = 0;
};

// The node itself. Everything below "guarded" is read and written under the lock; `on user` only on
// the user's strand.
class Node::Impl final : public TransportEvents,
                         public DiskEvents,
                         public std::enable_shared_from_this<Node::Impl> {
 public:
  Impl(Options options, Ports ports, Restored restored);

  Status start(Transport& transport);
  void stop(UniqueFunction<void()> done);
  void abandon();  // of the destructor

  void propose(Term term, std::string payload, UniqueFunction<void(ProposeResult)> done);
  Term leading_term() const { return visible_term_.load(std::memory_order_relaxed); }
  GroupView view() const;
  bool behind() const { return user_applied_ < former_last_; }
  // `change` makes the next group out of the present one, or says why not; nothing = it is so
  // already.
  using Change = UniqueFunction<Result<std::optional<Members>>(const Members& present)>;
  void change_members(Change change, Group::Done done);
  void transfer(MemberId target, Group::Done done);
  void read(UniqueFunction<void(Result<Index>)> done);
  void configure(const Settings& settings);
  void take_snapshot(UniqueFunction<void(Status)> done);

  // TransportEvents
  void received(Message message) override;
  void unreachable(MemberId peer) override;
  void vanished(MemberId peer) override;
  void said_goodbye(MemberId peer) override;
  void removed(MemberId by) override;
  Result<std::unique_ptr<SnapshotWriter>> snapshot_arrives(const Message& announcement) override;
  void snapshot_sent(MemberId to, const Status& status) override;

  // DiskEvents
  void written(uint64_t token) override;
  void room(const Status& status) override;
  void failed(const Status& status) override;

 private:
  enum class Life : uint8_t {
    kNew,
    kRunning,
    kStopping,  // hands over
    kClosed,    // deaf; what the user has to hear still reaches him
    kEnded      // nothing reaches anybody
  };
  struct InFlight {
    Index index = 0;
    Term term = 0;
    TimePoint deadline;
    UniqueFunction<void(ProposeResult)> done;
  };
  struct Read {
    TimePoint deadline;
    Index index = 0;  // 0: not yet granted
    UniqueFunction<void(Result<Index>)> done;
  };
  struct Transfer {
    MemberId target;
    TimePoint deadline;
    Group::Done done;
  };
  struct Seen {  // what group_changed() is about, of one member
    MemberId id;
    std::string address;
    bool voter = false;
    bool reachable = false;
    bool caught_up = false;
  };
  // A state that waits until the disk has the log up to it, as it must for a snapshot: a leader may
  // commit before its own disk.
  struct Captured {
    SnapshotMark mark;
    Index keep_from = 0;
    SnapshotProducer produce;
  };

  TimePoint now() const { return raft_.clock().now(); }
  bool alive() const { return life_ == Life::kRunning || life_ == Life::kStopping; }
  // The lock, for as long as the core is told something and its wishes are sorted. Messages and
  // steps for the disk are only queued meanwhile and let go of afterwards: writing to a connection
  // takes a while, in which others should not stand before the lock.
  class Turn {
   public:
    explicit Turn(Impl& node) : node_(node), lock_(node.mutex_) {}
    ~Turn();

   private:
    Impl& node_;
    std::unique_lock<std::mutex> lock_;
  };
  // Takes the lock and lets `event` tell the core something. False, and nothing done: the node has
  // ended.
  template <class F>
  bool event(F&& tell) {
    const Turn turn(*this);
    if (!alive()) return false;
    const TimePoint at = now();
    tell(at);
    carry_out(at);
    return true;
  }
  // At the door of a node that has ended: `answer` pushes what the caller is told.
  template <class F>
  void refuse(F&& answer) {
    const std::lock_guard lock(mutex_);
    answer();
    post_deliveries();
  }

  void note_lost_entries(MemberId from);
  bool leave_out_what_finds_no_room(Message& message);

  // what the core asks for (node_core.cc)
  void carry_out(TimePoint at);
  void hand_to_disk(TimePoint at, std::vector<Write> writes);
  void send(Message message);
  void sort_out(std::vector<Entry> entries);
  void grant(const ReadGrant& grant);
  void follow_members();
  void tell_removed();
  bool leadership_is_lost();
  std::vector<Entry> committed_here(std::vector<Entry>& entries);
  void begin_serving();
  void end_serving();

  // time (node_watch.cc)
  void arm_timer(TimePoint at);
  TimePoint next_due(TimePoint at) const;
  void on_timer();
  void pong();
  void watch_deadlines(TimePoint at);
  void watch_disk(TimePoint at);
  void watch_user(TimePoint at);
  void resign(TimePoint at, std::string_view why);
  void note_changes(TimePoint at);
  bool reachable(TimePoint at, MemberId id) const;
  MemberId best_successor(TimePoint at) const;
  void finish_transfer(TimePoint at);
  void maybe_stop(TimePoint at);
  void post_stop_ports();
  void stop_ports();
  void close();
  void await_flushes();

  // the user's strand (node_user.cc)
  void push(Delivery delivery);
  void push_answer(UniqueFunction<void()> answer);
  void push_answer(Group::Done done, Status status);
  void push_refusal(UniqueFunction<void(Result<Index>)> done, Status status);
  void post_deliveries();
  void deliver();
  void deliver_the_rest();
  std::optional<Delivery> next_delivery();
  bool run(Delivery& delivery);  // false: the rest has to wait
  bool run_entries(Delivery& delivery);
  void run_restore(Index index, Term term);
  void restore_some(std::shared_ptr<SnapshotSource> reader, Index index);
  void caught_up_to(Index index);
  void keep_answers();
  void fatal(const Status& status);
  void cannot_apply(const Status& status);

  // snapshots (node_snapshot.cc)
  void consider_snapshot(bool wanted);
  void begin_snapshot();
  void snapshot_ended(const SnapshotMark& mark, Index keep_from, const Status& status);

  Options options_;              // those of configure() are guarded by mutex_, the others stay
  const Settings own_settings_;  // what they are when the group says nothing
  Executor& raft_;
  Executor& user_;
  Disk& disk_;
  Log log_;
  StateMachine& machine_;
  std::atomic<Term> visible_term_{0};

  mutable std::mutex mutex_;
  // ---- guarded
  std::condition_variable ports_free_;
  bool stopping_ports_ = false;
  bool ports_ended_ = false;
  bool stop_posted_ = false;
  Life life_ = Life::kNew;
  Core core_;
  Transport* transport_ = nullptr;
  bool unflushed_ = false;         // this turn queued something for disk or transport
  std::atomic<int> flushing_ = 0;  // turns that let go of it; not guarded
  UniqueFunction<void()> stop_done_;
  std::optional<TimePoint> stop_by_;

  // The disk: steps asked for and not yet written.
  struct Asked {
    uint64_t token = 0;
    TimePoint at;
  };
  std::deque<Asked> writing_;
  Status room_;
  std::optional<TimePoint> handed_over_for_room_;
  bool disk_silent_ = false;

  // Leading.
  Term serving_term_ = 0;  // the user was told (or is about to be) that it leads
  Term resigned_term_ = 0;
  std::optional<TimePoint> resign_by_;
  std::deque<InFlight> in_flight_;  // by index, and by deadline
  std::optional<Transfer> transfer_;
  std::map<uint64_t, Read> reads_;  // by ticket

  // The group.
  Members listed_;  // as the transport was told
  Index listed_index_ = 0;
  Index settled_index_ = 0;  // of the newest committed membership entry seen
  bool was_member_ = false;
  bool told_removed_ = false;
  std::map<MemberId, TimePoint> heard_;
  std::pair<Term, std::set<MemberId>> lost_entries_told_;
  std::vector<Seen> seen_;
  MemberId seen_leader_;
  Term seen_serving_ = 0;
  bool seen_behind_ = false;
  // The last entry that was here at the start, or the last of those that were not replaced since:
  // what replaces an entry was not committed.
  Index former_last_ = 0;

  // The user's strand.
  std::deque<Delivery> deliveries_;
  bool delivering_ = false;  // posted, or running
  Index user_applied_ = 0;
  std::optional<TimePoint> pinged_at_;
  TimePoint next_ping_;
  bool user_silent_ = false;

  // The timer on the raft strand.
  Executor::TimerId timer_ = 0;
  TimePoint timer_due_;

  // Snapshots.
  bool snapshotting_ = false;
  std::optional<Captured> captured_;
  Index snapshot_retry_ = 0;  // not before this is applied
  uint64_t bytes_since_snapshot_ = 0;
  std::vector<UniqueFunction<void(Status)>> snapshot_waiters_;
  // Whether a snapshot is arriving; outlives the node with the one who writes it.
  std::shared_ptr<std::atomic<bool>> receiving_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace muster::raft
