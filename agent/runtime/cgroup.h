#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/runtime/host_facts.h"
#include "base/status.h"
#include "base/time.h"

namespace muster::agent {

// What a container uses, as its cgroup counts it.
struct CgroupUsage {
  uint64_t cpu_ns = 0;
  uint64_t memory_bytes = 0;        // without inactive page cache
  uint64_t memory_limit_bytes = 0;  // the host's total when unlimited
  uint64_t pids = 0;
  uint64_t block_read_bytes = 0;
  uint64_t block_write_bytes = 0;
};

// The cgroups of one host, by path below the controllers' mount points ("/muster/<instance>/<id>").
// On cgroup v1 a path stands for a directory in every hierarchy. Thread-safe; calls do not wait
// longer than the kernel does, kill_and_remove for at most kKillTimeout.
class Cgroups {
 public:
  // `root` is /sys/fs/cgroup but for tests.
  explicit Cgroups(CgroupVersion version, std::string root = "/sys/fs/cgroup");

  // Processes in the cgroup and below. Empty when it does not exist.
  std::vector<int64_t> processes(const std::string& path) const;
  bool contains(const std::string& path, int64_t pid) const;
  // Whether the kernel killed a process of the cgroup for want of memory.
  bool oom_killed(const std::string& path) const;
  Result<CgroupUsage> usage(const std::string& path) const;
  // Names of the cgroups right below `path`.
  std::vector<std::string> children(const std::string& path) const;

  // Moves a process out of the hierarchies in which it is not in the root, to `path`. Used for
  // monitors, which must not die with the daemon's own cgroup.
  Status adopt_process(const std::string& path, int64_t pid) const;

  // SIGKILLs whatever is in the cgroup, waits for its end and removes the cgroup with all below.
  // Idempotent.
  static constexpr Duration kKillTimeout = 5s;
  Status kill_and_remove(const std::string& path) const;

 private:
  std::string file(const char* controller, const std::string& path, const char* name) const;
  std::vector<int64_t> members(const std::string& path) const;
  int remove_all(const std::string& path) const;

  CgroupVersion version_;
  std::string root_;
  std::vector<std::string> hierarchies_;  // mount points below root_
};

}  // namespace muster::agent
