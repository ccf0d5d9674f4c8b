// From the node to the user's strand.
#include <unistd.h>

#include <utility>

#include "base/check.h"
#include "raft/node/node_impl.h"

namespace muster::raft {

// Under the lock.
void Node::Impl::push(Delivery delivery) {
  deliveries_.push_back(std::move(delivery));
}

// Under the lock.
void Node::Impl::push_answer(UniqueFunction<void()> answer) {
  push({.kind = Delivery::Kind::kAnswer, .answer = std::move(answer)});
}

void Node::Impl::push_answer(Group::Done done, Status status) {
  push_answer(
      [done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
}

void Node::Impl::push_refusal(UniqueFunction<void(Result<Index>)> done, Status status) {
  push_answer([done = std::move(done), status = std::move(status)]() mutable {
    done(fail(std::move(status)));
  });
}

// Under the lock.
void Node::Impl::post_deliveries() {
  if (deliveries_.empty() || delivering_) return;
  delivering_ = true;
  user_.post([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->deliver();
  });
}

// After a delivery that was left for a while (run() said false): the strand goes on with the next.
void Node::Impl::deliver_the_rest() {
  const std::lock_guard lock(mutex_);
  delivering_ = false;
  post_deliveries();
}

std::optional<Delivery> Node::Impl::next_delivery() {
  const std::lock_guard lock(mutex_);
  if (life_ == Life::kEnded) deliveries_.clear();
  if (deliveries_.empty()) {
    delivering_ = false;
    return std::nullopt;
  }
  std::optional<Delivery> next = std::move(deliveries_.front());
  deliveries_.pop_front();
  return next;
}

void Node::Impl::deliver() {
  while (std::optional<Delivery> next = next_delivery()) {
    if (!run(*next)) return;
  }
}

bool Node::Impl::run(Delivery& delivery) {
  switch (delivery.kind) {
    case Delivery::Kind::kAnswer: delivery.answer(); return true;
    case Delivery::Kind::kEntries: return run_entries(delivery);
    case Delivery::Kind::kRestore: run_restore(delivery.index, delivery.term); return false;
    case Delivery::Kind::kLead:
      visible_term_ = delivery.term;
      log_->info("leading term {}", delivery.term);
      machine_.lead(delivery.term);
      return true;
    case Delivery::Kind::kEndLeading:
      log_->info("no longer leading term {}", delivery.term);
      visible_term_ = 0;
      machine_.end_leading();
      return true;
    case Delivery::Kind::kGroup: machine_.group_changed(); return true;
    case Delivery::Kind::kRemoved: machine_.removed(); return true;
    case Delivery::Kind::kTakeSnapshot: consider_snapshot(true); return true;
  }
  return true;
}

// True: more may be delivered at once. After entries of others the strand gets to breathe.
bool Node::Impl::run_entries(Delivery& delivery) {
  bool others = false;
  size_t bytes = 0;
  for (Delivery::Step& step : delivery.steps) {
    const Entry& entry = step.entry;
    bytes += entry.bytes().size();
    if (step.done) {
      std::exchange(step.done, nullptr)({Outcome::kCommitted, entry.index, {}});
      if (!fault(DriverMutant::kOwnEntriesAppliedToo)) continue;
    }
    if (entry.kind != EntryKind::kData) continue;
    others = true;
    if (Status status = machine_.apply(entry.index, entry.bytes()); !status.ok()) {
      fatal(status);
      for (Delivery::Step& left : delivery.steps) {
        if (left.done) left.done({Outcome::kUnknown, 0, status});
      }
      deliver_the_rest();
      return false;
    }
  }
  {
    const std::lock_guard lock(mutex_);
    bytes_since_snapshot_ += bytes;
  }
  caught_up_to(delivery.index);
  consider_snapshot(false);
  if (others) deliver_the_rest();
  return !others;
}

// The state machine has everything up to `index`.
void Node::Impl::caught_up_to(Index index) {
  event([&](TimePoint at) {
    user_applied_ = std::max(user_applied_, index);
    core_.applied(at, std::max(core_.applied_index(), index));
    // Granted in the order of their tickets, at indexes that grow.
    while (!reads_.empty()) {
      Read& read = reads_.begin()->second;
      if (read.index == 0 || read.index > user_applied_) break;
      push_answer([done = std::move(read.done), granted = read.index]() mutable { done(granted); });
      reads_.erase(reads_.begin());
    }
  });
}

// ---------------------------------------------------------------- snapshots that arrive

void Node::Impl::run_restore(Index index, Term term) {
  log_->info("loading the snapshot at entry {}", index);
  if (fault(DriverMutant::kSnapshotNotLoaded)) {
    caught_up_to(index);
    return deliver_the_rest();
  }
  auto reader = disk_.open_snapshot(index, term);
  if (reader) {
    if (Status begun = machine_.restore_begin(); !begun.ok()) return cannot_apply(begun);
    return restore_some(*std::move(reader), index);
  }
  {
    const std::lock_guard lock(mutex_);
    const bool superseded = core_.snapshot().index > index;
    if (superseded) {  // and the newer one waits in the queue
      delivering_ = false;
      return post_deliveries();
    }
  }
  cannot_apply(reader.error());
}

// A chunk each time, so that the strand does other things between.
void Node::Impl::restore_some(std::shared_ptr<SnapshotSource> reader, Index index) {
  {
    // Nobody reads it any more, and answers wait behind it. Nothing to be applied does: the core
    // hands out nothing before it is told that the snapshot is loaded.
    std::unique_lock lock(mutex_);
    const bool ended = !alive();
    lock.unlock();
    if (ended) return deliver_the_rest();
  }
  auto chunk = reader->next();
  if (!chunk) return cannot_apply(chunk.error());
  if (!chunk->empty()) {
    if (Status loaded = machine_.restore_chunk(*chunk); !loaded.ok()) return cannot_apply(loaded);
    user_.post([weak = weak_from_this(), reader = std::move(reader), index] {
      if (const auto self = weak.lock()) self->restore_some(reader, index);
    });
    return;
  }
  if (Status status = machine_.restore_end(); !status.ok()) return cannot_apply(status);
  {
    const std::lock_guard lock(mutex_);
    bytes_since_snapshot_ = 0;
  }
  caught_up_to(index);
  deliver_the_rest();
}

// ---------------------------------------------------------------- the end

// Under the lock: what waits to be applied would follow something that was not, so of what was to
// be delivered only the answers are, and the end of a leadership that the user has heard of.
void Node::Impl::keep_answers() {
  Term unsaid = 0;
  for (Delivery& delivery : std::exchange(deliveries_, {})) {
    const auto kind = delivery.kind;
    if (kind == Delivery::Kind::kLead) unsaid = delivery.term;
    if (kind == Delivery::Kind::kAnswer ||
        (kind == Delivery::Kind::kEndLeading && delivery.term != unsaid)) {
      push(std::move(delivery));
    }
    for (Delivery::Step& step : delivery.steps) {
      if (!step.done) continue;
      push_answer([done = std::move(step.done)]() mutable {
        done({Outcome::kUnknown, 0, internal_error("this member failed")});
      });
    }
  }
}

// Any thread, without the lock. The process is told before those who wait are.
void Node::Impl::fatal(const Status& status) {
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    first = alive();
    // An orderly stop that is under way goes on without handing over.
    if (life_ == Life::kStopping) post_stop_ports();
    if (first) life_ = Life::kClosed;
    if (first) raft_.cancel(timer_);
  }
  log_->error("nothing can be written safely any more: {}", status.message());
  if (first && !options_.on_fatal) _exit(70);
  if (first) options_.on_fatal(status);
  const std::lock_guard lock(mutex_);
  if (life_ == Life::kEnded) return;
  close();
  keep_answers();
  post_deliveries();
}

// On the user's strand, from a delivery: as fatal(), and the answers that waited behind it leave.
void Node::Impl::cannot_apply(const Status& status) {
  fatal(status);
  deliver_the_rest();
}

}  // namespace muster::raft
