#include "tests/sim/sim_shrink.h"

#include <fmt/format.h>

#include <utility>

#include "tests/sim/sim_cluster.h"

namespace muster::sim {
namespace {

constexpr Duration kPrecision = 250ms;

class Search {
 public:
  Search(Shrunk& best, const Attempt& attempt) : best_(best), attempt_(attempt) {}

  bool fails(const ClusterOptions& options) {
    ++best_.tries;
    auto failure = attempt_(options);
    if (!failure) return false;
    best_.options = options;
    best_.failure = *std::move(failure);
    return true;
  }

  bool drop_troubles() {
    bool dropped = false;
    for (size_t i = 0; i < Troubles::kCount; ++i) {
      const auto kind = static_cast<Trouble>(i);
      if (!best_.options.troubles.has(kind)) continue;
      ClusterOptions less = best_.options;
      less.troubles.put(kind, false);
      dropped = fails(less) || dropped;
    }
    return dropped;
  }

  template <class T>
  void lower(T ClusterOptions::*what, T least, T step) {
    while (best_.options.*what > least) {
      ClusterOptions less = best_.options;
      less.*what = less.*what - step;
      if (!fails(less)) return;
    }
  }

  // Failures are not a function that grows with time, but nearly.
  void shorten() {
    Duration passes(0);
    while (best_.options.chaos - passes > kPrecision) {
      ClusterOptions less = best_.options;
      less.chaos = passes + (best_.options.chaos - passes) / 2;
      if (!fails(less)) passes = less.chaos;
    }
  }

 private:
  Shrunk& best_;
  const Attempt& attempt_;
};

}  // namespace

std::optional<Shrunk> shrink(uint64_t seed, const ClusterOptions& options, const Attempt& attempt) {
  Shrunk best;
  Search search(best, attempt);
  ClusterOptions first = options;
  first.troubles = troubles_of(seed, options);
  // As drawn, and said: what is left out from now on is left out by name.
  const ClusterOptions drawn = first;
  first.draw = false;
  if (!search.fails(first) && !search.fails(drawn)) return std::nullopt;
  search.shorten();
  while (search.drop_troubles()) search.shorten();
  search.lower(&ClusterOptions::services, 1, 1);
  search.lower(&ClusterOptions::hosts, 1, 1);
  search.lower(&ClusterOptions::managers_max, uint64_t{1}, uint64_t{2});
  search.shorten();
  return best;
}

std::string command_line(uint64_t seed, const ClusterOptions& options) {
  std::string out = fmt::format("muster-sim --start {} --seeds 1", seed);
  const Troubles without = Troubles::all().without(options.troubles);
  if (!options.draw) out += " --all-troubles";
  if (!without.none()) out += " --without " + without.names();
  const ClusterOptions usual;
  if (options.managers_max != usual.managers_max)
    out += fmt::format(" --managers {}", options.managers_max);
  if (options.hosts != usual.hosts) out += fmt::format(" --hosts {}", options.hosts);
  if (options.services != usual.services) out += fmt::format(" --services {}", options.services);
  if (options.chaos != usual.chaos) out += fmt::format(" --chaos-ms {}", options.chaos / 1ms);
  return out;
}

}  // namespace muster::sim
