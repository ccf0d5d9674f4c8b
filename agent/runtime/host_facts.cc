#include "agent/runtime/host_facts.h"

#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/magic.h>
#include <charconv>
#include <cstdio>

#include "base/file.h"

namespace muster::agent {

std::string_view to_string(CgroupVersion version) {
  switch (version) {
    case CgroupVersion::kV1: return "1";
    case CgroupVersion::kHybrid: return "hybrid";
    case CgroupVersion::kV2: return "2";
  }
  return "?";
}

namespace {

CgroupVersion probe_cgroups() {
  struct statfs fs {};
  if (::statfs("/sys/fs/cgroup", &fs) == 0 &&
      static_cast<uint64_t>(fs.f_type) == CGROUP2_SUPER_MAGIC) {
    return CgroupVersion::kV2;
  }
  if (::statfs("/sys/fs/cgroup/unified", &fs) == 0 &&
      static_cast<uint64_t>(fs.f_type) == CGROUP2_SUPER_MAGIC) {
    return CgroupVersion::kHybrid;
  }
  return CgroupVersion::kV1;
}

uint64_t probe_capabilities(std::string_view field) {
  const auto status = read_file("/proc/self/status");
  if (!status) return 0;
  const size_t at = status->find(field);
  if (at == std::string::npos) return 0;
  const char* begin = status->data() + at + field.size();
  while (*begin == '\t' || *begin == ' ') ++begin;
  uint64_t mask = 0;
  std::from_chars(begin, status->data() + status->size(), mask, 16);
  return mask;
}

int probe_oom_score() {
  const auto text = read_file("/proc/self/oom_score_adj");
  int score = 0;
  if (text) std::from_chars(text->data(), text->data() + text->size(), score);
  return score;
}

std::string find_init() {
  // Static programs only: the image may have no C library.
  for (const char* path : {"/usr/bin/tini-static", "/usr/libexec/podman/catatonit",
                           "/usr/bin/catatonit", "/usr/bin/docker-init"}) {
    if (::access(path, X_OK) == 0) return path;
  }
  return "";
}

}  // namespace

HostFacts probe_host() {
  HostFacts facts;
  facts.cgroups = probe_cgroups();
  facts.swap_accounting = facts.cgroups == CgroupVersion::kV2 ||
                          ::access("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", W_OK) == 0;
  facts.capabilities = probe_capabilities("CapBnd:");
  facts.can_raise_limits = ((probe_capabilities("CapEff:") >> CAP_SYS_RESOURCE) & 1) != 0;
  facts.oom_score_adj = probe_oom_score();
  for (size_t i = 0; i < facts.hard_limits.size(); ++i) {
    struct rlimit limit {};
    ::getrlimit(static_cast<__rlimit_resource_t>(i), &limit);
    facts.hard_limits[i] = limit.rlim_max;
  }
  facts.init_path = find_init();
  struct utsname names {};
  if (::uname(&names) == 0) {
    facts.hostname = names.nodename;
    facts.architecture = names.machine;
    int major = 0;
    int minor = 0;
    if (std::sscanf(names.release, "%d.%d", &major, &minor) == 2) {
      facts.recursive_read_only = major > 5 || (major == 5 && minor >= 12);
    }
  }
  return facts;
}

}  // namespace muster::agent
