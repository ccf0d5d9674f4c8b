#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/time.h"

namespace muster::security {

// The role a certificate gives its holder: its subject's OU, "swarm-manager", "swarm-worker" or
// "swarm-client". A client is no node: it uses the control API from elsewhere.
enum class CertificateRole { kWorker, kManager, kClient };
std::string_view organizational_unit(CertificateRole role);

// Who a certificate says its holder is: subject CN, OU and O.
struct CertificateIdentity {
  std::string node_id;  // of a client: its name
  CertificateRole role = CertificateRole::kWorker;
  std::string cluster_id;

  friend bool operator==(const CertificateIdentity&, const CertificateIdentity&) = default;
};

// A key and its certificate, both PEM; intermediates may follow the certificate. A key of the root
// never leaves a manager.
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

// Who vouches for a certificate, both DER: a Name and a SubjectPublicKeyInfo.
struct CertificateIssuer {
  std::string subject_der;
  std::string public_key_der;

  friend bool operator==(const CertificateIssuer&, const CertificateIssuer&) = default;
};

// Every certificate made here is backdated by this, for hosts whose clocks differ.
inline constexpr Duration kBackdate = 1h;
inline constexpr Duration kRootValidity = 24h * 365 * 20;

// ------------------------------------------------------------ making

// A fresh ECDSA P-256 key, PKCS #8 PEM.
Result<std::string> generate_key();

// A self-signed root: CN "swarm-ca".
Result<CertificateAndKey> create_root(WallTime now, Duration validity = kRootValidity);

// A root of somebody else's and its key, after every check: one certificate, of a CA that may sign
// and has a key identifier, self-signed, valid at `now`, its key strong enough, and the private key
// belonging to it. INVALID_ARGUMENT with the check that failed.
Result<CertificateAndKey> import_root(std::string_view certificate_pem, std::string_view key_pem,
                                      WallTime now);

// The name and the key of `new_root_pem` in a certificate signed by `old_root`: behind a node's
// certificate of the new root, it makes that one good for those who trust the old root alone. Ends
// when the first of the two does.
Result<std::string> cross_sign(std::string_view new_root_pem, const CertificateAndKey& old_root,
                               WallTime now);

// A PKCS #10 request for the key's public half. The subject is empty: the signer decides it.
Result<std::string> create_signing_request(std::string_view key_pem);

// SHA-256 over the public key of a signing request, 32 bytes: the same for every request with this
// key. INVALID_ARGUMENT when it is none, is not signed by its own key, or has a weak one.
Result<std::string> signing_request_digest(std::string_view request_pem);

// Signs a request after checking that its sender holds the key. The subject and the names (node
// id, OU, and "swarm-ca" for managers) come from `identity`, nothing from the request. A client's
// is of no use to a server. `validity`
// counts from `now`; it is cut to the root's own end. UNAUTHENTICATED when the root has ended.
Result<std::string> sign_request(const CertificateAndKey& root, std::string_view request_pem,
                                 const CertificateIdentity& identity, WallTime now,
                                 Duration validity);

// ------------------------------------------------------------ reading and judging

// Reads a certificate without judging it. INVALID_ARGUMENT when it is none or lacks a role.
Result<CertificateFacts> read_certificate(std::string_view certificate_pem);

// The identity in a subject as RFC 2253 writes it, "CN=<node>,OU=swarm-manager,O=<cluster>": what
// TLS says about a verified peer. Strict: these three, in this order, without escapes.
Result<CertificateIdentity> parse_subject(std::string_view rfc2253);

// Checks that the certificate is for this key. UNAUTHENTICATED otherwise.
Status check_key(std::string_view certificate_pem, std::string_view key_pem);

// Checks that `certificate_pem`, by the intermediates behind it, is vouched for by one of the roots
// in `trust_pem`, valid at `now`, and belongs to `key_pem` (skipped when empty). UNAUTHENTICATED
// otherwise, saying which check failed; reason "certificate-expired" or "clock-skew" (not valid
// yet) where it is a matter of time.
Status check_certificate(std::string_view certificate_pem, std::string_view trust_pem,
                         std::string_view key_pem, WallTime now);

// Who vouches for the certificate: found among `trust_pem` and the intermediates behind it,
// whatever the time. UNAUTHENTICATED when nobody does.
Result<CertificateIssuer> read_issuer(std::string_view certificate_pem, std::string_view trust_pem);
// What read_issuer() tells of certificates that this one signs.
Result<CertificateIssuer> issuer_of_root(std::string_view root_pem);

// SHA-256 over the DER form, as 50 characters of base 36: the root's digest in join tokens.
Result<std::string> certificate_digest(std::string_view certificate_pem);

// The texts of all certificates in `pem`, each by itself.
Result<std::vector<std::string>> split_bundle(std::string_view pem);
// One text with each certificate once, in the order of first mention.
Result<std::string> make_bundle(const std::vector<std::string_view>& pems);

}  // namespace muster::security
