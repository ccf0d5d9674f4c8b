#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "muster/v1/specs.pb.h"

namespace muster::agent {

// How large a container's log may grow: container.log, then container.log.1 (the newest of the
// old ones) up to container.log.<files_max - 1>.
struct LogLimit {
  std::string bundle_dir;
  uint64_t bytes_max = 0;  // 0 = unlimited
  unsigned files_max = 1;
};

// From the log driver's options max-size ("10m") and max-file ("3"), as Docker's json-file takes
// them; what cannot be read counts as absent.
LogLimit log_limit(const v1::LogDriver& driver);

// "512", "64k", "10m", "1g": bytes; 0 when malformed.
uint64_t parse_size(const std::string& text);

// Rotates when the current file is over its limit: renames, and has the monitor open a new file.
// No line is lost; a reader that follows notices (log_reader.h).
Status rotate_log(const LogLimit& limit);

}  // namespace muster::agent
