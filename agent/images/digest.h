#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace muster::agent {

// SHA-256 of bytes that come piece by piece.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  ~Sha256();

  void update(const void* data, size_t size);
  // "sha256:<64 hex digits>"; the object is spent.
  std::string finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

// "sha256:..." of the text, or of a file's content.
std::string digest_of(std::string_view text);
Result<std::string> digest_of_file(const std::filesystem::path& path);

// The 64 hex digits after "sha256:".
std::string hex_of(std::string_view digest);

}  // namespace muster::agent
