#include "agent/runtime/stats.h"

#include <fmt/format.h>

#include <sstream>

#include "base/file.h"

namespace muster::agent {

NetworkCounters parse_net_dev(const std::string& text) {
  NetworkCounters out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;  // the two lines of the heading
    const size_t begin = line.find_first_not_of(' ');
    if (line.substr(begin, colon - begin) == "lo") continue;
    std::istringstream fields(line.substr(colon + 1));
    uint64_t values[9] = {};
    for (uint64_t& value : values) fields >> value;
    out.received_bytes += values[0];
    out.sent_bytes += values[8];
  }
  return out;
}

Result<v1::ContainerStats> StatsSampler::sample(const std::string& container_id,
                                                const std::string& name, TimePoint now) {
  MUSTER_ASSIGN(const int64_t pid, runtime_.first_process(container_id));
  MUSTER_ASSIGN(const CgroupUsage usage,
                runtime_.cgroups().usage(runtime_.cgroup_of(container_id)));
  v1::ContainerStats out;
  out.set_id(container_id);
  out.set_name(name);
  out.set_cpu_ns(usage.cpu_ns);
  out.set_memory_bytes(usage.memory_bytes);
  out.set_memory_limit_bytes(usage.memory_limit_bytes);
  out.set_pids(usage.pids);
  out.set_block_read_bytes(usage.block_read_bytes);
  out.set_block_write_bytes(usage.block_write_bytes);
  // The file shows the namespace of that process; no need to enter it.
  if (const auto net = read_file(fmt::format("/proc/{}/net/dev", pid), 1 << 20)) {
    const NetworkCounters counters = parse_net_dev(*net);
    out.set_network_rx_bytes(counters.received_bytes);
    out.set_network_tx_bytes(counters.sent_bytes);
  }
  const auto last = last_.find(container_id);
  if (last != last_.end() && now > last->second.at && usage.cpu_ns >= last->second.cpu_ns) {
    const auto elapsed_ns = static_cast<uint64_t>((now - last->second.at).count());
    out.set_cpu_millipercent(
        static_cast<uint32_t>(static_cast<double>(usage.cpu_ns - last->second.cpu_ns) * 100'000.0 /
                              static_cast<double>(elapsed_ns)));
  }
  last_[container_id] = {now, usage.cpu_ns};
  return out;
}

}  // namespace muster::agent
