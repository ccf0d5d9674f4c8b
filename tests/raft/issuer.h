#pragma once

#include <string>
#include <utility>

#include "base/security/key_files.h"
#include "base/security/tls/credentials.h"
#include "base/security/x509.h"
#include "base/thread_executor.h"

namespace muster::raft {

// Who issues the certificates of a test's members.
class Issuer {
 public:
  Issuer() {
    static const bool kOnce = (security::require_tls13(), true);
    (void)kOnce;
  }

  static std::string cluster() { return "c1"; }

  security::NodeCredentials issue(
      const std::string& node_id,
      security::CertificateRole role = security::CertificateRole::kManager) const {
    security::NodeCredentials out;
    out.root_pem = root_.certificate_pem;
    out.node.key_pem = *security::generate_key();
    out.node.certificate_pem =
        *security::sign_request(root_, *security::create_signing_request(out.node.key_pem),
                                {node_id, role, cluster()}, SystemClock().wall_now(), 24h);
    return out;
  }

 private:
  const security::CertificateAndKey root_ = *security::create_root(SystemClock().wall_now());
};

}  // namespace muster::raft
