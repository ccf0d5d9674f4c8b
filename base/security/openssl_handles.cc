#include "base/security/openssl_handles.h"

#include <algorithm>
#include <ctime>

namespace muster::security::ssl {
namespace {

constexpr size_t kCertificatesMax = 100;

// Instead of OpenSSL's own, which would ask for a passphrase at the terminal.
int no_passphrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

}  // namespace

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
  bool encrypted = false;
  Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, &encrypted));
  ERR_clear_error();
  if (encrypted) return fail(invalid_argument("the private key is encrypted with a passphrase"));
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

Result<std::vector<Certificate>> parse_certificates(std::string_view pem) {
  const Bio bio = memory_bio(pem);
  std::vector<Certificate> certificates;
  for (;;) {
    Certificate next(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    if (!next) break;
    if (certificates.size() == kCertificatesMax) {
      ERR_clear_error();
      return fail(invalid_argument("more than {} certificates", kCertificatesMax));
    }
    certificates.push_back(std::move(next));
  }
  // The end of the text is the one error that is none.
  const unsigned long error = ERR_peek_last_error();
  ERR_clear_error();
  const bool at_end =
      ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
  if (certificates.empty() || !at_end) return fail(invalid_argument("not a PEM certificate"));
  return certificates;
}

Result<std::string> to_pem(X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(bio.get(), certificate) != 1) {
    return fail(openssl_error("cannot write a certificate"));
  }
  return text_of(bio.get());
}

WallTime wall_time(const ASN1_TIME* t) {
  std::tm tm{};
  ASN1_TIME_to_tm(t, &tm);
  // Years that nanoseconds since 1970 cannot tell (a certificate "without end" has 9999).
  constexpr int64_t kSecondsMax = 9'000'000'000;
  const int64_t seconds = std::clamp<int64_t>(timegm(&tm), -kSecondsMax, kSecondsMax);
  return {seconds * 1'000'000'000};
}

Status check_key_strength(EVP_PKEY* key) {
  switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_EC: {
      char group[64] = "";
      EVP_PKEY_get_group_name(key, group, sizeof group, nullptr);
      const std::string_view name(group);
      if (name == "prime256v1" || name == "P-256" || name == "secp384r1" || name == "P-384" ||
          name == "secp521r1" || name == "P-521") {
        return ok_status();
      }
      return invalid_argument("the key is on the curve {}; P-256, P-384 or P-521 is needed",
                              name.empty() ? "?" : name);
    }
    case EVP_PKEY_RSA: {
      const int bits = EVP_PKEY_get_bits(key);
      if (bits >= 2048) return ok_status();
      return invalid_argument("the key is too weak: RSA with {} bits; 2048 are the least", bits);
    }
    default: return invalid_argument("the key is neither ECDSA (P-256, P-384, P-521) nor RSA");
  }
}

}  // namespace muster::security::ssl
