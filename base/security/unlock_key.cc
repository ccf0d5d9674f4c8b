#include "base/security/unlock_key.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/security/aead.h"

namespace muster::security {
namespace {

constexpr std::string_view kPrefix = "SWMKEY-1-";
constexpr size_t kDigits = 43;  // of base64 for 32 bytes, without the padding

}  // namespace

UnlockKey UnlockKey::generate() {
  static_assert(kBytes == Aead::kKeyBytes);
  return UnlockKey(Aead::random_key());
}

UnlockKey::~UnlockKey() {
  OPENSSL_cleanse(bytes_.data(), bytes_.size());
}

std::string UnlockKey::str() const {
  unsigned char text[kDigits + 2];  // with padding and a zero behind
  EVP_EncodeBlock(text, reinterpret_cast<const unsigned char*>(bytes_.data()), kBytes);
  return std::string(kPrefix) + std::string(reinterpret_cast<const char*>(text), kDigits);
}

Result<UnlockKey> UnlockKey::parse(std::string_view text) {
  if (text.size() != kPrefix.size() + kDigits || !text.starts_with(kPrefix)) {
    return fail(wrong_unlock_key());
  }
  const std::string padded = std::string(text.substr(kPrefix.size())) + "=";
  unsigned char bytes[kBytes + 1];  // the padding decodes to a byte more
  if (EVP_DecodeBlock(bytes, reinterpret_cast<const unsigned char*>(padded.data()),
                      static_cast<int>(padded.size())) != static_cast<int>(sizeof bytes)) {
    return fail(wrong_unlock_key());
  }
  UnlockKey key(std::string(reinterpret_cast<const char*>(bytes), kBytes));
  OPENSSL_cleanse(bytes, sizeof bytes);
  // One key has one text: no white space, no padding inside, no bits beyond the last byte.
  if (key.str() != text) return fail(wrong_unlock_key());
  return key;
}

bool operator==(const UnlockKey& a, const UnlockKey& b) {
  return CRYPTO_memcmp(a.bytes_.data(), b.bytes_.data(), UnlockKey::kBytes) == 0;
}

Status wrong_unlock_key() {
  return Status(StatusCode::kUnauthenticated, "swarm could not be unlocked: invalid key provided",
                "wrong-unlock-key");
}

}  // namespace muster::security
