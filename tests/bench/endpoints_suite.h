#pragma once

#include "tests/bench/report.h"

namespace muster::bench {

// What a node pays that is told of 1,000 endpoints: a network of 100 services of 10 tasks, 20 of
// them in containers here, the others on ten nodes elsewhere, as an agent is told of them.
//   load      all of it at once: processor time, the kernel's and the process's memory
//   change    one endpoint that drains and is ready again: processor time, how long it takes
//   repair    the comparison with the kernel that is made every 10 s and finds nothing
//   names     what musterd remembers for netd, and netd for its resolvers
// In this process, with the data path as an agent makes it, in a network namespace of its own;
// options.balancer leads virtual addresses. Needs root.
Status run_endpoints_suite(const SuiteOptions& options, Report& report);

}  // namespace muster::bench
