#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/status.h"

namespace muster::security {

// Key material of `size` bytes out of a secret that is uniformly random (RFC 5869 with SHA-256, no
// salt). Another `info` gives bytes that tell nothing of these.
Result<std::string> hkdf_sha256(std::string_view secret, std::string_view info, size_t size);

}  // namespace muster::security
