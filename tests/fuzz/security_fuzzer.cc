// Any bytes as what users and strangers hand over: join tokens, unlock keys, wrapped keys, signing
// requests, certificates and bundles of them, subjects.

#include <cstdint>
#include <string>
#include <string_view>

#include "base/security/join_token.h"
#include "base/security/key_wrap.h"
#include "base/security/unlock_key.h"
#include "base/security/x509.h"

namespace {

using namespace muster;            // NOLINT: a program of one file
using namespace muster::security;  // NOLINT

constexpr WallTime kNow{1'790'000'000'000'000'000};

const CertificateAndKey& root() {
  static const CertificateAndKey made = *create_root(kNow);
  return made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // What parses has one form only.
  if (const auto token = parse_join_token(text); token && token->str() != text) __builtin_trap();
  if (const auto key = UnlockKey::parse(text); key && key->str() != text) __builtin_trap();
  static const UnlockKey unlock = UnlockKey::generate();
  if (unwrap_key(text, unlock, "fuzz")) __builtin_trap();  // nobody wrapped it
  const std::string wrapped = wrap_key(text, unlock, "fuzz");
  const auto unwrapped = unwrap_key(wrapped, unlock, "fuzz");
  if (!unwrapped || *unwrapped != text) __builtin_trap();

  if (const auto identity = parse_subject(text)) {
    const std::string again = "CN=" + identity->node_id +
                              ",OU=" + std::string(organizational_unit(identity->role)) +
                              ",O=" + identity->cluster_id;
    if (again != text) __builtin_trap();
  }
  if (const auto bundle = make_bundle({text})) {
    if (!split_bundle(*bundle)) __builtin_trap();
    (void)certificate_digest(text);
    (void)issuer_of_root(text);
    (void)read_certificate(text);
  }
  // Nothing that was not signed by the root is good.
  if (check_certificate(text, root().certificate_pem, {}, kNow).ok() &&
      text.find("BEGIN CERTIFICATE") == std::string_view::npos) {
    __builtin_trap();
  }
  (void)read_issuer(text, root().certificate_pem);
  (void)import_root(text, text, kNow);
  if (signing_request_digest(text)) {
    if (!sign_request(root(), text, {"n", CertificateRole::kWorker, "c"}, kNow, 1h)) {
      __builtin_trap();
    }
  }
  return 0;
}
