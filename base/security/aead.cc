#include "base/security/aead.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/random.h>

#include <climits>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace muster::security {
namespace {

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

const unsigned char* bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}
unsigned char* bytes(std::string& text, size_t at) {
  return reinterpret_cast<unsigned char*>(text.data() + at);
}

void fill_random(void* out, size_t size) {
  MUSTER_CHECK(getrandom(out, size, 0) == static_cast<ssize_t>(size), "no random numbers");
}

}  // namespace

void Aead::FreeCipher::operator()(EVP_CIPHER* cipher) const {
  EVP_CIPHER_free(cipher);
}

Aead::Aead(Aead&& other) noexcept : key_(other.key_), cipher_(std::move(other.cipher_)) {
  OPENSSL_cleanse(other.key_.data(), other.key_.size());
}
Aead& Aead::operator=(Aead&& other) noexcept {
  if (this != &other) {
    key_ = other.key_;
    OPENSSL_cleanse(other.key_.data(), other.key_.size());
    cipher_ = std::move(other.cipher_);
  }
  return *this;
}
Aead::~Aead() {
  OPENSSL_cleanse(key_.data(), key_.size());
}

Result<Aead> Aead::create(std::string_view key) {
  if (key.size() != kKeyBytes) {
    return fail(invalid_argument("an encryption key has {} bytes, not {}", kKeyBytes, key.size()));
  }
  Aead aead;
  std::memcpy(aead.key_.data(), key.data(), kKeyBytes);
  aead.cipher_.reset(EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr));
  if (aead.cipher_ == nullptr) return fail(internal_error("OpenSSL has no AES-256-GCM"));
  return aead;
}

std::string Aead::random_key() {
  std::string key(kKeyBytes, '\0');
  fill_random(key.data(), key.size());
  return key;
}

Result<std::string> Aead::seal(std::string_view plain, std::string_view aad) const {
  char nonce[kNonceBytes];
  fill_random(nonce, sizeof nonce);
  return seal_with_nonce(plain, aad, {nonce, sizeof nonce});
}

Result<std::string> Aead::seal_with_nonce(std::string_view plain, std::string_view aad,
                                          std::string_view nonce) const {
  if (nonce.size() != kNonceBytes || plain.size() > INT_MAX || aad.size() > INT_MAX) {
    return fail(invalid_argument("wrong sizes for encryption"));
  }
  const Context context(EVP_CIPHER_CTX_new());
  std::string out(nonce);
  out.resize(kNonceBytes + plain.size() + kTagBytes);
  int written = 0;
  int rest = 0;
  const bool ok =
      context != nullptr &&
      EVP_EncryptInit_ex2(context.get(), cipher_.get(), key_.data(), bytes(nonce), nullptr) == 1 &&
      EVP_EncryptUpdate(context.get(), nullptr, &rest, bytes(aad), static_cast<int>(aad.size())) ==
          1 &&
      EVP_EncryptUpdate(context.get(), bytes(out, kNonceBytes), &written, bytes(plain),
                        static_cast<int>(plain.size())) == 1 &&
      EVP_EncryptFinal_ex(context.get(), bytes(out, kNonceBytes + plain.size()), &rest) == 1 &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes,
                          bytes(out, kNonceBytes + plain.size())) == 1;
  if (!ok) return fail(internal_error("encryption failed"));
  return out;
}

Result<std::string> Aead::open(std::string_view sealed, std::string_view aad) const {
  if (sealed.size() < kOverheadBytes || sealed.size() > INT_MAX || aad.size() > INT_MAX) {
    return fail(data_loss("an encrypted record of {} bytes is no record", sealed.size()));
  }
  const std::string_view nonce = sealed.substr(0, kNonceBytes);
  const std::string_view cipher_text = sealed.substr(kNonceBytes, sealed.size() - kOverheadBytes);
  std::string tag(sealed.substr(sealed.size() - kTagBytes));
  const Context context(EVP_CIPHER_CTX_new());
  // One byte more: OpenSSL wants a buffer even for an empty text.
  std::string out(cipher_text.size() + 1, '\0');
  int written = 0;
  int rest = 0;
  const bool ok =
      context != nullptr &&
      EVP_DecryptInit_ex2(context.get(), cipher_.get(), key_.data(), bytes(nonce), nullptr) == 1 &&
      EVP_DecryptUpdate(context.get(), nullptr, &rest, bytes(aad), static_cast<int>(aad.size())) ==
          1 &&
      EVP_DecryptUpdate(context.get(), bytes(out, 0), &written, bytes(cipher_text),
                        static_cast<int>(cipher_text.size())) == 1 &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, tag.data()) == 1 &&
      EVP_DecryptFinal_ex(context.get(), bytes(out, cipher_text.size()), &rest) == 1;
  if (!ok) {
    return fail(data_loss("an encrypted record is damaged or was made with another key"));
  }
  out.resize(cipher_text.size());
  return out;
}

}  // namespace muster::security
