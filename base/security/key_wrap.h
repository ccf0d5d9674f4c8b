#pragma once

#include <string>
#include <string_view>

#include "base/security/unlock_key.h"
#include "base/status.h"

namespace muster::security {

// Keys on disk under autolock: a line that says what it is, then nonce, ciphertext and tag of
// AES-256-GCM in base64. `purpose` ("node.key", "raft.key") is authenticated, so that one file
// cannot be put in the place of another.
std::string wrap_key(std::string_view key, const UnlockKey& with, std::string_view purpose);

// UNAUTHENTICATED (wrong_unlock_key()) when `with` or `purpose` is not the one it was wrapped with,
// or the text was changed; INVALID_ARGUMENT when it is no wrapped key at all.
Result<std::string> unwrap_key(std::string_view wrapped, const UnlockKey& with,
                               std::string_view purpose);

// Whether the text is what wrap_key() makes, and not a key as it is.
bool is_wrapped(std::string_view text);

// What is said while the key to unwrap with is not known: UNAVAILABLE, reason "locked".
Status swarm_locked();

}  // namespace muster::security
