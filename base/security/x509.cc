#include "base/security/x509.h"

#include <openssl/ec.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>

#include "base/security/openssl_handles.h"

// Making: keys, roots, requests, certificates. x509_check.cc reads and judges them.
namespace muster::security {
namespace {

using namespace ssl;  // NOLINT: this file is about nothing else

bool add_name(X509_NAME* name, const char* field, std::string_view value) {
  return X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8,
                                    reinterpret_cast<const unsigned char*>(value.data()),
                                    static_cast<int>(value.size()), -1, 0) == 1;
}

bool add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

bool set_random_serial(X509* certificate) {
  std::array<unsigned char, 16> bytes{};
  if (RAND_bytes(bytes.data(), bytes.size()) != 1) return false;
  bytes[0] &= 0x7f;  // RFC 5280 4.1.2.2: positive, at most 20 octets
  bytes[15] |= 1;
  BIGNUM* number = BN_bin2bn(bytes.data(), bytes.size(), nullptr);
  const bool done = number != nullptr &&
                    BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != nullptr;
  BN_free(number);
  return done;
}

bool set_validity(X509* certificate, WallTime from, WallTime to) {
  const auto seconds = [](WallTime t) { return static_cast<time_t>(t.unix_ns / 1'000'000'000); };
  return ASN1_TIME_set(X509_getm_notBefore(certificate), seconds(from)) != nullptr &&
         ASN1_TIME_set(X509_getm_notAfter(certificate), seconds(to)) != nullptr;
}

Result<std::string> key_to_pem(EVP_PKEY* key) {
  const Bio bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return fail(openssl_error("cannot write a key"));
  }
  return text_of(bio.get());
}

// Copies the extension, or computes it where the certificate to copy from has none.
bool copy_key_identifier(X509* to, X509* from) {
  const int at = X509_get_ext_by_NID(from, NID_subject_key_identifier, -1);
  if (at < 0) return add_extension(to, from, NID_subject_key_identifier, "hash");
  return X509_add_ext(to, X509_get_ext(from, at), -1) == 1;
}

// The hash that suits the signing key; SHA-256 for all that is accepted here.
bool sign(X509* certificate, EVP_PKEY* key) {
  return X509_sign(certificate, key, EVP_sha256()) != 0;
}

Result<Request> parse_request(std::string_view pem) {
  const Bio bio = memory_bio(pem);
  Request request(PEM_read_bio_X509_REQ(bio.get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  if (!request) return fail(invalid_argument("not a PEM certificate request"));
  EVP_PKEY* key = X509_REQ_get0_pubkey(request.get());
  if (key == nullptr || X509_REQ_verify(request.get(), key) != 1) {
    ERR_clear_error();
    return fail(invalid_argument("the certificate request is not signed by its own key"));
  }
  MUSTER_TRY(check_key_strength(key).with_context("certificate request"));
  return request;
}

}  // namespace

Result<std::string> generate_key() {
  const Key key(EVP_EC_gen("P-256"));
  if (!key) return fail(openssl_error("cannot generate a key"));
  return key_to_pem(key.get());
}

Result<CertificateAndKey> create_root(WallTime now, Duration validity) {
  CertificateAndKey root;
  MUSTER_ASSIGN(root.key_pem, generate_key());
  MUSTER_ASSIGN(const Key key, parse_key(root.key_pem));
  const Certificate certificate(X509_new());
  X509* c = certificate.get();
  X509_NAME* name = X509_get_subject_name(c);
  const bool built = X509_set_version(c, 2) == 1 && set_random_serial(c) &&
                     set_validity(c, now - kBackdate, now + validity) &&
                     add_name(name, "CN", "swarm-ca") && X509_set_issuer_name(c, name) == 1 &&
                     X509_set_pubkey(c, key.get()) == 1 &&
                     add_extension(c, c, NID_basic_constraints, "critical,CA:TRUE") &&
                     add_extension(c, c, NID_key_usage, "critical,keyCertSign,cRLSign") &&
                     add_extension(c, c, NID_subject_key_identifier, "hash") && sign(c, key.get());
  if (!built) return fail(openssl_error("cannot make a root certificate"));
  MUSTER_ASSIGN(root.certificate_pem, to_pem(c));
  return root;
}

Result<CertificateAndKey> import_root(std::string_view certificate_pem, std::string_view key_pem,
                                      WallTime now) {
  const auto bad = [](std::string what) {
    return fail(invalid_argument("the root certificate {}", what));
  };
  MUSTER_ASSIGN(const auto certificates, parse_certificates(certificate_pem));
  if (certificates.size() != 1) {
    return bad(fmt::format("file holds {} certificates: give the root alone", certificates.size()));
  }
  X509* root = certificates[0].get();
  EVP_PKEY* public_key = X509_get0_pubkey(root);
  if (public_key == nullptr) return bad("has no usable public key");
  // First: to OpenSSL one that may not sign is none of a CA either.
  if ((X509_get_key_usage(root) & KU_KEY_CERT_SIGN) == 0) {
    return bad("may not sign certificates (its key usage lacks keyCertSign)");
  }
  if (X509_check_ca(root) != 1) return bad("is not one of a CA (basic constraints CA:TRUE)");
  if (X509_get_pathlen(root) == 0) {
    return bad("has a path length of 0, which leaves no room to rotate it");
  }
  // RFC 5280 4.2.1.2. Without it two roots of one name could not be told apart during a rotation.
  if (X509_get0_subject_key_id(root) == nullptr) return bad("has no subject key identifier");
  if (X509_check_issued(root, root) != X509_V_OK || X509_verify(root, public_key) != 1) {
    ERR_clear_error();
    return bad("is not self-signed: give the root itself, not an intermediate");
  }
  MUSTER_TRY(check_key_strength(public_key).with_context("the root certificate"));
  const WallTime from = wall_time(X509_get0_notBefore(root));
  const WallTime to = wall_time(X509_get0_notAfter(root));
  if (now < from) return bad("is not valid before " + format_rfc3339(from));
  if (now >= to) return bad("expired at " + format_rfc3339(to));
  MUSTER_ASSIGN(const Key key, parse_key(key_pem));
  if (X509_check_private_key(root, key.get()) != 1) {
    ERR_clear_error();
    return fail(invalid_argument("the key does not belong to the root certificate"));
  }
  CertificateAndKey imported;
  MUSTER_ASSIGN(imported.certificate_pem, to_pem(root));
  MUSTER_ASSIGN(imported.key_pem, key_to_pem(key.get()));
  return imported;
}

Result<std::string> cross_sign(std::string_view new_root_pem, const CertificateAndKey& old_root,
                               WallTime now) {
  MUSTER_ASSIGN(const Certificate fresh, parse_certificate(new_root_pem));
  MUSTER_ASSIGN(const Certificate old, parse_certificate(old_root.certificate_pem));
  MUSTER_ASSIGN(const Key old_key, parse_key(old_root.key_pem));
  const WallTime end = std::min(wall_time(X509_get0_notAfter(fresh.get())),
                                wall_time(X509_get0_notAfter(old.get())));
  const Certificate certificate(X509_new());
  X509* c = certificate.get();
  const bool built = X509_set_version(c, 2) == 1 && set_random_serial(c) &&
                     set_validity(c, now - kBackdate, end) &&
                     X509_set_subject_name(c, X509_get_subject_name(fresh.get())) == 1 &&
                     X509_set_issuer_name(c, X509_get_subject_name(old.get())) == 1 &&
                     X509_set_pubkey(c, X509_get0_pubkey(fresh.get())) == 1 &&
                     add_extension(c, old.get(), NID_basic_constraints, "critical,CA:TRUE") &&
                     add_extension(c, old.get(), NID_key_usage, "critical,keyCertSign,cRLSign") &&
                     copy_key_identifier(c, fresh.get()) &&
                     add_extension(c, old.get(), NID_authority_key_identifier, "keyid") &&
                     sign(c, old_key.get());
  if (!built) return fail(openssl_error("cannot cross-sign the new root"));
  return to_pem(c);
}

Result<std::string> create_signing_request(std::string_view key_pem) {
  MUSTER_ASSIGN(const Key key, parse_key(key_pem));
  const Request request(X509_REQ_new());
  if (X509_REQ_set_version(request.get(), 0) != 1 ||
      X509_REQ_set_pubkey(request.get(), key.get()) != 1 ||
      X509_REQ_sign(request.get(), key.get(), EVP_sha256()) == 0) {
    return fail(openssl_error("cannot make a certificate request"));
  }
  const Bio bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509_REQ(bio.get(), request.get()) != 1) {
    return fail(openssl_error("cannot write a certificate request"));
  }
  return text_of(bio.get());
}

Result<std::string> signing_request_digest(std::string_view request_pem) {
  MUSTER_ASSIGN(const Request request, parse_request(request_pem));
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  unsigned int size = 0;
  unsigned char* der = nullptr;
  const int length = i2d_PUBKEY(X509_REQ_get0_pubkey(request.get()), &der);
  const bool done = length > 0 && EVP_Digest(der, static_cast<size_t>(length), digest.data(), &size,
                                             EVP_sha256(), nullptr) == 1;
  OPENSSL_free(der);
  if (!done) return fail(openssl_error("cannot digest a certificate request"));
  return std::string(reinterpret_cast<const char*>(digest.data()), size);
}

Result<std::string> sign_request(const CertificateAndKey& root, std::string_view request_pem,
                                 const CertificateIdentity& identity, WallTime now,
                                 Duration validity) {
  MUSTER_ASSIGN(const Certificate issuer, parse_certificate(root.certificate_pem));
  MUSTER_ASSIGN(const Key root_key, parse_key(root.key_pem));
  MUSTER_ASSIGN(const Request request, parse_request(request_pem));
  EVP_PKEY* public_key = X509_REQ_get0_pubkey(request.get());
  WallTime not_after = now + validity;
  const WallTime root_end = wall_time(X509_get0_notAfter(issuer.get()));
  if (root_end <= now) {
    return fail(StatusCode::kUnauthenticated,
                fmt::format("the swarm's root certificate expired at {}", format_rfc3339(root_end)),
                "certificate-expired");
  }
  if (not_after > root_end) not_after = root_end;
  const std::string unit(organizational_unit(identity.role));
  std::string names = "DNS:" + unit + ",DNS:" + identity.node_id;
  if (identity.role == CertificateRole::kManager) names += ",DNS:swarm-ca";
  const std::string usage =
      identity.role == CertificateRole::kClient ? "clientAuth" : "serverAuth,clientAuth";

  const Certificate certificate(X509_new());
  X509* c = certificate.get();
  X509_NAME* name = X509_get_subject_name(c);
  const bool built =
      X509_set_version(c, 2) == 1 && set_random_serial(c) &&
      set_validity(c, now - kBackdate, not_after) && add_name(name, "O", identity.cluster_id) &&
      add_name(name, "OU", unit) && add_name(name, "CN", identity.node_id) &&
      X509_set_issuer_name(c, X509_get_subject_name(issuer.get())) == 1 &&
      X509_set_pubkey(c, public_key) == 1 &&
      add_extension(c, issuer.get(), NID_basic_constraints, "critical,CA:FALSE") &&
      add_extension(c, issuer.get(), NID_key_usage, "critical,digitalSignature,keyEncipherment") &&
      add_extension(c, issuer.get(), NID_ext_key_usage, usage.c_str()) &&
      add_extension(c, issuer.get(), NID_subject_key_identifier, "hash") &&
      add_extension(c, issuer.get(), NID_authority_key_identifier, "keyid") &&
      add_extension(c, issuer.get(), NID_subject_alt_name, names) && sign(c, root_key.get());
  if (!built) return fail(openssl_error("cannot sign the certificate request"));
  return to_pem(c);
}

}  // namespace muster::security
