#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/runtime/runtime.h"
#include "base/status.h"

namespace muster::agent {

// What to run images for; the names are Go's, as images use them.
struct Platform {
  std::string os = "linux";
  std::string architecture;  // "amd64", "arm64"
  std::string variant;       // "v7", or empty

  std::string to_string() const;
};
Platform host_platform();

struct Descriptor {
  std::string media_type;
  std::string digest;
  uint64_t size_bytes = 0;
};

// An image manifest: OCI, or Docker's schema 2. Everything in it is checked for form only.
struct Manifest {
  std::string media_type;
  Descriptor config;
  std::vector<Descriptor> layers;  // lowest first

  bool is_docker() const;
  uint64_t bytes_total() const;
};

// What a configuration says, as far as it matters for storing and running.
struct ParsedConfig {
  ImageConfig run;
  Platform platform;
  int64_t created_at_ns = 0;
  std::vector<std::string> diff_ids;  // lowest first
};

// The manifest's or index's own media type; for bytes without the field, judged by its members.
Result<std::string> media_type_of(std::string_view raw);
bool is_index(std::string_view media_type);

// DATA_LOSS for what is not a manifest, UNIMPLEMENTED for schema 1 and artefacts that are no
// images.
Result<Manifest> parse_manifest(std::string_view raw);

// The entry of a multi-platform index that suits `platform`. NOT_FOUND "no matching manifest for
// linux/arm64 in the manifest list entries".
Result<Descriptor> choose_platform(std::string_view raw_index, const Platform& platform);

Result<ParsedConfig> parse_config(std::string_view raw);

// The platforms an index, or one image, is built for, as placement compares them: each once,
// "unknown/unknown" (attestations) left out, and 32-bit ARM without its architecture, since images
// and hosts name its variants too differently to compare. Empty: nothing is said.
Result<std::vector<v1::Platform>> platforms_of_index(std::string_view raw_index);
std::vector<v1::Platform> platforms_of_image(const Platform& platform);

}  // namespace muster::agent
