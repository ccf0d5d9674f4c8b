#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <optional>

#include "base/security/base36.h"
#include "base/security/openssl_handles.h"
#include "base/security/x509.h"

// Reading and judging what x509.cc makes.
namespace muster::security {
namespace {

using namespace ssl;  // NOLINT: this file is about nothing else

std::string subject_entry(X509* certificate, int nid) {
  X509_NAME* name = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(name, nid, -1);
  if (at < 0) return {};
  const ASN1_STRING* data = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
  return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(data)),
                     static_cast<size_t>(ASN1_STRING_length(data)));
}

Result<CertificateRole> role_of_unit(std::string_view unit) {
  for (const auto role :
       {CertificateRole::kManager, CertificateRole::kWorker, CertificateRole::kClient}) {
    if (unit == organizational_unit(role)) return role;
  }
  return fail(invalid_argument("the certificate has no role (OU \"{}\")", unit));
}

// The first certificate of `chain` with all the rest behind it, against the roots.
struct Verification {
  TrustStore trust{X509_STORE_new()};
  BorrowedStack untrusted{sk_X509_new_null()};
  TrustContext context{X509_STORE_CTX_new()};

  Verification(const std::vector<Certificate>& chain, const std::vector<Certificate>& roots) {
    for (const Certificate& root : roots) X509_STORE_add_cert(trust.get(), root.get());
    for (size_t i = 1; i < chain.size(); ++i) sk_X509_push(untrusted.get(), chain[i].get());
    X509_STORE_CTX_init(context.get(), trust.get(), chain[0].get(), untrusted.get());
    ERR_clear_error();
  }
  bool run() {
    const bool good = X509_verify_cert(context.get()) == 1;
    ERR_clear_error();
    return good;
  }
};

Status bad_certificate(X509_STORE_CTX* context, WallTime now) {
  const int error = X509_STORE_CTX_get_error(context);
  X509* at = X509_STORE_CTX_get_current_cert(context);
  const bool leaf = X509_STORE_CTX_get_error_depth(context) == 0;
  const std::string_view whose = leaf ? "certificate" : "issuer's certificate";
  if (error == X509_V_ERR_CERT_HAS_EXPIRED && at != nullptr) {
    return Status(StatusCode::kUnauthenticated,
                  fmt::format("the {} expired at {}", whose,
                              format_rfc3339(wall_time(X509_get0_notAfter(at)))),
                  "certificate-expired");
  }
  if (error == X509_V_ERR_CERT_NOT_YET_VALID && at != nullptr) {
    return Status(
        StatusCode::kUnauthenticated,
        fmt::format("the {} is valid from {} on, and it is {} here: the clocks of this "
                    "host and of its managers differ",
                    whose, format_rfc3339(wall_time(X509_get0_notBefore(at))), format_rfc3339(now)),
        "clock-skew");
  }
  return Status(StatusCode::kUnauthenticated,
                fmt::format("bad certificate: {}", X509_verify_cert_error_string(error)));
}

std::string der_of_name(X509_NAME* name) {
  unsigned char* der = nullptr;
  const int size = i2d_X509_NAME(name, &der);
  std::string out(reinterpret_cast<const char*>(der), static_cast<size_t>(std::max(size, 0)));
  OPENSSL_free(der);
  return out;
}

CertificateIssuer issuer_from(X509* certificate) {
  CertificateIssuer issuer;
  issuer.subject_der = der_of_name(X509_get_subject_name(certificate));
  unsigned char* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
  issuer.public_key_der.assign(reinterpret_cast<const char*>(der),
                               static_cast<size_t>(std::max(size, 0)));
  OPENSSL_free(der);
  return issuer;
}

// Removes "NAME=value" and the comma behind it from the front of `text`.
std::optional<std::string> take_part(std::string_view& text, std::string_view name, bool last) {
  if (!text.starts_with(name) || text.size() <= name.size() || text[name.size()] != '=') {
    return std::nullopt;
  }
  text.remove_prefix(name.size() + 1);
  const size_t end = std::min(text.find(','), text.size());
  const std::string value(text.substr(0, end));
  if (value.empty() || (end == text.size()) != last ||
      value.find_first_of("\\+\"=<>;# ") != std::string::npos) {
    return std::nullopt;
  }
  text.remove_prefix(last ? end : end + 1);
  return value;
}

}  // namespace

std::string_view organizational_unit(CertificateRole role) {
  switch (role) {
    case CertificateRole::kWorker: return "swarm-worker";
    case CertificateRole::kManager: return "swarm-manager";
    case CertificateRole::kClient: return "swarm-client";
  }
  return "";
}

Result<CertificateFacts> read_certificate(std::string_view certificate_pem) {
  MUSTER_ASSIGN(const Certificate certificate, parse_certificate(certificate_pem));
  CertificateFacts facts;
  facts.identity.node_id = subject_entry(certificate.get(), NID_commonName);
  facts.identity.cluster_id = subject_entry(certificate.get(), NID_organizationName);
  MUSTER_ASSIGN(facts.identity.role,
                role_of_unit(subject_entry(certificate.get(), NID_organizationalUnitName)));
  facts.not_before = wall_time(X509_get0_notBefore(certificate.get()));
  facts.not_after = wall_time(X509_get0_notAfter(certificate.get()));
  return facts;
}

Result<CertificateIdentity> parse_subject(std::string_view rfc2253) {
  CertificateIdentity identity;
  const auto node = take_part(rfc2253, "CN", false);
  const auto unit = node ? take_part(rfc2253, "OU", false) : std::nullopt;
  const auto cluster = unit ? take_part(rfc2253, "O", true) : std::nullopt;
  if (!cluster) return fail(invalid_argument("the certificate's subject is not a node's"));
  identity.node_id = *node;
  identity.cluster_id = *cluster;
  MUSTER_ASSIGN(identity.role, role_of_unit(*unit));
  return identity;
}

Status check_key(std::string_view certificate_pem, std::string_view key_pem) {
  MUSTER_ASSIGN(const Certificate certificate, parse_certificate(certificate_pem));
  MUSTER_ASSIGN(const Key key, parse_key(key_pem));
  if (X509_check_private_key(certificate.get(), key.get()) == 1) return ok_status();
  ERR_clear_error();
  return Status(StatusCode::kUnauthenticated, "the certificate does not belong to the key");
}

Status check_certificate(std::string_view certificate_pem, std::string_view trust_pem,
                         std::string_view key_pem, WallTime now) {
  MUSTER_ASSIGN(const auto chain, parse_certificates(certificate_pem));
  MUSTER_ASSIGN(const auto roots, parse_certificates(trust_pem));
  if (!key_pem.empty()) MUSTER_TRY(check_key(certificate_pem, key_pem));
  Verification verification(chain, roots);
  X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(verification.context.get()),
                             static_cast<time_t>(now.unix_ns / 1'000'000'000));
  if (verification.run()) return ok_status();
  return bad_certificate(verification.context.get(), now);
}

Result<CertificateIssuer> read_issuer(std::string_view certificate_pem,
                                      std::string_view trust_pem) {
  MUSTER_ASSIGN(const auto chain, parse_certificates(certificate_pem));
  MUSTER_ASSIGN(const auto roots, parse_certificates(trust_pem));
  Verification verification(chain, roots);
  X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(verification.context.get()),
                              X509_V_FLAG_NO_CHECK_TIME);
  if (!verification.run()) return fail(bad_certificate(verification.context.get(), {}));
  STACK_OF(X509)* verified = X509_STORE_CTX_get0_chain(verification.context.get());
  return issuer_from(sk_X509_value(verified, sk_X509_num(verified) > 1 ? 1 : 0));
}

Result<CertificateIssuer> issuer_of_root(std::string_view root_pem) {
  MUSTER_ASSIGN(const Certificate root, parse_certificate(root_pem));
  return issuer_from(root.get());
}

Result<std::string> certificate_digest(std::string_view certificate_pem) {
  MUSTER_ASSIGN(const Certificate certificate, parse_certificate(certificate_pem));
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  unsigned int size = 0;
  if (X509_digest(certificate.get(), EVP_sha256(), digest.data(), &size) != 1) {
    return fail(openssl_error("cannot digest a certificate"));
  }
  return base36({reinterpret_cast<const char*>(digest.data()), size}, 50);
}

Result<std::vector<std::string>> split_bundle(std::string_view pem) {
  MUSTER_ASSIGN(const auto certificates, parse_certificates(pem));
  std::vector<std::string> out;
  for (const Certificate& certificate : certificates) {
    MUSTER_ASSIGN(std::string text, to_pem(certificate.get()));
    out.push_back(std::move(text));
  }
  return out;
}

Result<std::string> make_bundle(const std::vector<std::string_view>& pems) {
  std::vector<std::string> seen;
  for (const std::string_view pem : pems) {
    MUSTER_ASSIGN(const auto texts, split_bundle(pem));
    for (const std::string& text : texts) {
      if (std::find(seen.begin(), seen.end(), text) == seen.end()) seen.push_back(text);
    }
  }
  std::string bundle;
  for (const std::string& text : seen) bundle += text;
  return bundle;
}

}  // namespace muster::security
