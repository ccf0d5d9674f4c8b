#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "tests/sim/sim_options.h"

namespace muster::sim {

// What a failing run of a seed can be reduced to.
struct Shrunk {
  ClusterOptions options;
  std::string failure;  // of the reduced run
  size_t tries = 0;
};

// Runs a seed; nothing: it passed, else how it failed. An ended process is a failure, too.
using Attempt = std::function<std::optional<std::string>(const ClusterOptions&)>;

// Leaves out one kind of trouble after another, then hosts, services, managers and time, as long as
// the seed still fails, whatever way. Nothing: it does not fail to begin with. Pure but for
// `attempt`.
std::optional<Shrunk> shrink(uint64_t seed, const ClusterOptions& options, const Attempt& attempt);

// The command line that repeats it.
std::string command_line(uint64_t seed, const ClusterOptions& options);

}  // namespace muster::sim
