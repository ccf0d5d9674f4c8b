// The `linux.resources` object of a bundle: what the cgroup enforces.
#include <algorithm>
#include <boost/json/array.hpp>
#include <tuple>

#include "agent/runtime/oci_bundle.h"

namespace muster::agent {
namespace {

namespace json = boost::json;

constexpr int64_t kCpuPeriodUs = 100'000;
constexpr int64_t kCpuQuotaMinUs = 1'000;

json::object cpu_object(const v1::ResourceRequirements& resources) {
  json::object cpu;
  if (const int64_t limit = resources.limits().nano_cpus(); limit > 0) {
    cpu["period"] = kCpuPeriodUs;
    cpu["quota"] = std::max(limit * (kCpuPeriodUs / 1000) / 1'000'000, kCpuQuotaMinUs);
  }
  // Under contention CPU time is divided as reserved; an idle machine is open to everyone.
  if (const int64_t reserved = resources.reservations().nano_cpus(); reserved > 0) {
    cpu["shares"] = std::clamp<int64_t>(reserved / 1000 * 1024 / 1'000'000, 2, 262'144);
  }
  return cpu;
}

json::object memory_object(const v1::ResourceRequirements& resources, const HostFacts& host) {
  json::object memory;
  const int64_t limit = resources.limits().memory_bytes();
  if (limit > 0) {
    memory["limit"] = limit;
    // OCI counts memory and swap together. Docker's default grants as much swap as memory.
    if (host.swap_accounting) {
      int64_t swap = 2 * limit;
      if (resources.has_memory_swap_bytes()) {
        const int64_t asked = resources.memory_swap_bytes();
        swap = asked < 0 ? -1 : limit + asked;
      }
      memory["swap"] = swap;
    }
  }
  const int64_t reserved = resources.reservations().memory_bytes();
  if (reserved > 0 && (limit == 0 || reserved <= limit)) memory["reservation"] = reserved;
  if (resources.has_memory_swappiness() && resources.memory_swappiness() >= 0 &&
      host.cgroups != CgroupVersion::kV2) {
    memory["swappiness"] = resources.memory_swappiness();
  }
  return memory;
}

json::object device_rule(bool allow, const char* type, int64_t major, int64_t minor,
                         const std::string& access) {
  json::object rule{{"allow", allow}, {"access", access}};
  if (type != nullptr) rule["type"] = type;
  if (major >= 0) rule["major"] = major;
  if (minor >= 0) rule["minor"] = minor;
  return rule;
}

json::array device_rules(bool privileged) {
  if (privileged) return {device_rule(true, "a", -1, -1, "rwm")};
  json::array rules;
  rules.emplace_back(device_rule(false, "a", -1, -1, "rwm"));
  // Any node may be made, only these may be opened: null, zero, full, random, urandom, tty,
  // console, ptmx and pseudo terminals.
  rules.emplace_back(device_rule(true, "c", -1, -1, "m"));
  rules.emplace_back(device_rule(true, "b", -1, -1, "m"));
  using Pair = std::tuple<int64_t, int64_t>;
  for (const auto& [major, minor] : {Pair{1, 3}, Pair{1, 5}, Pair{1, 7}, Pair{1, 8}, Pair{1, 9},
                                     Pair{5, 0}, Pair{5, 1}, Pair{5, 2}, Pair{136, -1}}) {
    rules.emplace_back(device_rule(true, "c", major, minor, "rwm"));
  }
  return rules;
}

}  // namespace

json::object resources_object(const v1::TaskSpec& spec, const HostFacts& host, bool privileged) {
  json::object out;
  out["devices"] = device_rules(privileged);
  if (json::object cpu = cpu_object(spec.resources()); !cpu.empty()) out["cpu"] = std::move(cpu);
  if (json::object memory = memory_object(spec.resources(), host); !memory.empty()) {
    out["memory"] = std::move(memory);
  }
  if (const int64_t pids = spec.resources().limits().pids(); pids > 0) {
    out["pids"] = json::object{{"limit", pids}};
  }
  return out;
}

}  // namespace muster::agent
