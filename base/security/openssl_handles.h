#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/time.h"

// OpenSSL's objects with owners. For the .cc files of this room only.
namespace muster::security::ssl {

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
// Borrows its members.
struct FreeStack {
  void operator()(STACK_OF(X509) * stack) const { sk_X509_free(stack); }
};
using BorrowedStack = std::unique_ptr<STACK_OF(X509), FreeStack>;

// The first queued error of OpenSSL, in words; empties the queue. Never contains key material.
Status openssl_error(std::string_view what);

Bio memory_bio(std::string_view text);
std::string text_of(BIO* bio);

// INVALID_ARGUMENT when it is none, or one that needs a passphrase.
Result<Key> parse_key(std::string_view pem);
// The first one of the text.
Result<Certificate> parse_certificate(std::string_view pem);
// All of them; at least one, at most 100.
Result<std::vector<Certificate>> parse_certificates(std::string_view pem);
Result<std::string> to_pem(X509* certificate);

WallTime wall_time(const ASN1_TIME* t);

// OK when the key is one that may sign or identify: ECDSA on P-256, P-384 or P-521, or RSA with
// 2048 bits at least. INVALID_ARGUMENT with what it is instead.
Status check_key_strength(EVP_PKEY* key);

}  // namespace muster::security::ssl
