#include "agent/runtime/capabilities.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

namespace muster::agent {
namespace {

// By number, as in linux/capability.h.
constexpr std::array<std::string_view, 41> kNames = {"CHOWN",
                                                     "DAC_OVERRIDE",
                                                     "DAC_READ_SEARCH",
                                                     "FOWNER",
                                                     "FSETID",
                                                     "KILL",
                                                     "SETGID",
                                                     "SETUID",
                                                     "SETPCAP",
                                                     "LINUX_IMMUTABLE",
                                                     "NET_BIND_SERVICE",
                                                     "NET_BROADCAST",
                                                     "NET_ADMIN",
                                                     "NET_RAW",
                                                     "IPC_LOCK",
                                                     "IPC_OWNER",
                                                     "SYS_MODULE",
                                                     "SYS_RAWIO",
                                                     "SYS_CHROOT",
                                                     "SYS_PTRACE",
                                                     "SYS_PACCT",
                                                     "SYS_ADMIN",
                                                     "SYS_BOOT",
                                                     "SYS_NICE",
                                                     "SYS_RESOURCE",
                                                     "SYS_TIME",
                                                     "SYS_TTY_CONFIG",
                                                     "MKNOD",
                                                     "LEASE",
                                                     "AUDIT_WRITE",
                                                     "AUDIT_CONTROL",
                                                     "SETFCAP",
                                                     "MAC_OVERRIDE",
                                                     "MAC_ADMIN",
                                                     "SYSLOG",
                                                     "WAKE_ALARM",
                                                     "BLOCK_SUSPEND",
                                                     "AUDIT_READ",
                                                     "PERFMON",
                                                     "BPF",
                                                     "CHECKPOINT_RESTORE"};

constexpr std::array<std::string_view, 14> kDefault = {
    "CHOWN",   "DAC_OVERRIDE", "FSETID",           "FOWNER",
    "MKNOD",   "NET_RAW",      "SETGID",           "SETUID",
    "SETFCAP", "SETPCAP",      "NET_BIND_SERVICE", "SYS_CHROOT",
    "KILL",    "AUDIT_WRITE"};

std::optional<unsigned> number_of(std::string_view name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<unsigned>(found - kNames.begin());
}

// A set of capabilities as named by a user; "ALL" gives `all`.
Result<uint64_t> parse(const std::vector<std::string>& names, uint64_t all, bool* has_all) {
  uint64_t mask = 0;
  for (const std::string& raw : names) {
    std::string name = raw;
    for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    if (name.rfind("CAP_", 0) == 0) name.erase(0, 4);
    if (name == "ALL") {
      *has_all = true;
      mask |= all;
      continue;
    }
    const auto number = number_of(name);
    if (!number) return fail(invalid_argument("unknown capability \"{}\"", raw));
    mask |= uint64_t{1} << *number;
  }
  return mask;
}

}  // namespace

Result<std::vector<std::string>> effective_capabilities(const std::vector<std::string>& add,
                                                        const std::vector<std::string>& drop,
                                                        bool privileged, uint64_t available) {
  available &= (uint64_t{1} << kNames.size()) - 1;
  bool add_all = privileged;
  bool drop_all = false;
  MUSTER_ASSIGN(const uint64_t added, parse(add, available, &add_all));
  MUSTER_ASSIGN(const uint64_t dropped, parse(drop, available, &drop_all));
  if ((added & ~available) != 0) {
    for (unsigned i = 0; i < kNames.size(); ++i) {
      if (((added & ~available) >> i) & 1) {
        return fail(
            failed_precondition("capability CAP_{} is not available on this node", kNames[i]));
      }
    }
  }
  uint64_t base = 0;
  for (const std::string_view name : kDefault) base |= uint64_t{1} << *number_of(name);
  uint64_t mask = 0;
  if (add_all) {
    mask = available & ~(drop_all ? uint64_t{0} : dropped);
  } else if (drop_all) {
    mask = added;
  } else {
    mask = ((base & available) | added) & ~dropped;
  }
  std::vector<std::string> out;
  for (unsigned i = 0; i < kNames.size(); ++i) {
    if ((mask >> i) & 1) out.push_back("CAP_" + std::string(kNames[i]));
  }
  return out;
}

}  // namespace muster::agent
