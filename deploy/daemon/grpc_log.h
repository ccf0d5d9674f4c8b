#pragma once

#include <cstdint>
#include <mutex>
#include <optional>

#include "base/log.h"

namespace muster::daemon {

// When a stream of complaints is worth a line: the first at once, then one a minute for all that
// came. Any thread.
class ComplaintCount {
 public:
  // With each complaint: how many there were since the last line, if it is time for one.
  std::optional<uint64_t> add(int64_t now_ns);

 private:
  std::mutex mutex_;
  uint64_t count_ = 0;
  std::optional<int64_t> said_at_ns_;
};

// What gRPC writes of itself goes to `log` instead of standard error, where it has no form and
// comes several times a second while one host with an expired certificate knocks: each line at
// debug, errors counted at info. For the whole process; before gRPC's first use.
void take_grpc_log(const Log& log);

}  // namespace muster::daemon
