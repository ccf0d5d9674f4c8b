#pragma once

#include <deque>

#include "base/time.h"
#include "raft/core/types.h"

namespace muster::raft {

// What a leader knows of one member's log, and how much it may send ahead.
class Progress {
 public:
  enum class State : uint8_t {
    kProbe,      // one message at a time, until it is known where the logs meet
    kReplicate,  // sending ahead, within the window
    kSnapshot,   // waiting for a snapshot to arrive
  };
  struct Window {
    size_t messages = 0;
    size_t bytes = 0;
  };

  explicit Progress(Index next) : next_(next) {}

  State state() const { return state_; }
  Index match() const { return match_; }  // known to be durable there
  Index next() const { return next_; }    // the first entry of the next message
  Index snapshot_index() const { return snapshot_index_; }

  bool paused(const Window& window) const;
  // A message with entries up to `last` went out.
  void sent(Index last, size_t bytes);
  // An acknowledgement up to `index`; whether it says something new.
  bool acknowledged(Index index);
  // A rejection of a message whose previous entry was `rejected`; the logs cannot meet after
  // `meeting`. Whether it is news; then probing goes on there.
  bool rejected(Index rejected, Index meeting);
  // It has rejected, again and again, what it had acknowledged as durable: its disk has lost
  // entries. Nothing can be sent to it then; another member must take its place.
  bool lost_acknowledged() const { return broken_promises_ >= kPromisesBroken; }
  void probe();
  // The snapshot is there; whether the log goes on after it is to be seen.
  void probe_after_snapshot();
  void replicate();
  void await_snapshot(Index index);
  // A probe may have been lost.
  void resume_probe() { probe_sent_ = false; }
  size_t inflight_messages() const { return inflight_.size(); }
  size_t inflight_bytes() const { return inflight_bytes_; }

  bool active = false;      // heard from since the last check of the quorum
  uint64_t read_round = 0;  // the last one it has confirmed
  Index commit_sent = 0;
  // Whether it does not know yet that something it has, or will with what is under way, is among
  // the `commit`.
  bool untold(Index commit) const { return commit_sent < std::min(commit, next_ - 1); }

  // A learner has caught up when it got from where the log ended to there within an election
  // time-out: then its promotion will not hold up commits (dissertation, section 4.2.1).
  void track_round(Index last, TimePoint now, Duration limit);
  bool caught_up() const { return caught_up_; }

 private:
  struct Sent {
    Index last = 0;
    size_t bytes = 0;
  };
  void clear_window();

  State state_ = State::kProbe;
  Index match_ = 0;
  Index next_ = 1;
  Index snapshot_index_ = 0;
  bool probe_sent_ = false;
  // Rejections in a row of what was acknowledged; one or two may be late or repeated messages.
  static constexpr int kPromisesBroken = 3;
  int broken_promises_ = 0;
  std::deque<Sent> inflight_;
  size_t inflight_bytes_ = 0;
  Index round_end_ = 0;
  TimePoint round_began_;
  bool caught_up_ = false;
};

}  // namespace muster::raft
