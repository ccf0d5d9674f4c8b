#pragma once

#include <openssl/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace muster::security {

// AES-256-GCM with a random 96-bit nonce for every message (NIST SP 800-38D, 8.2.2). One key may
// seal 2^32 messages at most; the owner of a key counts and rotates.
//
// Thread-safe after creation. The key is wiped on destruction.
class Aead {
 public:
  static constexpr size_t kKeyBytes = 32;
  static constexpr size_t kNonceBytes = 12;
  static constexpr size_t kTagBytes = 16;
  static constexpr size_t kOverheadBytes = kNonceBytes + kTagBytes;

  // INVALID_ARGUMENT when the key is not kKeyBytes long.
  static Result<Aead> create(std::string_view key);
  Aead(Aead&&) noexcept;
  Aead& operator=(Aead&&) noexcept;
  ~Aead();

  // nonce | ciphertext | tag. `aad` is authenticated, not stored: open() needs the same.
  Result<std::string> seal(std::string_view plain, std::string_view aad) const;
  // The same under a nonce of the caller's: for known vectors only.
  Result<std::string> seal_with_nonce(std::string_view plain, std::string_view aad,
                                      std::string_view nonce) const;
  // DATA_LOSS when the bytes are not what seal() made with this key and `aad`.
  Result<std::string> open(std::string_view sealed, std::string_view aad) const;

  // A fresh key from the kernel's random numbers.
  static std::string random_key();

 private:
  struct FreeCipher {
    void operator()(EVP_CIPHER* cipher) const;
  };
  Aead() = default;

  std::array<unsigned char, kKeyBytes> key_{};
  // Fetched once: an implicit fetch for every message costs more than a short message's encryption.
  std::unique_ptr<EVP_CIPHER, FreeCipher> cipher_;
};

}  // namespace muster::security
