#include "raft/core/progress.h"

#include <algorithm>

#include "raft/core/mutant.h"

namespace muster::raft {

bool Progress::paused(const Window& window) const {
  switch (state_) {
    case State::kProbe: return probe_sent_;
    case State::kReplicate:
      return inflight_.size() >= window.messages ||
             (inflight_bytes_ >= window.bytes && !fault(Mutant::kBytesAheadUnlimited));
    case State::kSnapshot: return true;
  }
  return true;
}

void Progress::sent(Index last, size_t bytes) {
  if (state_ == State::kReplicate) {
    next_ = last + 1;
    if (fault(Mutant::kSentAheadUncounted)) return;
    inflight_.push_back({last, bytes});
    inflight_bytes_ += bytes;
  } else {
    probe_sent_ = !fault(Mutant::kProbesUnlimited);
  }
}

bool Progress::acknowledged(Index index) {
  while (!inflight_.empty() && inflight_.front().last <= index) {
    inflight_bytes_ -= inflight_.front().bytes;
    inflight_.pop_front();
  }
  next_ = std::max(next_, index + 1);
  if (index >= match_) broken_promises_ = 0;
  if (index <= match_) return false;
  match_ = index;
  probe_sent_ = false;
  return true;
}

bool Progress::rejected(Index rejected, Index meeting) {
  if (state_ == State::kSnapshot) return false;
  if (rejected <= match_) {
    // Of an older message, or the member has lost what it acknowledged. An answer at once would be
    // rejected at once, for ever, so that what the links repeat, and each heartbeat, would add to
    // the messages under way: what is probed again with heartbeats is enough.
    if (state_ == State::kProbe && next_ - 1 == rejected) ++broken_promises_;
    return false;
  }
  if (state_ == State::kReplicate) {
    probe();
    return true;
  }
  if (next_ - 1 != rejected) return false;
  next_ = std::max(std::min(rejected, meeting + 1), match_ + 1);
  probe_sent_ = false;
  return true;
}

void Progress::clear_window() {
  inflight_.clear();
  inflight_bytes_ = 0;
}

void Progress::probe() {
  state_ = State::kProbe;
  next_ = match_ + 1;
  snapshot_index_ = 0;
  probe_sent_ = false;
  clear_window();
}

void Progress::probe_after_snapshot() {
  const Index after = std::max(match_, snapshot_index_) + 1;
  probe();
  next_ = after;
}

void Progress::replicate() {
  state_ = State::kReplicate;
  next_ = match_ + 1;
  snapshot_index_ = 0;
  clear_window();
}

void Progress::await_snapshot(Index index) {
  state_ = State::kSnapshot;
  snapshot_index_ = index;
  clear_window();
}

void Progress::track_round(Index last, TimePoint now, Duration limit) {
  if (round_end_ != 0 && match_ < round_end_) return;
  if (round_end_ != 0) caught_up_ = now - round_began_ <= limit;
  round_end_ = last;
  round_began_ = now;
}

}  // namespace muster::raft
