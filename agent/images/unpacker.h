#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace muster::agent {

// What one layer may cost. Exceeding a limit is RESOURCE_EXHAUSTED, naming the limit.
struct UnpackLimits {
  uint64_t bytes_max = uint64_t{64} << 30;  // unpacked, counting holes
  uint64_t entries_max = 2'000'000;
  uint64_t xattr_bytes_max = uint64_t{16} << 20;
  size_t path_bytes_max = 4096;
  size_t depth_max = 256;
  // Uncompressed to compressed bytes; judged only beyond `ratio_floor_bytes`.
  uint64_t ratio_max = 1000;
  uint64_t ratio_floor_bytes = uint64_t{256} << 20;
};

// Whether to give files their owners and make devices; without (tests, fuzzing) both are left out.
enum class Ownership { kKeep, kIgnore };

// How a layer marks deletions: overlay turns AUFS-style .wh. files of OCI layers into overlayfs's
// own form; none takes all names as they are (plain archives).
enum class Whiteouts { kOverlay, kNone };

struct UnpackOptions {
  UnpackLimits limits;
  Ownership ownership = Ownership::kKeep;
  Whiteouts whiteouts = Whiteouts::kOverlay;
  std::function<void(uint64_t bytes_read)> progress;  // compressed bytes so far; may be empty
  const std::atomic<bool>* cancelled = nullptr;       // may be null
};

struct UnpackSummary {
  std::string diff_id;  // sha256 of the uncompressed archive
  uint64_t bytes = 0;   // of file content
  uint64_t entries = 0;
};

// Unpacks a tar archive (plain, gzip or zstd) into the empty directory `target`, safely: see
// LayerTree for what is refused. After a failure `target` holds a part, for the caller to delete.
// DATA_LOSS for a damaged, truncated or malicious archive; RESOURCE_EXHAUSTED for limits and a full
// disk.
Result<UnpackSummary> unpack_layer(const std::filesystem::path& archive,
                                   const std::filesystem::path& target,
                                   const UnpackOptions& options);
// The same from memory; what the fuzzer drives.
Result<UnpackSummary> unpack_layer_bytes(std::string_view archive,
                                         const std::filesystem::path& target,
                                         const UnpackOptions& options);

}  // namespace muster::agent
