#pragma once

#include "tests/bench/report.h"

namespace muster::bench {

// What a failure costs whoever writes: in a lab of three managers one client writes every 10 ms,
// and the leader is killed, stopped, frozen or cut off. A figure is the time from the fault to the
// answer to the first write that was begun once it was in force. Then workers lose their power,
// until their tasks run elsewhere. 40 rounds a run for kill and stop, 10 for the others. Needs
// root.
Status run_failover_suite(const SuiteOptions& options, Report& report);

}  // namespace muster::bench
