#pragma once

#include "base/status.h"
#include "tests/bench/report.h"

namespace muster::bench {

// Rows: tx_disk_1c_per_s, tx_disk_1000c_per_s (real log, fsync, encryption; 1 and 1,000 clients
// that each wait for their answer), tx_memory_per_s (a log that answers at once),
// task_updates_per_s (100 tasks changed in each of them, among a million), snapshot_take_us (a
// reader's handle), snapshot_save_s (serialising a million tasks), watch_events_per_s (1,000
// watchers), replay_1m_tasks_s (applying the entries of a million tasks), load_1m_tasks_s (from
// snapshot chunks), rss_1m_tasks_mib.
Status run_store_suite(const SuiteOptions& options, Report& report);

}  // namespace muster::bench
