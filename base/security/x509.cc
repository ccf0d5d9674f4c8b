#include "base/security/x509.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <array>
#include <memory>

#include "base/security/base36.h"

namespace muster::security {
namespace {

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* p) const {
    Free(p);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Deleter<X509_free>>;
using Request = std::unique_ptr<X509_REQ, Deleter<X509_REQ_free>>;
using Bio = std::unique_ptr<BIO, Deleter<BIO_free_all>>;
using Extension = std::unique_ptr<X509_EXTENSION, Deleter<X509_EXTENSION_free>>;
using TrustStore = std::unique_ptr<X509_STORE, Deleter<X509_STORE_free>>;
using TrustContext = std::unique_ptr<X509_STORE_CTX, Deleter<X509_STORE_CTX_free>>;

constexpr Duration kBackdate = 1h;
constexpr Duration kRootValidity = 24h * 365 * 20;

// The first queued error of OpenSSL, in words; empties the queue. Never contains key material.
Status openssl_error(std::string_view what) {
  char text[256] = "unknown error";
  const unsigned long code = ERR_get_error();
  if (code != 0) ERR_error_string_n(code, text, sizeof text);
  ERR_clear_error();
  return internal_error("{}: {}", what, text);
}

Bio memory_bio(std::string_view text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

std::string text_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(size));
}

Result<Key> parse_key(std::string_view pem) {
  const Bio bio = memory_bio(pem);
  Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  if (!key) return fail(invalid_argument("not a PEM private key"));
  return key;
}

Result<Certificate> parse_certificate(std::string_view pem) {
  const Bio bio = memory_bio(pem);
  Certificate certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  if (!certificate) return fail(invalid_argument("not a PEM certificate"));
  return certificate;
}

Result<std::string> to_pem(X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(bio.get(), certificate) != 1) {
    return fail(openssl_error("cannot write a certificate"));
  }
  return text_of(bio.get());
}

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

WallTime wall_time(const ASN1_TIME* t) {
  std::tm tm{};
  ASN1_TIME_to_tm(t, &tm);
  return {static_cast<int64_t>(timegm(&tm)) * 1'000'000'000};
}

std::string subject_entry(X509* certificate, int nid) {
  X509_NAME* name = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(name, nid, -1);
  if (at < 0) return {};
  const ASN1_STRING* data = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
  return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(data)),
                     static_cast<size_t>(ASN1_STRING_length(data)));
}

}  // namespace

std::string_view organizational_unit(CertificateRole role) {
  switch (role) {
    case CertificateRole::kWorker: return "swarm-worker";
    case CertificateRole::kManager: return "swarm-manager";
  }
  return "";
}

Result<std::string> generate_key() {
  const Key key(EVP_EC_gen("P-256"));
  if (!key) return fail(openssl_error("cannot generate a key"));
  const Bio bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_PKCS8PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) !=
      1) {
    return fail(openssl_error("cannot write a key"));
  }
  return text_of(bio.get());
}

Result<CertificateAndKey> create_root(WallTime now) {
  CertificateAndKey root;
  MUSTER_ASSIGN(root.key_pem, generate_key());
  MUSTER_ASSIGN(const Key key, parse_key(root.key_pem));
  const Certificate certificate(X509_new());
  X509* c = certificate.get();
  X509_NAME* name = X509_get_subject_name(c);
  const bool built = X509_set_version(c, 2) == 1 && set_random_serial(c) &&
                     set_validity(c, now - kBackdate, now + kRootValidity) &&
                     add_name(name, "CN", "swarm-ca") && X509_set_issuer_name(c, name) == 1 &&
                     X509_set_pubkey(c, key.get()) == 1 &&
                     add_extension(c, c, NID_basic_constraints, "critical,CA:TRUE") &&
                     add_extension(c, c, NID_key_usage, "critical,keyCertSign,cRLSign") &&
                     add_extension(c, c, NID_subject_key_identifier, "hash") &&
                     X509_sign(c, key.get(), EVP_sha256()) != 0;
  if (!built) return fail(openssl_error("cannot make a root certificate"));
  MUSTER_ASSIGN(root.certificate_pem, to_pem(c));
  return root;
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

Result<std::string> sign_request(const CertificateAndKey& root, std::string_view request_pem,
                                 const CertificateIdentity& identity, WallTime now,
                                 Duration validity) {
  MUSTER_ASSIGN(const Certificate issuer, parse_certificate(root.certificate_pem));
  MUSTER_ASSIGN(const Key root_key, parse_key(root.key_pem));
  const Bio bio = memory_bio(request_pem);
  const Request request(PEM_read_bio_X509_REQ(bio.get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  if (!request) return fail(invalid_argument("not a PEM certificate request"));
  EVP_PKEY* public_key = X509_REQ_get0_pubkey(request.get());
  if (public_key == nullptr || X509_REQ_verify(request.get(), public_key) != 1) {
    ERR_clear_error();
    return fail(invalid_argument("the certificate request is not signed by its own key"));
  }

  WallTime not_after = now + validity;
  const WallTime root_end = wall_time(X509_get0_notAfter(issuer.get()));
  if (not_after > root_end) not_after = root_end;
  const std::string unit(organizational_unit(identity.role));
  std::string names = "DNS:" + unit + ",DNS:" + identity.node_id;
  if (identity.role == CertificateRole::kManager) names += ",DNS:swarm-ca";

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
      add_extension(c, issuer.get(), NID_ext_key_usage, "serverAuth,clientAuth") &&
      add_extension(c, issuer.get(), NID_subject_key_identifier, "hash") &&
      add_extension(c, issuer.get(), NID_authority_key_identifier, "keyid") &&
      add_extension(c, issuer.get(), NID_subject_alt_name, names) &&
      X509_sign(c, root_key.get(), EVP_sha256()) != 0;
  if (!built) return fail(openssl_error("cannot sign the certificate request"));
  return to_pem(c);
}

Result<CertificateFacts> read_certificate(std::string_view certificate_pem) {
  MUSTER_ASSIGN(const Certificate certificate, parse_certificate(certificate_pem));
  CertificateFacts facts;
  facts.identity.node_id = subject_entry(certificate.get(), NID_commonName);
  facts.identity.cluster_id = subject_entry(certificate.get(), NID_organizationName);
  const std::string unit = subject_entry(certificate.get(), NID_organizationalUnitName);
  if (unit == organizational_unit(CertificateRole::kManager)) {
    facts.identity.role = CertificateRole::kManager;
  } else if (unit == organizational_unit(CertificateRole::kWorker)) {
    facts.identity.role = CertificateRole::kWorker;
  } else {
    return fail(invalid_argument("the certificate has no role (OU \"{}\")", unit));
  }
  facts.not_before = wall_time(X509_get0_notBefore(certificate.get()));
  facts.not_after = wall_time(X509_get0_notAfter(certificate.get()));
  return facts;
}

Status check_certificate(std::string_view certificate_pem, std::string_view root_pem,
                         std::string_view key_pem, WallTime now) {
  MUSTER_ASSIGN(const Certificate certificate, parse_certificate(certificate_pem));
  MUSTER_ASSIGN(const Certificate root, parse_certificate(root_pem));
  if (!key_pem.empty()) {
    MUSTER_ASSIGN(const Key key, parse_key(key_pem));
    if (X509_check_private_key(certificate.get(), key.get()) != 1) {
      ERR_clear_error();
      return Status(StatusCode::kUnauthenticated, "the certificate does not belong to the key");
    }
  }
  const TrustStore trust(X509_STORE_new());
  X509_STORE_add_cert(trust.get(), root.get());
  const TrustContext context(X509_STORE_CTX_new());
  X509_STORE_CTX_init(context.get(), trust.get(), certificate.get(), nullptr);
  X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(context.get()),
                             static_cast<time_t>(now.unix_ns / 1'000'000'000));
  if (X509_verify_cert(context.get()) != 1) {
    const char* why = X509_verify_cert_error_string(X509_STORE_CTX_get_error(context.get()));
    ERR_clear_error();
    return Status(StatusCode::kUnauthenticated, fmt::format("bad certificate: {}", why));
  }
  return ok_status();
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

}  // namespace muster::security
