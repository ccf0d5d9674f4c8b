#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tests/sim/sim_probes.h"

namespace muster::sim {

// Many seeds, in several processes: seed `start` and those after it, until there are `seeds` of
// them, or the time is over and at least `at_least` have run, or one fails.
struct SeedPlan {
  uint64_t start = 1;
  uint64_t seeds = 100;
  int64_t seconds = 0;  // 0: no end
  uint64_t at_least = 0;
  int jobs = 1;
};
struct SeedTotals {
  uint64_t seeds = 0;
  std::vector<std::string> failures;  // "seed 5: ..."
  Probes probes;
};
// Runs one seed and adds what it met to `probes`.
using RunSeed = std::function<Status(uint64_t seed, Probes& probes)>;
SeedTotals run_seeds(const SeedPlan& plan, const RunSeed& run);

// What `work` says, of a process of its own; nothing: it said nothing and ended well. A process
// that ends otherwise says so itself.
std::optional<std::string> in_child(const std::function<std::string()>& work);

}  // namespace muster::sim
