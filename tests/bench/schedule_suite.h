#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace muster::bench {

// One placement problem, made from a seed: nodes with ten labels each, services of equal tasks.
struct ScheduleCase {
  std::string name;
  uint32_t nodes = 0;
  uint32_t services = 0;  // 0: tasks without a service, swarmkit's own benchmark shape
  uint32_t tasks = 0;     // in all
  // Half of the services have two constraints, a third a spread preference, a tenth reservations;
  // what is reserved in all fills 80 % of the nodes' memory.
  bool mixed = false;
};

// The rows of `muster-bench schedule`. `large` adds the ones of a million tasks and of 100,000
// nodes.
std::vector<ScheduleCase> schedule_cases(bool large);

struct ScheduleResult {
  double decide_s = 0;  // working out every placement, from a state that knows nodes and tasks
  // Both in processor time of the one thread that does all the work.
  // The whole loop: PENDING tasks in the store, to every task ASSIGNED and committed. Includes
  // watching, deciding, checking, the store's transactions and their entries; no disk.
  double total_s = 0;
  double rss_peak_mib = 0;  // of the process so far
};

// Runs a case once. INTERNAL when a task that must fit found no node.
Result<ScheduleResult> run_schedule_case(const ScheduleCase& c, uint64_t seed);

}  // namespace muster::bench
