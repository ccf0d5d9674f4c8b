#include "base/security/join_token.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>

#include "base/security/base36.h"
#include "base/security/x509.h"

namespace muster::security {
namespace {

constexpr std::string_view kPrefix = "SWMTKN-1-";
constexpr size_t kDigestDigits = 50;
constexpr size_t kSecretDigits = 25;

bool is_base36(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z'); });
}

}  // namespace

std::string JoinToken::str() const {
  return std::string(kPrefix) + root_digest + "-" + secret;
}

Result<JoinToken> create_join_token(std::string_view root_certificate_pem) {
  JoinToken token;
  MUSTER_ASSIGN(token.root_digest, certificate_digest(root_certificate_pem));
  char bytes[16];
  if (RAND_bytes(reinterpret_cast<unsigned char*>(bytes), sizeof bytes) != 1) {
    return fail(internal_error("no random bytes for a join token"));
  }
  token.secret = base36({bytes, sizeof bytes}, kSecretDigits);
  return token;
}

Result<JoinToken> parse_join_token(std::string_view text) {
  const auto bad = [] { return fail(invalid_argument("invalid join token")); };
  if (!text.starts_with(kPrefix)) return bad();
  text.remove_prefix(kPrefix.size());
  if (text.size() != kDigestDigits + 1 + kSecretDigits || text[kDigestDigits] != '-') return bad();
  const std::string_view digest = text.substr(0, kDigestDigits);
  const std::string_view secret = text.substr(kDigestDigits + 1);
  if (!is_base36(digest) || !is_base36(secret)) return bad();
  return JoinToken{std::string(digest), std::string(secret)};
}

bool same_secret(const JoinToken& a, const JoinToken& b) {
  return a.secret.size() == b.secret.size() &&
         CRYPTO_memcmp(a.secret.data(), b.secret.data(), a.secret.size()) == 0;
}

}  // namespace muster::security
