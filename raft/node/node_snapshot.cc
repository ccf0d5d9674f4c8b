// Snapshots: taken here, sent, and received.
#include <algorithm>
#include <utility>

#include "raft/node/chunk_frames.h"
#include "raft/node/node_impl.h"

namespace muster::raft {

// On the user's strand, between two deliveries: the state is that after user_applied_.
void Node::Impl::consider_snapshot(bool wanted) {
  Captured captured;
  {
    const std::lock_guard lock(mutex_);
    const Index at = fault(DriverMutant::kSnapshotMarkTooFar) ? core_.commit() : user_applied_;
    const Index since = at - std::min(at, core_.snapshot().index);
    const bool due =
        (since >= options_.snapshot_entries || bytes_since_snapshot_ >= options_.snapshot_bytes) &&
        at >= snapshot_retry_;
    if (!alive() || snapshotting_ || !(due || wanted)) return;
    const std::optional<Term> term = core_.log().term(at);
    if (since == 0 || !term) {
      // Nothing new, or a snapshot from elsewhere is about to replace everything.
      for (Group::Done& waiter : std::exchange(snapshot_waiters_, {})) {
        push_answer(std::move(waiter), ok_status());
      }
      return post_deliveries();
    }
    captured.mark = {.index = at, .term = *term, .members = core_.members_at(at)};
    captured.keep_from = at + 1 - std::min(at, options_.trailing_entries);
    snapshotting_ = true;
    // A failed one is tried again after as many entries.
    snapshot_retry_ = at + std::max<Index>(options_.snapshot_entries, 1);
    bytes_since_snapshot_ = 0;
  }
  captured.produce = machine_.capture();
  const std::lock_guard lock(mutex_);
  if (!alive()) return;
  captured_ = std::move(captured);
  begin_snapshot();
}

// Under the lock: hands what was captured to the disk once that has the log up to there.
void Node::Impl::begin_snapshot() {
  if (!captured_ || core_.durable() < captured_->mark.index) return;
  Captured captured = *std::exchange(captured_, std::nullopt);
  disk_.take_snapshot(captured.mark, captured.keep_from, std::move(captured.produce),
                      [weak = weak_from_this(), mark = captured.mark,
                       keep_from = captured.keep_from](const Status& status) {
                        if (const auto self = weak.lock())
                          self->snapshot_ended(mark, keep_from, status);
                      });
}

void Node::Impl::snapshot_ended(const SnapshotMark& mark, Index keep_from, const Status& status) {
  event([&](TimePoint) {
    snapshotting_ = false;
    if (status.ok()) {
      snapshot_retry_ = 0;
      core_.compacted(mark, keep_from);
    } else {
      log_->warn("cannot take a snapshot at entry {}: {}", mark.index, status.message());
    }
    for (Group::Done& waiter : std::exchange(snapshot_waiters_, {})) {
      push_answer(std::move(waiter), status);
    }
  });
}

void Node::Impl::take_snapshot(UniqueFunction<void(Status)> done) {
  const std::lock_guard lock(mutex_);
  if (!alive()) {
    push_answer(std::move(done), member_stops());
  } else if (snapshotting_) {
    push_answer(std::move(done), failed_precondition("another snapshot is being written"));
  } else {
    snapshot_waiters_.push_back(std::move(done));
    // In its turn: entries that are being delivered come first.
    push({.kind = Delivery::Kind::kTakeSnapshot});
  }
  post_deliveries();
}

Result<std::unique_ptr<SnapshotWriter>> Node::Impl::snapshot_arrives(const Message& announcement) {
  {
    const std::lock_guard lock(mutex_);
    if (!alive()) return fail(StatusCode::kUnavailable, "this member stops");
    if (announcement.to != core_.self() || announcement.kind != MessageKind::kSnapshot) {
      return fail(StatusCode::kInvalidArgument, "a snapshot for somebody else");
    }
  }
  if (receiving_->exchange(true)) {
    return fail(StatusCode::kResourceExhausted, "another snapshot is arriving already");
  }
  auto chunks = disk_.receive_snapshot(announcement.snapshot);
  if (!chunks) {
    *receiving_ = false;
    return fail(std::move(chunks).error());
  }
  log_->info("receiving the snapshot at entry {} from member {:x}", announcement.snapshot.index,
             announcement.from.value);
  return std::make_unique<FramedWriter>(*std::move(chunks), receiving_);
}

void Node::Impl::snapshot_sent(MemberId to, const Status& status) {
  event([&](TimePoint at) {
    if (status.ok()) return;
    log_->warn("sending a snapshot to member {:x} failed: {}", to.value, status.message());
    core_.snapshot_failed(at, to);
  });
}

}  // namespace muster::raft
