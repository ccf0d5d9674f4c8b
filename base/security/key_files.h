#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/security/unlock_key.h"
#include "base/security/x509.h"
#include "base/status.h"

namespace muster::security {

// What a node keeps to prove who it is.
struct NodeCredentials {
  std::string root_pem;    // what it trusts: one root, or two while the root is rotated
  CertificateAndKey node;  // the certificate with intermediates behind it, and its key
};

// `dir` holds root.crt, node.crt and node.key (0600) inside a directory per generation, with the
// symlink `current` naming the one in force: certificate and key are always swapped as a pair, and
// what killed writers left is removed by the next, or when it is read. With `lock` the key is
// wrapped: a key as it is is never written then, and the one of the generation before is gone on
// return, which otherwise fails.
Status save_credentials(const std::filesystem::path& dir, const NodeCredentials& credentials,
                        const std::optional<UnlockKey>& lock = std::nullopt);
// NOT_FOUND when the node has none; UNAVAILABLE with reason "locked" when the key is wrapped and no
// `lock` given; UNAUTHENTICATED with the wrong one. A key that is not wrapped is read in any case.
// Not while another thread or process saves: what is not in force is removed before anything is
// read, whatever that comes to.
Result<NodeCredentials> load_credentials(const std::filesystem::path& dir,
                                         const std::optional<UnlockKey>& lock = std::nullopt);
// Wraps what is there with `to` instead of `from`; either may be none. Nothing is changed when the
// key does not open with `from`.
Status rewrap_credentials(const std::filesystem::path& dir, const std::optional<UnlockKey>& from,
                          const std::optional<UnlockKey>& to);

}  // namespace muster::security
