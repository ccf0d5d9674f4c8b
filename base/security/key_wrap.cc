#include "base/security/key_wrap.h"

#include <openssl/evp.h>

#include "base/check.h"
#include "base/security/aead.h"

namespace muster::security {
namespace {

constexpr std::string_view kHead = "muster wrapped key 1\n";

std::string aad_of(std::string_view purpose) {
  return std::string(kHead) + std::string(purpose);
}

}  // namespace

std::string wrap_key(std::string_view key, const UnlockKey& with, std::string_view purpose) {
  const auto aead = Aead::create(with.bytes());
  MUSTER_CHECK(aead.has_value(), "an unlock key has the length of a key");
  const auto sealed = aead->seal(key, aad_of(purpose));
  MUSTER_CHECK(sealed.has_value(), "AES-256-GCM failed");
  std::string text(4 * ((sealed->size() + 2) / 3) + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                   reinterpret_cast<const unsigned char*>(sealed->data()),
                                   static_cast<int>(sealed->size()));
  text.resize(static_cast<size_t>(size));
  return std::string(kHead) + text + "\n";
}

Result<std::string> unwrap_key(std::string_view wrapped, const UnlockKey& with,
                               std::string_view purpose) {
  const auto bad = [] { return fail(invalid_argument("not a wrapped key")); };
  if (!is_wrapped(wrapped) || !wrapped.ends_with('\n')) return bad();
  const std::string_view text = wrapped.substr(kHead.size(), wrapped.size() - kHead.size() - 1);
  if (text.empty() || text.size() % 4 != 0 || text.size() > (1 << 20)) return bad();
  std::string sealed(text.size() / 4 * 3, '\0');
  if (EVP_DecodeBlock(reinterpret_cast<unsigned char*>(sealed.data()),
                      reinterpret_cast<const unsigned char*>(text.data()),
                      static_cast<int>(text.size())) < 0) {
    return bad();
  }
  // What is padding became zero bytes.
  sealed.resize(sealed.size() - (text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0));
  const auto aead = Aead::create(with.bytes());
  MUSTER_CHECK(aead.has_value(), "an unlock key has the length of a key");
  auto key = aead->open(sealed, aad_of(purpose));
  if (!key) return fail(wrong_unlock_key());
  return std::move(*key);
}

bool is_wrapped(std::string_view text) {
  return text.starts_with(kHead);
}

Status swarm_locked() {
  return Status(StatusCode::kUnavailable,
                "Swarm is encrypted and needs to be unlocked before it can be used. Please use "
                "\"muster swarm unlock\" to unlock it",
                "locked");
}

}  // namespace muster::security
