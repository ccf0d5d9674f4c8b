#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "agent/runtime/conmon_runtime.h"
#include "base/status.h"
#include "base/time.h"
#include "muster/v1/local.pb.h"

namespace muster::agent {

// Received and sent bytes of all interfaces but loopback, from the text of /proc/<pid>/net/dev.
struct NetworkCounters {
  uint64_t received_bytes = 0;
  uint64_t sent_bytes = 0;
};
NetworkCounters parse_net_dev(const std::string& text);

// Takes samples of containers; the CPU share is that since the container's last sample here. One
// per stats stream; not thread-safe.
class StatsSampler {
 public:
  explicit StatsSampler(const ConmonRuntime& runtime) : runtime_(runtime) {}
  // NOT_FOUND when the container does not run. `now` is monotonic.
  Result<v1::ContainerStats> sample(const std::string& container_id, const std::string& name,
                                    TimePoint now);

 private:
  struct Last {
    TimePoint at;
    uint64_t cpu_ns;
  };
  const ConmonRuntime& runtime_;
  std::map<std::string, Last> last_;
};

}  // namespace muster::agent
