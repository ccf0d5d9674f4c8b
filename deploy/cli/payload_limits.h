#pragma once

#include <cstddef>
#include <string_view>

#include "base/status.h"

namespace muster::deploy::cli {

// Swarm's limits, which the manager checks. What is far beyond them does not even fit a message, so
// the command says the same by itself.
inline constexpr size_t kSecretBytesLimit = 500 * 1024;
inline constexpr size_t kConfigBytesLimit = 1000 * 1024;

inline Status check_payload_size(std::string_view kind, size_t bytes) {
  const size_t limit = kind == "secret" ? kSecretBytesLimit : kConfigBytesLimit;
  if (bytes > 0 && bytes < limit) return ok_status();
  return invalid_argument("{} data must be larger than 0 and less than {} bytes", kind, limit);
}

}  // namespace muster::deploy::cli
