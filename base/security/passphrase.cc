#include "base/security/passphrase.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "base/check.h"
#include "base/security/aead.h"

namespace muster::security {
namespace {

constexpr uint8_t kLog2N = 15;
constexpr uint8_t kR = 8;
constexpr uint8_t kP = 1;
constexpr uint64_t kMemoryMax = uint64_t{1} << 30;

uint64_t memory_of(const PassphraseParameters& parameters) {
  return (uint64_t{128} * parameters.r << parameters.log2_n) +
         uint64_t{128} * parameters.r * parameters.p;
}

}  // namespace

PassphraseParameters PassphraseParameters::fresh() {
  PassphraseParameters out{kLog2N, kR, kP, std::string(kSaltBytes, '\0')};
  MUSTER_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(out.salt.data()), kSaltBytes) == 1);
  return out;
}

std::string PassphraseParameters::encode() const {
  std::string out;
  for (const uint8_t value : {log2_n, r, p}) out += static_cast<char>(value);
  return out + salt;
}

Result<PassphraseParameters> PassphraseParameters::decode(std::string_view bytes) {
  if (bytes.size() != kBytes) return fail(invalid_argument("no parameters of a passphrase"));
  PassphraseParameters out;
  out.log2_n = static_cast<uint8_t>(bytes[0]);
  out.r = static_cast<uint8_t>(bytes[1]);
  out.p = static_cast<uint8_t>(bytes[2]);
  out.salt = bytes.substr(3);
  if (out.log2_n < 1 || out.log2_n > 24 || out.r == 0 || out.r > 32 || out.p == 0 || out.p > 16 ||
      memory_of(out) > kMemoryMax) {
    return fail(invalid_argument("no parameters of a passphrase"));
  }
  return out;
}

Result<std::string> key_of_passphrase(std::string_view passphrase,
                                      const PassphraseParameters& parameters) {
  std::string key(Aead::kKeyBytes, '\0');
  // Room for what OpenSSL needs beside the table itself.
  const uint64_t memory = memory_of(parameters) + (uint64_t{1} << 20);
  if (EVP_PBE_scrypt(passphrase.data(), passphrase.size(),
                     reinterpret_cast<const unsigned char*>(parameters.salt.data()),
                     parameters.salt.size(), uint64_t{1} << parameters.log2_n, parameters.r,
                     parameters.p, memory, reinterpret_cast<unsigned char*>(key.data()),
                     key.size()) != 1) {
    return fail(internal_error("no key could be made of the passphrase"));
  }
  return key;
}

}  // namespace muster::security
