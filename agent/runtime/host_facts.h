#pragma once

#include <sys/resource.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace muster::agent {

enum class CgroupVersion { kV1, kHybrid, kV2 };

// "1", "hybrid", "2".
std::string_view to_string(CgroupVersion version);

// What bundle generation has to know of the host. Probed once at start (probe_host), or made up by
// a test.
struct HostFacts {
  CgroupVersion cgroups = CgroupVersion::kV2;
  bool swap_accounting = true;
  // Capabilities a container can be given: the bounding set of this process, bit n = capability n.
  uint64_t capabilities = ~uint64_t{0};
  // CAP_SYS_RESOURCE: whether hard limits can be raised and oom_score_adj lowered.
  bool can_raise_limits = true;
  int oom_score_adj = 0;  // of this process; containers inherit it
  // Hard limits of this process by RLIMIT_ number, RLIM_INFINITY where unlimited.
  std::array<rlim_t, RLIM_NLIMITS> hard_limits{};
  std::string init_path;  // static init program; empty = none found
  std::string hostname;
  std::string architecture;  // as uname(2) writes it: x86_64, aarch64
  // Whether specs may ask for privileged containers, devices and the host's namespaces.
  bool allow_privileged = false;
  bool init_by_default = false;
  // mount_setattr(2), Linux 5.12: whether mounts below a read-only one can be made read-only, too.
  bool recursive_read_only = true;
};

// Reads the facts from /proc, /sys and the usual places of tini and catatonit.
HostFacts probe_host();

}  // namespace muster::agent
