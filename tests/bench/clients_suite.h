#pragma once

#include "tests/bench/report.h"

namespace muster::bench {

// What virtual addresses cost in the namespaces of a node's containers, with each balancer that the
// kernel has: 100 containers in a network of 200 services of 10 tasks, IPv4. Of one container: the
// kernel's memory (all slabs, per-processor and virtual memory, before and after, so on an idle
// machine), how long it takes to install all of it, and to carry out what a task that leaves
// changes. Needs root.
Status run_clients_suite(const SuiteOptions& options, Report& report);

}  // namespace muster::bench
