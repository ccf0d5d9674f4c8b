#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace muster::security {

// What lets a host into a swarm: `SWMTKN-1-<50 digits: digest of the root>-<25 digits: secret>`.
// The digest pins the root certificate that a joiner downloads; the secret decides its role.
struct JoinToken {
  std::string root_digest;
  std::string secret;

  std::string str() const;
};

// A token with a fresh secret of 128 random bits for the given root.
Result<JoinToken> create_join_token(std::string_view root_certificate_pem);
// Strict on the number and the length of parts. The error never repeats the token.
Result<JoinToken> parse_join_token(std::string_view text);
// In constant time.
bool same_secret(const JoinToken& a, const JoinToken& b);

}  // namespace muster::security
