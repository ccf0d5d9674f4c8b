#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace muster::security {

// What wraps the managers' keys on disk under autolock: 32 random bytes, for people
// `SWMKEY-1-<43 characters of base64 without padding>`, as Swarm's.
//
// The bytes are wiped on destruction.
class UnlockKey {
 public:
  static constexpr size_t kBytes = 32;

  static UnlockKey generate();
  // UNAUTHENTICATED "swarm could not be unlocked: invalid key provided" for anything else than what
  // str() gives. The error never repeats the text.
  static Result<UnlockKey> parse(std::string_view text);

  UnlockKey(const UnlockKey&) = default;
  UnlockKey& operator=(const UnlockKey&) = default;
  ~UnlockKey();

  std::string str() const;
  std::string_view bytes() const { return bytes_; }
  // In constant time.
  friend bool operator==(const UnlockKey& a, const UnlockKey& b);

 private:
  explicit UnlockKey(std::string bytes) : bytes_(std::move(bytes)) {}
  std::string bytes_;
};

// What a wrong key is answered with.
Status wrong_unlock_key();

}  // namespace muster::security
