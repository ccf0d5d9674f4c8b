#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace muster::agent {

// How large a container's log may grow: container.log, then container.log.1 (the newest of the
// old ones) up to container.log.<files_max - 1>.
struct LogLimit {
  std::string bundle_dir;
  uint64_t bytes_max = 0;  // 0 = unlimited
  unsigned files_max = 1;
};

// Rotates when the current file is over its limit: renames, and has the monitor open a new file.
// No line is lost; a reader that follows notices (log_reader.h).
Status rotate_log(const LogLimit& limit);

}  // namespace muster::agent
