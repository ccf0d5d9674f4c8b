#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/sim/raft/raft_run.h"
#include "tests/sim/sim_cluster.h"
#include "tests/sim/sim_manager.h"
#include "tests/sim/sim_seeds.h"
#include "tests/sim/sim_shrink.h"

namespace {

using muster::Status;
using namespace muster::sim;

struct Arguments {
  SeedPlan plan;
  ClusterOptions options;
  std::string suite = "cluster";
  std::string without;
  int64_t chaos_ms = 0;
  bool all_troubles = false;
  bool trace = false;
  bool probes = false;
  bool require_probes = false;
  std::optional<uint64_t> shrink;
  std::string regressions;
};

template <class T>
Status status_of(const muster::Result<T>& outcome) {
  return outcome ? muster::ok_status() : outcome.error();
}

Status run(const std::string& suite, const ClusterOptions& options, uint64_t seed, Probes& probes) {
  if (suite == "raft") return status_of(run_raft(seed));
  if (suite == "manager") return status_of(run_manager(seed));
  const auto outcome = run_cluster(seed, options);
  if (outcome) probes.add(outcome->probes);
  return status_of(outcome);
}

int shrink_seed(const Arguments& arguments) {
  const uint64_t seed = *arguments.shrink;
  const auto shrunk = shrink(seed, arguments.options, [&](const ClusterOptions& options) {
    auto failure = in_child([&] {
      const auto outcome = run_cluster(seed, options);
      return outcome ? std::string() : std::string(outcome.error().message());
    });
    fmt::print("{} {}\n", failure ? "fails: " : "passes:", command_line(seed, options));
    std::fflush(stdout);
    return failure;
  });
  if (!shrunk) {
    fmt::print("seed {} passes\n", seed);
    return 1;
  }
  fmt::print("after {} runs:\n{}\n{}\n", shrunk->tries, command_line(seed, shrunk->options),
             shrunk->failure);
  return 0;
}

// Lines of the file: the suite, a seed, the troubles it needs left out ("-": it draws its own),
// and after a # what was wrong.
int run_regressions(const std::string& file) {
  std::ifstream lines(file);
  if (!lines) {
    fmt::print(stderr, "cannot read {}\n", file);
    return 1;
  }
  int ran = 0;
  int failed = 0;
  std::string line;
  while (std::getline(lines, line)) {
    std::istringstream words(line.substr(0, line.find('#')));
    std::string suite;
    uint64_t seed = 0;
    std::string without;
    if (!(words >> suite)) continue;
    if (!(words >> seed >> without)) {
      fmt::print(stderr, "not a regression: {}\n", line);
      return 1;
    }
    ClusterOptions options;
    if (without == "first-ones") {
      options.troubles = Troubles::first_ones();
      options.draw = false;
    } else if (without != "-") {
      const auto left_out = Troubles::parse(without);
      if (!left_out) {
        fmt::print(stderr, "{}\n", left_out.error().message());
        return 1;
      }
      options.troubles = Troubles::all().without(*left_out);
      options.draw = false;
    }
    Probes probes;
    const Status status = run(suite, options, seed, probes);
    ++ran;
    if (status.ok()) continue;
    ++failed;
    fmt::print(stderr, "{} seed {}: {}\n", suite, seed, status.message());
  }
  fmt::print("{} of {} seeds that once failed pass\n", ran - failed, ran);
  return failed == 0 && ran > 0 ? 0 : 1;
}

int run_many(Arguments& arguments) {
  if (arguments.trace) {
    arguments.options.trace = [](const std::string& line) { fmt::print("{}\n", line); };
  }
  const SeedTotals totals = run_seeds(arguments.plan, [&](uint64_t seed, Probes& probes) {
    return run(arguments.suite, arguments.options, seed, probes);
  });
  for (const std::string& failure : totals.failures) fmt::print(stderr, "{}\n", failure);
  if (arguments.probes || arguments.require_probes) {
    for (const auto& [name, count] : totals.probes.counts()) fmt::print("{:>9} {}\n", count, name);
  }
  fmt::print("{} seeds, {} failed\n", totals.seeds, totals.failures.size());
  bool met = true;
  for (const std::string& name : totals.probes.missing()) {
    if (!arguments.require_probes) break;
    fmt::print(stderr, "never met: {}\n", name);
    met = false;
  }
  if (totals.seeds < arguments.plan.at_least) {
    fmt::print(stderr, "{} seeds were to run\n", arguments.plan.at_least);
    return 1;
  }
  return totals.failures.empty() && met ? 0 : 1;
}

void add_options(CLI::App& app, Arguments& a) {
  app.add_option("--suite", a.suite,
                 "cluster: managers and nodes with faults; manager: only plans; raft: members of a "
                 "log with faults")
      ->check(CLI::IsMember({"cluster", "manager", "raft"}));
  app.add_option("--seeds", a.plan.seeds, "how many seeds");
  app.add_option("--start", a.plan.start, "the first seed");
  app.add_option("--seconds", a.plan.seconds, "stop after this long; 0 = never");
  app.add_option("--at-least", a.plan.at_least, "but not before so many");
  app.add_option("--jobs", a.plan.jobs, "processes that share the seeds")->check(CLI::Range(1, 64));
  app.add_option("--without", a.without, "kinds of trouble to leave out, with commas between");
  app.add_flag("--all-troubles", a.all_troubles, "all others, whatever the seed draws");
  app.add_option("--managers", a.options.managers_max, "at most so many")->check(CLI::Range(1, 5));
  app.add_option("--hosts", a.options.hosts, "so many")->check(CLI::Range(1, 5));
  app.add_option("--services", a.options.services, "so many")->check(CLI::Range(1, 8));
  app.add_option("--chaos-ms", a.chaos_ms, "how long there is trouble");
  app.add_flag("--trace", a.trace, "say what happens");
  app.add_flag("--probes", a.probes, "say how often runs came to places that matter");
  app.add_flag("--require-probes", a.require_probes, "fail when there was no way to one of them");
  app.add_option("--shrink", a.shrink, "find what this failing seed needs to fail");
  app.add_option("--regressions", a.regressions, "run the seeds this file lists");
}

}  // namespace

// Runs seeds until there are no more, the time is over, or one fails; prints the failing seed.
int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("muster-sim: a cluster in virtual time, one run a seed");
  add_options(app, arguments);
  CLI11_PARSE(app, argc, argv);
  const auto without = Troubles::parse(arguments.without);
  if (!without) {
    fmt::print(stderr, "{}\n", without.error().message());
    return 2;
  }
  arguments.options.troubles = Troubles::all().without(*without);
  arguments.options.draw = !arguments.all_troubles;
  if (arguments.chaos_ms > 0)
    arguments.options.chaos = std::chrono::milliseconds(arguments.chaos_ms);
  if (arguments.shrink) return shrink_seed(arguments);
  if (!arguments.regressions.empty()) return run_regressions(arguments.regressions);
  return run_many(arguments);
}
