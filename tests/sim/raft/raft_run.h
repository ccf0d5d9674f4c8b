#pragma once

#include <cstdint>

#include "base/status.h"

namespace muster::sim {

struct RaftOutcome {
  uint64_t committed = 0;
  uint64_t acknowledged = 0;
  uint64_t reads = 0;
  uint64_t terms = 0;
  uint64_t trace = 0;  // equal runs have equal traces
};

// One group of members through faults drawn from the seed, then healed: it must agree, go on and
// have lost nothing. The error says which rule was broken, and when.
Result<RaftOutcome> run_raft(uint64_t seed);

}  // namespace muster::sim
