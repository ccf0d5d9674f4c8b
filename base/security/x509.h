#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "base/time.h"

namespace muster::security {

// The role a certificate gives its holder: its subject's OU, "swarm-manager" or "swarm-worker".
enum class CertificateRole { kWorker, kManager };
std::string_view organizational_unit(CertificateRole role);

// Who a certificate says its holder is: subject CN, OU and O.
struct CertificateIdentity {
  std::string node_id;
  CertificateRole role = CertificateRole::kWorker;
  std::string cluster_id;

  friend bool operator==(const CertificateIdentity&, const CertificateIdentity&) = default;
};

// A key and its certificate, both PEM. A key of the root never leaves a manager.
struct CertificateAndKey {
  std::string certificate_pem;
  std::string key_pem;
};

// What is checked before a node certificate is trusted or kept.
struct CertificateFacts {
  CertificateIdentity identity;
  WallTime not_before;
  WallTime not_after;
};

// A fresh ECDSA P-256 key, PKCS #8 PEM.
Result<std::string> generate_key();

// A self-signed root: CN "swarm-ca", valid 20 years, backdated one hour as every certificate here,
// for hosts whose clocks differ.
Result<CertificateAndKey> create_root(WallTime now);

// A PKCS #10 request for the key's public half. The subject is empty: the signer decides it.
Result<std::string> create_signing_request(std::string_view key_pem);

// Signs a request after checking that its sender holds the key. The subject and the names (node
// id, OU, and "swarm-ca" for managers) come from `identity`, nothing from the request. `validity`
// counts from `now`; it is cut to the root's own end.
Result<std::string> sign_request(const CertificateAndKey& root, std::string_view request_pem,
                                 const CertificateIdentity& identity, WallTime now,
                                 Duration validity);

// Reads a certificate without judging it. INVALID_ARGUMENT when it is none or lacks a role.
Result<CertificateFacts> read_certificate(std::string_view certificate_pem);

// Checks that `certificate_pem` is signed by `root_pem`, valid at `now`, and belongs to `key_pem`
// (skipped when empty). UNAUTHENTICATED otherwise, saying which check failed.
Status check_certificate(std::string_view certificate_pem, std::string_view root_pem,
                         std::string_view key_pem, WallTime now);

// SHA-256 over the DER form, as 50 characters of base 36: the root's digest in join tokens.
Result<std::string> certificate_digest(std::string_view certificate_pem);

}  // namespace muster::security
