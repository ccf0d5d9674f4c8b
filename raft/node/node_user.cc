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

// Under the lock.
void Node::Impl::post_deliveries() {
  if (deliveries_.empty() || delivering_) return;
  delivering_ = true;
  user_.post([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->deliver();
  });
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
      continue;
    }
    if (entry.kind != EntryKind::kData) continue;
    others = true;
    if (Status status = machine_.apply(entry.index, entry.bytes()); !status.ok()) {
      fatal(status);
      for (Delivery::Step& left : delivery.steps) {
        if (left.done) left.done({Outcome::kUnknown, 0, status});
      }
      return false;
    }
  }
  {
    const std::lock_guard lock(mutex_);
    bytes_since_snapshot_ += bytes;
  }
  caught_up_to(delivery.index);
  consider_snapshot(false);
  if (!others) return true;
  const std::lock_guard lock(mutex_);
  delivering_ = false;
  post_deliveries();
  return false;
}

// The state machine has everything up to `index`.
void Node::Impl::caught_up_to(Index index) {
  event([&](TimePoint at) {
    user_applied_ = std::max(user_applied_, index);
    core_.applied(at, std::max(core_.applied_index(), index));
    for (auto read = reads_.begin(); read != reads_.end();) {
      if (read->second.index == 0 || read->second.index > user_applied_) {
        ++read;
        continue;
      }
      push_answer([done = std::move(read->second.done), granted = read->second.index]() mutable {
        done(granted);
      });
      read = reads_.erase(read);
    }
  });
}

// ---------------------------------------------------------------- snapshots that arrive

void Node::Impl::run_restore(Index index, Term term) {
  log_->info("loading the snapshot at entry {}", index);
  auto reader = disk_.open_snapshot(index, term);
  if (reader) {
    if (Status begun = machine_.restore_begin(); !begun.ok()) return fatal(begun);
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
  fatal(reader.error());
}

// A chunk each time, so that the strand does other things between.
void Node::Impl::restore_some(std::shared_ptr<SnapshotSource> reader, Index index) {
  auto chunk = reader->next();
  if (!chunk) return fatal(chunk.error());
  if (!chunk->empty()) {
    if (Status loaded = machine_.restore_chunk(*chunk); !loaded.ok()) return fatal(loaded);
    user_.post([weak = weak_from_this(), reader = std::move(reader), index] {
      if (const auto self = weak.lock()) self->restore_some(reader, index);
    });
    return;
  }
  if (Status status = machine_.restore_end(); !status.ok()) return fatal(status);
  {
    const std::lock_guard lock(mutex_);
    bytes_since_snapshot_ = 0;
    delivering_ = false;
  }
  caught_up_to(index);
}

// ---------------------------------------------------------------- the end

// Under the lock: of what was to be delivered only the answers are.
void Node::Impl::keep_answers(Delivery delivery) {
  const auto kind = delivery.kind;
  if (kind == Delivery::Kind::kAnswer || kind == Delivery::Kind::kEndLeading) {
    return push(std::move(delivery));
  }
  for (Delivery::Step& step : delivery.steps) {
    if (!step.done) continue;
    push_answer([done = std::move(step.done)]() mutable {
      done({Outcome::kUnknown, 0, internal_error("this member failed")});
    });
  }
}

// Any thread, without the lock. The process is told before any answer leaves.
void Node::Impl::fatal(const Status& status) {
  {
    const std::lock_guard lock(mutex_);
    if (!alive()) return;
    life_ = Life::kClosed;
    // What waits to be applied would follow something that was not.
    for (Delivery& delivery : std::exchange(deliveries_, {})) keep_answers(std::move(delivery));
    end_serving();
    raft_.cancel(timer_);
  }
  log_->error("nothing can be written safely any more: {}", status.message());
  if (!options_.on_fatal) _exit(70);
  options_.on_fatal(status);
  const std::lock_guard lock(mutex_);
  delivering_ = false;
  post_deliveries();
}

}  // namespace muster::raft
