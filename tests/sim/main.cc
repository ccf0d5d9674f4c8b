#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>

#include "tests/sim/sim_manager.h"

// Runs seeds until there are no more, the time is over, or one fails; prints the failing seed.
int main(int argc, char** argv) {
  uint64_t seeds = 100;
  uint64_t start = 1;
  int64_t seconds = 0;
  CLI::App app("muster-sim: a whole manager in virtual time, one run a seed");
  app.add_option("--seeds", seeds, "how many seeds");
  app.add_option("--start", start, "the first seed");
  app.add_option("--seconds", seconds, "stop after this long; 0 = never");
  CLI11_PARSE(app, argc, argv);
  const auto begin = std::chrono::steady_clock::now();
  uint64_t ran = 0;
  for (; ran < seeds; ++ran) {
    const auto spent = std::chrono::steady_clock::now() - begin;
    if (seconds > 0 && spent >= std::chrono::seconds(seconds)) break;
    const auto outcome = muster::sim::run_manager(start + ran);
    if (!outcome) {
      std::fprintf(stderr, "seed %llu: %s\n", static_cast<unsigned long long>(start + ran),
                   outcome.error().message().c_str());
      return 1;
    }
  }
  std::printf("%llu seeds passed\n", static_cast<unsigned long long>(ran));
  return 0;
}
