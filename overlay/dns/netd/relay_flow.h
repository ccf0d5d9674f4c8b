#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace muster::overlay::dns {

// Pipes that are empty, for whoever has something to pass: a connection that waits holds none.
class PipePool {
 public:
  static constexpr size_t kSpareMax = 64;
  struct Pipe {
    UniqueFd out;
    UniqueFd in;
    explicit operator bool() const { return static_cast<bool>(out); }
  };

  // Nothing when the kernel gives none.
  Pipe take();
  void give_back(Pipe pipe);

 private:
  std::vector<Pipe> spare_;
};

// One direction of a relayed connection: what comes from one socket goes to the other, through a
// pipe and never through this process's memory (splice(2)). An end is passed on as an end, while
// the other direction goes on.
class RelayStream {
 public:
  enum class Outcome {
    kWaits,   // until a socket is ready again (edge-triggered)
    kMore,    // a share of the loop is used up
    kDone,    // the end was passed on
    kBroken,  // a socket failed, or no pipe is to be had
  };

  // Passes on what is there, from `from` to `to`; `moved` is set if that was anything.
  Outcome pump(int from, int to, PipePool& pipes, bool* moved);

  bool done() const { return shut_; }
  // For a successor in another process: what is known, and the pipe with what is in it.
  std::string state() const;
  const PipePool::Pipe& pipe() const { return pipe_; }
  static RelayStream restored(std::string_view state, PipePool::Pipe pipe);

 private:
  bool fill(int from);
  bool drain(int to);

  PipePool::Pipe pipe_;  // only while something is in it
  size_t held_ = 0;      // bytes in it
  bool ended_ = false;   // nothing more comes
  bool shut_ = false;    // and that was passed on
  bool broken_ = false;
};

}  // namespace muster::overlay::dns
