#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>

#include "base/unique_fd.h"

namespace muster {
namespace {

constexpr std::string_view kTemporary = ".tmp";

bool is_temporary(const std::string& name) {
  const size_t at = name.rfind(kTemporary);
  if (at == std::string::npos || at + kTemporary.size() == name.size()) return false;
  return name.find_first_not_of("0123456789", at + kTemporary.size()) == std::string::npos;
}

}  // namespace

Result<std::string> read_file(const std::filesystem::path& path, size_t bytes_max) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail(errno_status(errno, fmt::format("cannot open {}", path.string())));
  std::string data;
  char buffer[65536];
  while (true) {
    const ssize_t n = read(fd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(errno_status(errno, fmt::format("cannot read {}", path.string())));
    if (n == 0) return data;
    if (data.size() + static_cast<size_t>(n) > bytes_max) {
      return fail(resource_exhausted("{} is larger than {} bytes", path.string(), bytes_max));
    }
    data.append(buffer, static_cast<size_t>(n));
  }
}

Status write_file_atomic(const std::filesystem::path& path, std::string_view data, unsigned mode,
                         Durability durability) {
  // Named after the writer, so two processes never share one; a left-over is overwritten.
  const std::string temporary = fmt::format("{}{}{}", path.string(), kTemporary, gettid());
  const auto give_up = [&](std::string_view what) {
    const int error = errno;
    unlink(temporary.c_str());
    return errno_status(error, fmt::format("cannot {} {}", what, path.string()));
  };
  UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!fd) return give_up("create");
  while (!data.empty()) {
    const ssize_t n = write(fd.get(), data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return give_up("write");
    data.remove_prefix(static_cast<size_t>(n));
  }
  if (fchmod(fd.get(), mode) != 0) return give_up("set the mode of");
  if (durability == Durability::kFsync && fsync(fd.get()) != 0) return give_up("sync");
  if (close(fd.release()) != 0) return give_up("write");
  if (rename(temporary.c_str(), path.c_str()) != 0) return give_up("replace");
  return durability == Durability::kFsync ? sync_directory(path.parent_path()) : ok_status();
}

void remove_temporaries(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::directory_iterator at(directory, error);
  for (const std::filesystem::directory_iterator end; !error && at != end; at.increment(error)) {
    if (is_temporary(at->path().filename().string())) unlink(at->path().c_str());
  }
}

Status make_directory(const std::filesystem::path& path, unsigned mode) {
  std::error_code error;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  if (error) return errno_status(error.value(), fmt::format("cannot create {}", path.string()));
  if (mkdir(path.c_str(), mode) != 0 && errno != EEXIST) {
    return errno_status(errno, fmt::format("cannot create {}", path.string()));
  }
  return ok_status();
}

Status sync_directory(const std::filesystem::path& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || fsync(fd.get()) != 0) {
    return errno_status(errno, fmt::format("cannot sync {}", path.string()));
  }
  return ok_status();
}

}  // namespace muster
