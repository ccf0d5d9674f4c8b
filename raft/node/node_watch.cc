// Time: the core's deadlines, those of proposals and reads, and whether disk and user still answer.
// Runs on the raft strand; everything but on_timer() and stop_ports() under the lock.
#include <algorithm>
#include <utility>

#include "raft/node/node_impl.h"

namespace muster::raft {
namespace {

// How often the user's strand is asked, as a part of how long it may be silent.
constexpr int kPingsInSilence = 5;
// A leader without room on its disk hands over at most so often: the others may have none either.
constexpr Duration kHandOverForRoom = 30s;

}  // namespace

TimePoint Node::Impl::next_due(TimePoint at) const {
  TimePoint due = core_.next_deadline();
  const auto also = [&due](TimePoint other) { due = std::min(due, other); };
  if (!in_flight_.empty()) also(in_flight_.front().deadline);
  if (!reads_.empty()) also(reads_.begin()->second.deadline);
  if (transfer_) also(transfer_->deadline);
  if (resign_by_) also(*resign_by_);
  if (stop_by_ && !stop_posted_) also(*stop_by_);
  if (!writing_.empty() && !disk_silent_) also(writing_.front().at + options_.disk_silence_max);
  if (!pinged_at_) also(next_ping_);
  if (pinged_at_ && !user_silent_) also(*pinged_at_ + options_.user_silence_max);
  return std::max(due, at);
}

// Moved forward at once, backward only when it fires: deadlines move away with every message.
void Node::Impl::arm_timer(TimePoint at) {
  const TimePoint due = next_due(at);
  if (timer_ != 0 && timer_due_ <= due) return;
  raft_.cancel(timer_);
  timer_due_ = due;
  timer_ = raft_.after(due - at, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->on_timer();
  });
}

void Node::Impl::on_timer() {
  event([this](TimePoint at) {
    timer_ = 0;
    watch_disk(at);
    watch_user(at);
    watch_deadlines(at);
    core_.tick(at);
  });
}

void Node::Impl::watch_deadlines(TimePoint at) {
  if (!in_flight_.empty() && at >= in_flight_.front().deadline) {
    resign(at, "a proposal was not committed in time");
  }
  if (resign_by_ && at >= *resign_by_) {
    resign_by_.reset();
    core_.step_down(at);
  }
  while (!reads_.empty() && at >= reads_.begin()->second.deadline) {
    Read& read = reads_.begin()->second;
    push_refusal(std::move(read.done),
                 Status(StatusCode::kDeadlineExceeded,
                        read.index == 0 ? "no quorum of managers confirmed the leadership in time"
                                        : "the state that is to be read did not get here in time"));
    reads_.erase(reads_.begin());
  }
}

void Node::Impl::watch_disk(TimePoint at) {
  const bool silent = !writing_.empty() && at - writing_.front().at >= options_.disk_silence_max;
  if (silent == disk_silent_) return;
  disk_silent_ = silent;
  core_.set_eligible(!disk_silent_ && !user_silent_);
  if (!silent) return log_->info("the disk answers again");
  log_->warn("the disk has not finished a write for {}", format_duration(at - writing_.front().at));
  if (best_successor(at)) resign(at, "the disk does not answer");
}

void Node::Impl::watch_user(TimePoint at) {
  if (!pinged_at_ && at >= next_ping_) {
    pinged_at_ = at;
    user_.post([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->pong();
    });
  }
  if (user_silent_ || !pinged_at_ || at - *pinged_at_ < options_.user_silence_max) return;
  user_silent_ = true;
  core_.set_eligible(false);
  log_->warn("the main loop has not answered for {}", format_duration(at - *pinged_at_));
  resign(at, "the main loop does not answer");
}

void Node::Impl::pong() {
  event([this](TimePoint at) {
    pinged_at_.reset();
    next_ping_ = at + options_.user_silence_max / kPingsInSilence;
    if (!user_silent_) return;
    user_silent_ = false;
    core_.set_eligible(!disk_silent_);
    log_->info("the main loop answers again");
  });
}

// Ends this leadership: proposals are answered kUnknown at once, the best of the others takes over.
void Node::Impl::resign(TimePoint at, std::string_view why) {
  if (core_.role() != Role::kLeader || resigned_term_ == core_.term()) return;
  log_->warn("giving up leadership of term {}: {}", core_.term(), why);
  resigned_term_ = core_.term();
  end_serving();
  const MemberId successor = best_successor(at);
  if (!successor) return core_.step_down(at);
  // One may be under way; then that has its chance.
  (void)core_.transfer_to(at, successor, Core::Handover::kAtOnce);
  resign_by_ = at + options_.transfer_max;
}

void Node::Impl::configure(const Settings& settings) {
  constexpr Duration kHeartbeatMin = 10ms;
  const Turn turn(*this);
  Tuning& tuning = options_.tuning;
  tuning.heartbeat = *own_settings_.heartbeat;
  if (settings.heartbeat) tuning.heartbeat = std::max(*settings.heartbeat, kHeartbeatMin);
  tuning.election_min = settings.election_min.value_or(*own_settings_.election_min);
  if (settings.heartbeat || settings.election_min) {
    tuning.election_min = std::max(tuning.election_min, 5 * tuning.heartbeat);
  }
  options_.snapshot_entries =
      std::max<uint64_t>(settings.snapshot_entries.value_or(*own_settings_.snapshot_entries), 1);
  options_.trailing_entries = settings.trailing_entries.value_or(*own_settings_.trailing_entries);
  core_.retune(tuning);
  if (alive()) carry_out(now());
}

bool Node::Impl::reachable(TimePoint at, MemberId id) const {
  if (id == core_.self()) return true;
  const auto heard = heard_.find(id);
  const bool recent = heard != heard_.end() && at - heard->second <= options_.tuning.election_min;
  if (core_.role() == Role::kLeader) return recent;
  return id == core_.leader() ? recent : true;
}

// Nobody when there is no other voter that answers.
MemberId Node::Impl::best_successor(TimePoint at) const {
  MemberId best;
  Index furthest = 0;
  for (const Member& member : core_.members().list) {
    const Progress* progress = core_.progress(member.id);
    if (!member.voter || member.id == core_.self() || progress == nullptr) continue;
    if (!reachable(at, member.id)) continue;
    if (best && progress->match() <= furthest) continue;
    best = member.id;
    furthest = progress->match();
  }
  return best;
}

// Tells the user when something he acts upon is different.
void Node::Impl::note_changes(TimePoint at) {
  former_last_ = std::min(former_last_, core_.log().last());
  const std::vector<Member>& members = core_.members().list;
  const auto caught_up = [this](const Member& member) {
    const Progress* progress = core_.progress(member.id);
    return !member.voter && progress != nullptr && progress->caught_up();
  };
  const auto is_seen = [&](const Member& member, const Seen& seen) {
    return member.id == seen.id && member.voter == seen.voter &&
           reachable(at, member.id) == seen.reachable && caught_up(member) == seen.caught_up &&
           member.address == seen.address;
  };
  if (core_.leader() == seen_leader_ && serving_term_ == seen_serving_ &&
      behind() == seen_behind_ &&
      std::equal(members.begin(), members.end(), seen_.begin(), seen_.end(), is_seen)) {
    return;
  }
  seen_.clear();
  for (const Member& member : members) {
    seen_.push_back(
        {member.id, member.address, member.voter, reachable(at, member.id), caught_up(member)});
  }
  seen_leader_ = core_.leader();
  seen_serving_ = serving_term_;
  seen_behind_ = behind();
  push({.kind = Delivery::Kind::kGroup});
}

void Node::Impl::finish_transfer(TimePoint at) {
  if (!transfer_) return;
  Status answer;
  if (core_.role() != Role::kLeader && core_.leader()) {
    if (transfer_->target && core_.leader() != transfer_->target) {
      answer = unavailable("another manager leads now");
    }
  } else if (core_.role() == Role::kLeader && !core_.transferring()) {
    answer =
        Status(StatusCode::kUnavailable,
               "the other manager did not take over the leadership in time", "transfer-failed");
  } else if (at >= transfer_->deadline) {
    answer = Status(StatusCode::kDeadlineExceeded, "no manager took over the leadership in time");
  } else {
    return;
  }
  push_answer(std::move(transfer_->done), std::move(answer));
  transfer_.reset();
}

// ---------------------------------------------------------------- the end

// Once somebody else leads, or it took too long, or there is nothing to hand over.
void Node::Impl::maybe_stop(TimePoint at) {
  if (life_ != Life::kStopping || stop_posted_) return;
  const bool done = core_.role() != Role::kLeader && core_.leader();
  if (!done && at < *stop_by_) return;
  post_stop_ports();
}

// Under the lock.
void Node::Impl::post_stop_ports() {
  if (std::exchange(stop_posted_, true)) return;
  raft_.post([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->stop_ports();
  });
}

// Under the lock: deaf from now on, and whoever waits is answered. Again, it does nothing.
void Node::Impl::close() {
  life_ = Life::kClosed;
  raft_.cancel(timer_);
  end_serving();
  for (auto& [ticket, read] : std::exchange(reads_, {})) {
    push_refusal(std::move(read.done), member_stops());
  }
  if (transfer_) push_answer(std::move(transfer_->done), member_stops());
  transfer_.reset();
  for (Group::Done& waiter : std::exchange(snapshot_waiters_, {})) {
    push_answer(std::move(waiter), member_stops());
  }
  captured_.reset();
}

void Node::Impl::stop_ports() {
  {
    const std::lock_guard lock(mutex_);
    if (life_ == Life::kEnded) return;
    stopping_ports_ = true;
    close();
    post_deliveries();
  }
  await_flushes();
  // Both wait for threads that may be telling this node something.
  transport_->stop();
  disk_.stop();
  const std::lock_guard lock(mutex_);
  stopping_ports_ = false;
  ports_ended_ = true;
  ports_free_.notify_all();
  push_answer(std::move(stop_done_));
  post_deliveries();
}

void Node::Impl::room(const Status& status) {
  event([&](TimePoint at) {
    const bool full = !status.ok();
    if (full != !room_.ok()) {
      if (full) log_->error("{}: changes are refused", status.message());
      if (!full) log_->info("there is room on the disk again");
    }
    room_ = status;
    if (!full || core_.role() != Role::kLeader) return;
    if (handed_over_for_room_ && at - *handed_over_for_room_ < kHandOverForRoom) return;
    const MemberId successor = best_successor(at);
    if (!successor) return;
    handed_over_for_room_ = at;
    (void)core_.transfer_to(at, successor);
  });
}

}  // namespace muster::raft
