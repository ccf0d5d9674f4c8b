#pragma once

#include "tests/bench/report.h"

namespace muster::bench {

// From a task's RUNNING until it is reached from every node: in a lab of ten nodes a new service
// with one task is created again and again, and on each node a container asks for its name and
// connects to its virtual address, and a client outside connects to its published port there. The
// figures are over all nodes and rounds; what was reached before the managers called the task
// running counts as 0. 10 rounds a run. Needs root, and runs in the checkout.
Status run_converge_suite(const SuiteOptions& options, Report& report);

}  // namespace muster::bench
