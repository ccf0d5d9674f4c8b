#include "agent/worker/disk_files.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "base/remove_tree.h"

namespace muster::agent {

namespace fs = std::filesystem;

Status DiskFiles::make_directory(const std::string& path, unsigned mode) {
  return muster::make_directory(path, mode);
}

Status DiskFiles::write(const std::string& path, std::string_view text, unsigned mode,
                        Durability durability) {
  return write_file_atomic(path, text, mode, durability);
}

Result<std::string> DiskFiles::read(const std::string& path, size_t bytes_max) {
  return read_file(path, bytes_max);
}

bool DiskFiles::exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

Result<std::vector<std::string>> DiskFiles::list(const std::string& directory) {
  std::vector<std::string> out;
  std::error_code error;
  fs::directory_iterator at(directory, error);
  if (error == std::errc::no_such_file_or_directory) return out;
  for (const fs::directory_iterator end; !error && at != end; at.increment(error)) {
    out.push_back(at->path().filename().string());
  }
  if (error) return fail(errno_status(error.value(), directory));
  std::sort(out.begin(), out.end());
  return out;
}

void DiskFiles::remove_temporaries(const std::string& directory) {
  muster::remove_temporaries(directory);
}

Status DiskFiles::rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return errno_status(errno, from);
  return {};
}

Status DiskFiles::remove(const std::string& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  return remove_tree(path);
}

}  // namespace muster::agent
