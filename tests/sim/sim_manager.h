#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace muster::sim {

struct SimOutcome {
  uint64_t state_hash = 0;  // of every object at the end
  uint64_t commits = 0;
};

// One manager's store and orchestrator, with simulated placement and agents, for some virtual
// minutes of scaling, updates, drains, node losses and failing containers, all from `seed`; then a
// quiet time in which it must converge. Checked after every commit: observed and desired states
// only grow, and a slot has no two running tasks of one revision that are meant to run. Checked at
// the end: replica counts, history limits, nothing left of removed services. INTERNAL says which
// rule broke and when.
Result<SimOutcome> run_manager(uint64_t seed);

}  // namespace muster::sim
