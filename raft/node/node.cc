#include "raft/node/node.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/node/node_impl.h"

namespace muster::raft {
namespace {

class NullTransport final : public Transport {
 public:
  void set_members(const Members&) override {}
  void send(Message) override {}
  void flush() override {}
  void send_snapshot(Message, std::unique_ptr<SnapshotReader>) override {}
  void stop() override {}
};

Members first_members(const Node::Options& options) {
  if (options.mode != StartMode::kFound) return options.members;
  Members members;
  Member self = options.self;
  self.voter = true;
  self.outgoing = false;
  members.put(std::move(self));
  return members;
}

}  // namespace

std::unique_ptr<Transport> make_null_transport() {
  return std::make_unique<NullTransport>();
}

Write force_new_group(Restored& restored, Member self) {
  self.voter = true;
  self.outgoing = false;
  Members alone;
  alone.put(std::move(self));
  const Index last =
      restored.entries.empty() ? restored.snapshot.index : restored.entries.back().index;
  restored.hard_state = {.term = restored.hard_state.term + 1, .vote = {}};
  const Entry entry{last + 1, restored.hard_state.term, EntryKind::kMembers,
                    std::make_shared<const std::string>(encode_members(alone))};
  restored.entries.push_back(entry);
  Write write;
  write.token = 1;
  write.hard_state = restored.hard_state;
  write.entries.push_back(entry);
  return write;
}

// ---------------------------------------------------------------- the node

Node::Impl::Impl(Options options, Ports ports, Restored restored)
    : options_(std::move(options)),
      own_settings_{options_.tuning.heartbeat, options_.tuning.election_min,
                    options_.snapshot_entries, options_.trailing_entries},
      raft_(ports.raft_strand),
      user_(ports.user_strand),
      disk_(ports.disk),
      log_(std::move(ports.log)),
      machine_(ports.machine),
      core_(options_.tuning, options_.self.id, std::move(restored), first_members(options_),
            ports.rng, raft_.clock().now()) {}

Status Node::Impl::start(Transport& transport) {
  MUSTER_CHECK(user_.is_current() && life_ == Life::kNew);
  const Index snapshot = core_.snapshot().index;
  if (snapshot > 0) {
    MUSTER_ASSIGN(const auto chunks, disk_.open_snapshot(snapshot, core_.snapshot().term));
    MUSTER_TRY(machine_.restore_begin());
    for (;;) {
      MUSTER_ASSIGN(const std::string chunk, chunks->next());
      if (chunk.empty()) break;
      MUSTER_TRY(machine_.restore_chunk(chunk));
    }
    MUSTER_TRY(machine_.restore_end());
  }
  // What the disk has to say at once waits for the lock.
  const Turn turn(*this);
  disk_.start(*this);
  const TimePoint at = now();
  transport_ = &transport;
  life_ = Life::kRunning;
  next_ping_ = at;
  Output first = core_.take();  // asks for what was just restored
  MUSTER_CHECK(first.writes.empty() && first.messages.empty() && first.apply.empty());
  core_.applied(at, snapshot);
  user_applied_ = snapshot;
  former_last_ = core_.log().last();
  listed_ = core_.members();
  listed_index_ = core_.members_index();
  was_member_ = snapshot > 0 && core_.snapshot().members.find(core_.self()) != nullptr;
  transport_->set_members(listed_);
  core_.tick(at);
  carry_out(at);
  return ok_status();
}

void Node::Impl::stop(UniqueFunction<void()> done) {
  MUSTER_CHECK(user_.is_current());
  const Turn turn(*this);
  if (life_ != Life::kRunning) {
    // Never started, or failed: there is nothing to hand over.
    if (life_ == Life::kClosed && transport_ != nullptr && !stop_done_) {
      stop_done_ = std::move(done);
      return post_stop_ports();
    }
    push_answer(std::move(done));
    return post_deliveries();
  }
  const TimePoint at = now();
  life_ = Life::kStopping;
  stop_done_ = std::move(done);
  stop_by_ = at;
  if (core_.role() == Role::kLeader) {
    if (const MemberId successor = best_successor(at)) {
      (void)core_.transfer_to(at, successor);
      if (core_.transferring()) stop_by_ = at + options_.transfer_max;
    }
  }
  carry_out(at);
}

void Node::Impl::abandon() {
  bool stop_them = false;
  {
    std::unique_lock lock(mutex_);
    ports_free_.wait(lock, [this] { return !stopping_ports_; });
    stop_them = transport_ != nullptr && !ports_ended_;
    life_ = Life::kEnded;
    raft_.cancel(timer_);
  }
  await_flushes();
  if (stop_them) {
    transport_->stop();
    disk_.stop();
  }
  // What the user left here ends on his strand, whoever holds the last reference to this.
  std::unique_lock lock(mutex_);
  const auto deliveries = std::exchange(deliveries_, {});
  const auto in_flight = std::exchange(in_flight_, {});
  const auto reads = std::exchange(reads_, {});
  const auto transfer = std::exchange(transfer_, std::nullopt);
  const auto waiters = std::exchange(snapshot_waiters_, {});
  const auto captured = std::exchange(captured_, std::nullopt);
  const auto stop_done = std::exchange(stop_done_, nullptr);
  lock.unlock();
}

void Node::Impl::propose(Term term, std::string payload, UniqueFunction<void(ProposeResult)> done) {
  MUSTER_CHECK(user_.is_current());
  const Turn turn(*this);
  // Before whatever else waits: an entry of another leader must not meet a proposal of this one.
  const auto reject = [&](Status why) {
    Delivery answer{.kind = Delivery::Kind::kAnswer};
    answer.answer = [done = std::move(done), why = std::move(why)]() mutable {
      done({Outcome::kRejected, 0, std::move(why)});
    };
    deliveries_.push_front(std::move(answer));
    post_deliveries();
  };
  if (!alive() || term == 0 || serving_term_ != term) return reject(not_leader());
  // Asked anew each time: better refused now than after a deadline, and taken as soon as it fits.
  if (disk_.full()) {
    return reject(
        Status(StatusCode::kResourceExhausted, "the disk of the log is full", "disk-full"));
  }
  if (in_flight_.size() >= options_.proposals_max) {
    return reject(Status(StatusCode::kResourceExhausted,
                         fmt::format("{} proposals wait already", in_flight_.size()),
                         "overloaded"));
  }
  const TimePoint at = now();
  auto index = core_.propose(at, std::move(payload));
  if (!index) return reject(std::move(index).error());
  if (fault(DriverMutant::kAnswersAtOnce)) {
    push_answer([done = std::move(done), index = *index]() mutable {
      done({Outcome::kCommitted, index, {}});
    });
    return carry_out(at);
  }
  in_flight_.push_back({*index, term, at + options_.deadline, std::move(done)});
  carry_out(at);
}

// ---------------------------------------------------------------- turns

Node::Impl::Turn::~Turn() {
  if (!std::exchange(node_.unflushed_, false)) return;
  ++node_.flushing_;
  lock_.unlock();
  // Others' disks are further away than one's own.
  node_.transport_->flush();
  node_.disk_.flush();
  if (--node_.flushing_ == 0) node_.flushing_.notify_all();
}

// Without the lock. Who has let go of it may still be in the ports: they must not be stopped under
// his hands. Nobody comes anew once the node is deaf.
void Node::Impl::await_flushes() {
  for (int busy = flushing_; busy != 0; busy = flushing_) flushing_.wait(busy);
}

// ---------------------------------------------------------------- from network and disk

void Node::Impl::received(Message message) {
  event([&](TimePoint at) {
    heard_[message.from] = at;
    const bool rejection = message.kind == MessageKind::kAppendReply && message.reject;
    const MemberId from = message.from;
    if (leave_out_what_finds_no_room(message)) core_.step(at, std::move(message));
    if (rejection) note_lost_entries(from);
  });
}

// Once for each term and member.
void Node::Impl::note_lost_entries(MemberId from) {
  const Progress* progress = core_.progress(from);
  const Member* member = core_.members().find(from);
  if (progress == nullptr || member == nullptr || !progress->lost_acknowledged()) return;
  auto& [term, told] = lost_entries_told_;
  if (std::exchange(term, core_.term()) != core_.term()) told.clear();
  if (!told.insert(from).second) return;
  log_->error(
      "member {:x} ({}) has not all of the {} entries that it had said were on its disk: remove it "
      "from the cluster, look at its disk, and let it join anew",
      from.value, member->address, progress->match());
}

// Entries with payloads that a full disk would refuse stay with their leader, as if they had been
// lost on the way: nothing is accepted that cannot be written, so that term and vote never wait
// behind it. What is here already is confirmed. False: nothing is left that the core should hear:
// an answer to a message without its entries would only make the leader send more of them at once,
// instead of one with every heartbeat.
bool Node::Impl::leave_out_what_finds_no_room(Message& message) {
  std::vector<Entry>& entries = message.entries;
  const auto first = std::find_if(entries.begin(), entries.end(), [this](const Entry& entry) {
    return needs_room(entry) && entry.index > core_.commit() &&
           !core_.log().matches(entry.index, entry.term);
  });
  if (first == entries.end() || !disk_.full()) return true;
  entries.erase(first, entries.end());
  if (!entries.empty()) return true;
  // A leader that does not know yet where the logs part learns it from the answer, and this member
  // how much of what it has is committed.
  return !core_.log().matches(message.prev_index, message.prev_term) ||
         std::min(message.commit, message.prev_index) > core_.commit();
}

void Node::Impl::unreachable(MemberId peer) {
  event([&](TimePoint) { core_.unreachable(peer); });
}

void Node::Impl::vanished(MemberId peer) {
  event([&](TimePoint at) {
    heard_.erase(peer);
    if (peer != core_.leader()) return;
    log_->info("the leader's process is gone");
    core_.suspect_leader(at);
  });
}

// A leader that goes has asked somebody to take over; if that was lost, nobody needs to wait for
// it.
void Node::Impl::said_goodbye(MemberId peer) {
  event([&](TimePoint at) {
    heard_.erase(peer);
    if (peer == core_.leader()) core_.suspect_leader(at);
  });
}

// Who was leader until a moment ago may not have heard yet that this member was taken in. Whoever
// has another leader is in the group still.
void Node::Impl::removed(MemberId by) {
  event([&](TimePoint) {
    if (!core_.leader() || core_.leader() == by) tell_removed();
  });
}

void Node::Impl::written(uint64_t token) {
  event([&](TimePoint at) {
    while (!writing_.empty() && writing_.front().token <= token) writing_.pop_front();
    watch_disk(at);
    core_.written(at, token);
    begin_snapshot();
  });
}

void Node::Impl::failed(const Status& status) {
  fatal(status.with_context("the disk"));
}

// ---------------------------------------------------------------- the public face

Node::Node(Options options, Ports ports, Restored restored)
    : impl_(std::make_shared<Impl>(std::move(options), std::move(ports), std::move(restored))) {}

Node::~Node() {
  impl_->abandon();
}

TransportEvents& Node::transport_events() {
  return *impl_;
}
Status Node::start(Transport& transport) {
  return impl_->start(transport);
}
void Node::stop(UniqueFunction<void()> done) {
  impl_->stop(std::move(done));
}
void Node::propose(uint64_t term, std::string payload, UniqueFunction<void(ProposeResult)> done) {
  impl_->propose(term, std::move(payload), std::move(done));
}
uint64_t Node::leading_term() const {
  return impl_->leading_term();
}
GroupView Node::view() const {
  return impl_->view();
}

void Node::add_learner(Member member, Done done) {
  member.voter = member.outgoing = false;
  impl_->change_members(
      [member = std::move(member)](const Members& present) -> Result<std::optional<Members>> {
        Member wanted = member;
        if (const Member* known = present.find(member.id)) {
          wanted.voter = known->voter;
          wanted.outgoing = known->outgoing;
          if (wanted == *known) return std::nullopt;
        }
        Members next = present;
        next.put(std::move(wanted));
        return next;
      },
      std::move(done));
}

void Node::promote(MemberId id, Done done) {
  impl_->change_members(
      [id](const Members& present) -> Result<std::optional<Members>> {
        const Member* known = present.find(id);
        if (known == nullptr) return fail(not_found("member {:x} is not in the group", id.value));
        if (known->voter) return std::nullopt;
        Members next = present;
        Member voter = *known;
        voter.voter = true;
        next.put(std::move(voter));
        return next;
      },
      std::move(done));
}

void Node::remove(MemberId id, Done done) {
  impl_->change_members(
      [id](const Members& present) -> Result<std::optional<Members>> {
        if (present.find(id) == nullptr) return std::nullopt;
        Members next = present;
        next.remove(id);
        return next;
      },
      std::move(done));
}

void Node::transfer_leadership(MemberId target, Done done) {
  impl_->transfer(target, std::move(done));
}
void Node::read_barrier(UniqueFunction<void(Result<Index>)> done) {
  impl_->read(std::move(done));
}
void Node::configure(const Settings& settings) {
  impl_->configure(settings);
}
void Node::take_snapshot(UniqueFunction<void(Status)> done) {
  impl_->take_snapshot(std::move(done));
}

}  // namespace muster::raft
