#include "manager/ca/enrolment.h"

#include "base/security/x509.h"

namespace muster::manager::ca {

Result<Issued> accept(v1::IssueCertificateResponse response, const std::string& key_pem,
                      WallTime now) {
  Issued issued;
  issued.credentials.root_pem = response.trust_root_pem();
  issued.credentials.node = {response.certificate_pem(), key_pem};
  MUSTER_TRY(security::check_certificate(response.certificate_pem(), response.trust_root_pem(),
                                         key_pem, now)
                 .with_context("the issued certificate"));
  MUSTER_ASSIGN(const auto facts, security::read_certificate(response.certificate_pem()));
  if (facts.identity.node_id != response.node_id() ||
      facts.identity.cluster_id != response.cluster_id()) {
    return fail(internal_error("the issued certificate is for somebody else"));
  }
  issued.node_id = facts.identity.node_id;
  issued.cluster_id = facts.identity.cluster_id;
  issued.manager = facts.identity.role == security::CertificateRole::kManager;
  if (issued.manager && !response.unlock_key().empty()) {
    MUSTER_ASSIGN(issued.lock, security::UnlockKey::parse(response.unlock_key()));
  }
  issued.manager_addrs.assign(response.manager_addrs().begin(), response.manager_addrs().end());
  return issued;
}

Result<std::string> pinned_root(const v1::GetRootCertificateResponse& response,
                                const security::JoinToken& token, WallTime now) {
  MUSTER_ASSIGN(const auto certificates, security::split_bundle(response.certificate_pem()));
  if (certificates.size() != 1) {
    return fail(StatusCode::kUnauthenticated, "the manager's answer is not one root certificate",
                "other-root");
  }
  MUSTER_ASSIGN(const std::string digest, security::certificate_digest(certificates[0]));
  if (digest != token.root_digest) {
    return fail(StatusCode::kUnauthenticated,
                fmt::format("remote CA does not match fingerprint. Expected: {}, got: {} (the join "
                            "token is of another swarm, or its root certificate was rotated)",
                            token.root_digest, digest),
                "other-root");
  }
  MUSTER_TRY(security::check_certificate(certificates[0], certificates[0], {}, now)
                 .with_context("the swarm's root"));
  return certificates[0];
}

}  // namespace muster::manager::ca
