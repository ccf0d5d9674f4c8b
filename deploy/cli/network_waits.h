#pragma once

#include <poll.h>

#include <algorithm>
#include <chrono>

#include "base/status.h"
#include "base/time.h"
#include "deploy/cli/run.h"
#include "muster/v1/objects.pb.h"

namespace muster::deploy::cli {

// How long commands wait for what the leader gives out: usually some milliseconds.
inline constexpr Duration kCreateWait = 5s;
inline constexpr Duration kChangeWait = 10s;

// Asks again and again, ever less often (each time costs the manager), until `ask` says so, the
// last time when the time is over; false when it never did. `limit` counts the pauses alone.
template <class Ask>
Result<bool> wait_until(Duration limit, const Ask& ask) {
  constexpr Duration kPauseMin = 2ms;
  constexpr Duration kPauseMax = 500ms;
  Duration waited{};
  for (Duration next = kPauseMin;; next = std::min(2 * next, kPauseMax)) {
    MUSTER_ASSIGN(const bool done, ask());
    if (done || waited >= limit) return done;
    const Duration pause = std::min(next, limit - waited);
    ::poll(nullptr, 0,
           static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(pause).count()));
    waited += pause;
  }
}

// Until a network that was just made has its subnets and its number; answers as it is then.
// FAILED_PRECONDITION with the reason when it cannot have them now: it stays, and the leader tries
// again by itself. A leader that is only slow, or cannot be asked, is warned of.
Result<v1::Network> wait_for_network(Run& run, v1::Network network);

// Until the subnets that its spec names are in force. FAILED_PRECONDITION with the reason when they
// cannot be.
Status wait_for_subnets(Run& run, v1::Network network);

}  // namespace muster::deploy::cli
