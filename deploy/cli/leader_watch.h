#pragma once

#include <cstdint>
#include <memory>

#include "deploy/cli/run.h"

namespace muster::deploy::cli {

// What of a leader a manager has said, one answer after the other (pure).
class LeaderRecord {
 public:
  enum class Change { kNone, kLost, kFound };
  // An election takes a moment and is not worth a word: one answer without a leader counts when it
  // is the first, later so many in a row. Nodes that are no managers say nothing of it.
  static constexpr int kLostAfter = 3;
  Change take(const v1::GetInfoResponse& info);
  bool lost() const { return lost_; }
  // Whether the last answer named no leader.
  bool doubtful() const { return without_ != 0; }

 private:
  bool answered_ = false;
  bool lost_ = false;
  int without_ = 0;  // answers in a row
};

// Asks what a musterd says of itself, over a connection of its own. The answer is a stream of one
// message, so that a command can wait for it together with everything else.
class InfoSource {
 public:
  virtual ~InfoSource() = default;
  virtual std::unique_ptr<Stream<v1::GetInfoResponse>> ask() = 0;
};
std::unique_ptr<InfoSource> info_source(const Endpoint& endpoint);  // in client.cc

// For commands that show changes as they come: while nobody leads none come, and silence would say
// that all is quiet. Asks at once, then every 2 s, twice a second while there is doubt. Wait for
// fd() and until wake(), then look().
class LeaderWatch {
 public:
  using Change = LeaderRecord::Change;

  explicit LeaderWatch(Run& run);
  // Waits for the first answer, 5 s at most, or for a signal, which it leaves there.
  Change first(const Signals& signals);
  int fd() const { return asked_ == nullptr ? -1 : asked_->fd(); }
  int64_t wake() const;  // Unix time in nanoseconds; the greatest there is: only by fd()
  Change look();
  bool lost() const { return record_.lost(); }

 private:
  Run& run_;
  LeaderRecord record_;
  std::unique_ptr<InfoSource> source_;
  std::unique_ptr<Stream<v1::GetInfoResponse>> asked_;
  int64_t again_at_ns_ = 0;
};

}  // namespace muster::deploy::cli
