#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace muster::security {

// How a key comes from a passphrase: scrypt (RFC 7914), made slow on purpose, with a salt of its
// own for every use.
struct PassphraseParameters {
  static constexpr size_t kSaltBytes = 16;
  static constexpr size_t kBytes = 3 + kSaltBytes;  // encoded

  uint8_t log2_n = 0;
  uint8_t r = 0;
  uint8_t p = 0;
  std::string salt;

  // 32 MiB of memory and about a tenth of a second, with fresh random bytes.
  static PassphraseParameters fresh();
  std::string encode() const;
  // INVALID_ARGUMENT when it is none, or would take more than 1 GiB.
  static Result<PassphraseParameters> decode(std::string_view bytes);
};

// 32 bytes.
Result<std::string> key_of_passphrase(std::string_view passphrase,
                                      const PassphraseParameters& parameters);

}  // namespace muster::security
