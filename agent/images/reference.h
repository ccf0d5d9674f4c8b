#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace muster::agent {

// An image's name taken apart: "[registry/]repository[:tag][@digest]". The grammar is that of the
// distribution project's reference documentation; short names mean docker.io, and one-part names
// there mean docker.io/library.
struct ImageReference {
  std::string registry;    // "docker.io", "127.0.0.1:5000"
  std::string repository;  // "library/busybox"
  std::string tag;         // "latest" when neither tag nor digest was given; else may be empty
  std::string digest;      // "sha256:..." or empty

  // "docker.io/library/busybox": the registry and the repository.
  std::string name() const;
  // The whole in full: "docker.io/library/busybox:1.36@sha256:...".
  std::string full() const;
  // name() with the tag: the key under which a pulled tag is remembered.
  std::string tagged() const;
  // As a user writes and reads it: "busybox:1.36", "127.0.0.1:5000/web@sha256:...".
  std::string familiar() const;
  std::string familiar_name() const;
};

// INVALID_ARGUMENT "invalid reference format: ..." with the rule that was broken.
Result<ImageReference> parse_reference(std::string_view text);

// Whether this is "sha256:" and 64 lower-case hex digits.
bool is_digest(std::string_view text);
// Whether this is 4 to 64 lower-case hex digits: an image id or the beginning of one.
bool looks_like_id(std::string_view text);

}  // namespace muster::agent
