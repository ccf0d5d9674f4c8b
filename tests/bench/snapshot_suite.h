#pragma once

#include "base/status.h"
#include "tests/bench/report.h"

namespace muster::bench {

// A state of 100,000 tasks on a real log, one client that writes small entries all the time, and a
// snapshot. Rows: snapshot_100k_s (from asking to the log beginning after it), snapshot_100k_mib
// (the file), pause_during_ms and pause_before_ms (the longest that a write took while the snapshot
// was taken and half a second longer, and in as much time before), write_p99_during_ms,
// write_p99_before_ms, writes_during_per_s, writes_before_per_s.
Status run_snapshot_suite(const SuiteOptions& options, Report& report);

}  // namespace muster::bench
