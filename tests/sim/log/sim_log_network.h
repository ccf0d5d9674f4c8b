#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "base/rng.h"
#include "base/sim_executor.h"
#include "raft/transport/transport.h"

namespace muster::sim {

struct NetworkWeather {
  Duration latency_min = 1ms;
  Duration latency_max = 3ms;
  uint64_t lost_permille = 0;
  uint64_t doubled_permille = 0;
};

// Lanes between the members of a log. A member reaches those it knows the address of: who is in its
// list, and who has written to it.
class SimLogNetwork {
 public:
  SimLogNetwork(SimWorld& world, Rng& rng) : world_(world), rng_(rng) {}

  // The transport of a life of member `self`.
  std::unique_ptr<raft::Transport> open(raft::MemberId self, raft::TransportEvents& events);

  // Its process is gone without a word: the others' connections are refused.
  void kill(raft::MemberId id);

  // One way; both ways for a whole member.
  void cut(raft::MemberId from, raft::MemberId to) { cut_.insert({from, to}); }
  void mend(raft::MemberId from, raft::MemberId to) { cut_.erase({from, to}); }
  void isolate(raft::MemberId id);
  void mend_all() { cut_.clear(); }
  void mend(raft::MemberId id);
  bool is_cut(raft::MemberId from, raft::MemberId to) const { return cut_.contains({from, to}); }
  bool is_up(raft::MemberId id) const { return ends_.contains(id); }

  NetworkWeather& weather() { return weather_; }
  // Messages for which it says true are lost.
  std::function<bool(const raft::Message&)> lose;
  // Sees every message that leaves.
  std::function<void(const raft::Message&)> watch;
  // Whether member `at` knows that `from` was removed; it is told so then.
  std::function<bool(raft::MemberId at, raft::MemberId from)> removed;
  // Whether a connection from one to the other comes about; unset: always.
  std::function<bool(raft::MemberId from, raft::MemberId to)> admits;
  // Whether a snapshot that was sent got there whole.
  std::function<void(bool whole)> on_snapshot;

 private:
  class End;
  Duration latency();
  bool admitted(raft::MemberId from, raft::MemberId to) const {
    return !admits || admits(from, to);
  }

  SimWorld& world_;
  Rng& rng_;
  NetworkWeather weather_;
  uint64_t lives_ = 0;
  std::map<raft::MemberId, End*> ends_;
  std::set<raft::MemberId> known_;  // ever seen; for isolate()
  std::set<std::pair<raft::MemberId, raft::MemberId>> cut_;
};

}  // namespace muster::sim
