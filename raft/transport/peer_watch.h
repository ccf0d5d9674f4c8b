#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "raft/core/types.h"

namespace muster::raft {

// What connecting to a member's address shows of the process behind it.
enum class ProbeResult {
  kRefused,   // at once refused or reset: nobody listens there
  kAccepted,  // somebody does
  kUnknown,   // no answer in time, no route, a name that is no address
};

// Which ends of streams say that a member's process is gone. Pure.
//
// A stream that was in use and ended without a goodbye raises the question, the probe answers it.
// Told once: then the member must have been heard of again. A goodbye, or a new stream while the
// probe is under way, settles it.
class PeerWatch {
 public:
  // A stream from or to the peer is in use.
  void established(MemberId peer) {
    State& state = peers_[peer];
    state.alive = true;
    state.parted = false;
    state.retired = false;
    ++state.streams;
  }
  // It announced its end. True: this is news.
  bool goodbye(MemberId peer) {
    State& state = peers_[peer];
    state.alive = false;
    return !std::exchange(state.parted, true);
  }
  // A stream ended suddenly. True: probe the address now and tell probed().
  bool lost(MemberId peer) {
    const auto found = peers_.find(peer);
    if (found == peers_.end()) return false;
    State& state = found->second;
    if (!state.alive || state.parted) return false;
    // A probe that is under way may have asked before this stream ended.
    if (std::exchange(state.probing, true)) {
      state.again = true;
      return false;
    }
    state.streams_at_probe = state.streams;
    return true;
  }
  enum class Next { kNothing, kProbeAgain, kVanished };
  Next probed(MemberId peer, ProbeResult result) {
    const auto found = peers_.find(peer);
    if (found == peers_.end()) return Next::kNothing;
    const Next next = answered(peer, found->second, result);
    if (found->second.retired && !found->second.probing) peers_.erase(found);
    return next;
  }
  // No stream is left of it: it is forgotten, once what is being asked of it is answered.
  void retire(MemberId peer) {
    const auto found = peers_.find(peer);
    if (found == peers_.end()) return;
    found->second.retired = true;
    if (!found->second.probing) peers_.erase(found);
  }
  void forget(MemberId peer) { peers_.erase(peer); }
  size_t known() const { return peers_.size(); }

 private:
  struct State {
    bool alive = false;
    bool parted = false;
    bool probing = false;
    bool again = false;
    bool retired = false;
    uint64_t streams = 0;  // ever established
    uint64_t streams_at_probe = 0;
  };
  Next answered(MemberId peer, State& state, ProbeResult result) {
    state.probing = false;
    const bool again = std::exchange(state.again, false);
    if (!state.alive || state.parted) return Next::kNothing;
    if (result == ProbeResult::kRefused && state.streams == state.streams_at_probe) {
      state.alive = false;
      return Next::kVanished;
    }
    return again && lost(peer) ? Next::kProbeAgain : Next::kNothing;
  }

  std::map<MemberId, State> peers_;
};

}  // namespace muster::raft
