#pragma once

#include <filesystem>
#include <string>

#include "base/security/x509.h"
#include "base/status.h"

namespace muster::security {

// What a node keeps to prove who it is.
struct NodeCredentials {
  std::string root_pem;
  CertificateAndKey node;
};

// `dir` holds root.crt, node.crt and node.key (0600) inside a directory per generation, with the
// symlink `current` naming the one in force: certificate and key are always swapped as a pair.
Status save_credentials(const std::filesystem::path& dir, const NodeCredentials& credentials);
// NOT_FOUND when the node has none.
Result<NodeCredentials> load_credentials(const std::filesystem::path& dir);

}  // namespace muster::security
