#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <string>

#include "tests/sim/raft/raft_run.h"
#include "tests/sim/sim_cluster.h"
#include "tests/sim/sim_manager.h"

namespace {

template <class T>
muster::Status status_of(const muster::Result<T>& outcome) {
  return outcome ? muster::ok_status() : outcome.error();
}

muster::Status run(const std::string& suite, uint64_t seed) {
  if (suite == "raft") return status_of(muster::sim::run_raft(seed));
  if (suite == "cluster") return status_of(muster::sim::run_cluster(seed));
  return status_of(muster::sim::run_manager(seed));
}

}  // namespace

// Runs seeds until there are no more, the time is over, or one fails; prints the failing seed.
int main(int argc, char** argv) {
  uint64_t seeds = 100;
  uint64_t start = 1;
  int64_t seconds = 0;
  std::string suite = "cluster";
  CLI::App app("muster-sim: a cluster in virtual time, one run a seed");
  app.add_option(
         "--suite", suite,
         "cluster: a manager and nodes with faults; manager: only plans; raft: members of a "
         "log with faults")
      ->check(CLI::IsMember({"cluster", "manager", "raft"}));
  app.add_option("--seeds", seeds, "how many seeds");
  app.add_option("--start", start, "the first seed");
  app.add_option("--seconds", seconds, "stop after this long; 0 = never");
  CLI11_PARSE(app, argc, argv);
  const auto begin = std::chrono::steady_clock::now();
  uint64_t ran = 0;
  for (; ran < seeds; ++ran) {
    const auto spent = std::chrono::steady_clock::now() - begin;
    if (seconds > 0 && spent >= std::chrono::seconds(seconds)) break;
    const muster::Status status = run(suite, start + ran);
    if (!status.ok()) {
      std::fprintf(stderr, "seed %llu: %s\n", static_cast<unsigned long long>(start + ran),
                   status.message().c_str());
      return 1;
    }
  }
  std::printf("%llu seeds passed\n", static_cast<unsigned long long>(ran));
  return 0;
}
