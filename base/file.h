#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/status.h"

namespace muster {

// The whole file, up to `bytes_max`; RESOURCE_EXHAUSTED when it is longer.
Result<std::string> read_file(const std::filesystem::path& path, size_t bytes_max = 64 << 20);

enum class Durability { kFsync, kNone };

// Writes a temporary file beside `path` and renames it over: a reader, or a crash, sees the old
// text or the new one. With kFsync the new one has reached the disk on return, the rename included.
Status write_file_atomic(const std::filesystem::path& path, std::string_view data, unsigned mode,
                         Durability durability);

// Deletes what killed writers of write_file_atomic left in `directory`. No writer may be at work.
void remove_temporaries(const std::filesystem::path& directory);

// Makes the directory and its parents with the mode (parents 0755). OK when it exists.
Status make_directory(const std::filesystem::path& path, unsigned mode);

// fsync(2) on a directory, so that renames and removals in it survive a power cut.
Status sync_directory(const std::filesystem::path& path);

}  // namespace muster
