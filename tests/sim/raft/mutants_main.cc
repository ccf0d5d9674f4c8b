// Whether the simulator can see: every known fault of the protocol must break a rule within a
// number of seeds. Prints the seed for each; fails when a fault lives.
#include <fmt/core.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "raft/core/mutant.h"
#include "tests/sim/raft/raft_run.h"

namespace muster::raft {
Mutant active_mutant = Mutant::kNone;
}

namespace {

constexpr uint64_t kSeeds = 2'000;

// A fault may also end in an abort of a check in the core; so each has a process of its own. The
// seed that found it, or nothing.
bool killed(muster::raft::Mutant mutant) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    muster::raft::active_mutant = mutant;
    std::freopen("/dev/null", "w", stderr);
    for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
      fmt::print("\r{:>3}: seed {}", static_cast<int>(mutant), seed);
      std::fflush(stdout);
      const auto outcome = muster::sim::run_raft(seed);
      if (outcome) continue;
      fmt::print(": {}\n", outcome.error().message());
      std::fflush(stdout);
      _exit(1);
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) fmt::print(": a check of the core failed\n");
  return WIFSIGNALED(status) || WEXITSTATUS(status) != 0;
}

}  // namespace

int main() {
  int alive = 0;
  for (int m = 1; m < static_cast<int>(muster::raft::Mutant::kEnd); ++m) {
    if (killed(static_cast<muster::raft::Mutant>(m))) continue;
    fmt::print(": LIVES\n");
    ++alive;
  }
  fmt::print("{} of {} faults found\n", static_cast<int>(muster::raft::Mutant::kEnd) - 1 - alive,
             static_cast<int>(muster::raft::Mutant::kEnd) - 1);
  return alive == 0 ? 0 : 1;
}
