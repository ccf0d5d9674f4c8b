#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/time.h"
#include "muster/v1/control.pb.h"

namespace muster::manager::logs {

// Merges the lines of several nodes by time, as far as a short wait allows. Pure.
//
// A node that is still sending what was written before (not `current`) is waited for, however long
// it takes: so the past comes in its right order. Of nodes that send what happens now, a line waits
// kWindow at most for earlier ones of others.
class LineMerge {
 public:
  static constexpr Duration kWindow = 200ms;
  // A node's lines are asked for while fewer bytes than this wait here. One message (64 KiB) may
  // come on top.
  static constexpr size_t kLowWaterBytes = 32 << 10;

  // Lines of the node may come from now on; opening it again after close() is fine.
  void open(const std::string& node_id);
  // Everything that the node had written before the subscription is here.
  void set_current(const std::string& node_id);
  // No more will come. What waits is still handed out.
  void close(const std::string& node_id);
  // Within one node in the order of time.
  void add(const std::string& node_id, v1::LogLine line, TimePoint now);

  bool has_room(const std::string& node_id) const;
  bool empty() const { return heads_.empty(); }

  // What may go out now, up to about `bytes_max`.
  std::vector<v1::LogLine> take(TimePoint now, size_t bytes_max);
  // When take() will have something without anything new; only as of the last take().
  std::optional<TimePoint> wake_at() const { return wake_at_; }

 private:
  struct Waiting {
    v1::LogLine line;
    TimePoint since;
  };
  struct Source {
    bool open = false;
    bool current = false;
    std::deque<Waiting> lines;
    size_t bytes = 0;
  };
  using Head = std::pair<int64_t, std::string>;  // time, node

  // Counts the source in or out of what take() has to wait for.
  void count(const Source& source, int sign);

  std::map<std::string, Source, std::less<>> sources_;
  std::set<Head> heads_;  // of sources with lines
  int64_t blocking_ = 0;  // open, empty, not current: nothing may pass
  int64_t quiet_ = 0;     // open, empty, current: lines wait for the window
  std::optional<TimePoint> wake_at_;
};

}  // namespace muster::manager::logs
