#pragma once

#include <string>

#include "base/file.h"
#include "base/status.h"

// Files that a user names: relative to the directory the command was given in.
namespace muster::deploy::cli {

inline std::string absolute_path(const std::string& path, const std::string& current_dir) {
  return path.starts_with('/') ? path : current_dir + "/" + path;
}

inline Result<std::string> read_pem(const std::string& file, const std::string& current_dir) {
  constexpr size_t kPemBytesMax = 1 << 20;
  return read_file(absolute_path(file, current_dir), kPemBytesMax);
}

}  // namespace muster::deploy::cli
