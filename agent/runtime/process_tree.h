#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/runtime/cgroup.h"

namespace muster::agent {

// Of a process, from /proc/<pid>/stat. The start tells it from a later one of the same number.
struct ProcessStat {
  int64_t pid = 0;
  int64_t parent = 0;
  int64_t session = 0;
  uint64_t start_ticks = 0;
  bool ending = false;  // ended, or the kernel is at it
};
std::optional<ProcessStat> parse_process_stat(std::string_view text);
std::optional<ProcessStat> read_process_stat(int64_t pid);

// Of `all` those that descend from `root` or are in the session it leads, and `root`.
std::vector<ProcessStat> tree_of(const std::vector<ProcessStat>& all, int64_t root);

// SIGKILLs a process of the cgroup with all it has started there, other sessions and process groups
// included. They are stopped first, so that none can slip away. Does not wait for their end.
void kill_process_tree(const Cgroups& cgroups, const std::string& cgroup, int64_t root);

}  // namespace muster::agent
