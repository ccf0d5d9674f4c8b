#pragma once

#include "tests/bench/report.h"

namespace muster::bench {

// Writes through the leader of three members, each a process, with fsync, TLS both ways and
// encryption on disk; with --peer Debian's etcd beside it, by the same client on the same disk.
// Servers share one half of the processors and the client has the other.
Status run_raft_suite(const SuiteOptions& options, Report& report);

}  // namespace muster::bench
