#include "agent/secrets/memory_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>

#include "base/file.h"
#include "base/unique_fd.h"

namespace muster::agent {
namespace {

namespace fs = std::filesystem;

constexpr unsigned long kMountFlags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME;
constexpr size_t kPage = 4096;

bool is_mount_point(const std::string& path) {
  struct stat self {};
  struct stat up {};
  return ::stat(path.c_str(), &self) == 0 && ::stat((path + "/..").c_str(), &up) == 0 &&
         self.st_dev != up.st_dev;
}

// /proc/swaps has a line of headers, then one for each area.
bool host_swaps() {
  const auto text = read_file("/proc/swaps", 1 << 20);
  return text && std::count(text->begin(), text->end(), '\n') > 1;
}

Status mount_memory(const std::string& path, size_t bytes, size_t files) {
  const std::string limits =
      fmt::format("mode=0700,size={},nr_inodes={}", bytes + 16 * kPage, files + 16);
  if (::mount("tmpfs", path.c_str(), "tmpfs", kMountFlags, (limits + ",noswap").c_str()) == 0) {
    return {};
  }
  if (errno != EINVAL) return errno_status(errno, "mounting a tmpfs for secrets");
  // A kernel that does not know noswap.
  const bool ramfs = host_swaps();
  const char* type = ramfs ? "ramfs" : "tmpfs";
  if (::mount(type, path.c_str(), type, kMountFlags, ramfs ? "mode=0700" : limits.c_str()) == 0) {
    return {};
  }
  return errno_status(errno, fmt::format("mounting a {} for secrets", type));
}

Status write_all(int fd, const std::string& data, const std::string& path) {
  size_t done = 0;
  while (done < data.size()) {
    const ssize_t n = ::write(fd, data.data() + done, data.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return errno_status(n == 0 ? ENOSPC : errno, path);
    done += static_cast<size_t>(n);
  }
  return {};
}

Status write_one(const std::string& path, const MemoryFile& file) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) return errno_status(errno, path);
  MUSTER_TRY(write_all(fd.get(), file.data, path));
  // The owner first: a change of it takes away set-id bits.
  if (::fchown(fd.get(), file.uid, file.gid) != 0 || ::fchmod(fd.get(), file.mode & 07777) != 0) {
    return errno_status(errno, path);
  }
  return {};
}

// Whoever still holds the file finds zeros, then nothing.
Status wipe(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat about {};
  if (fd && ::fstat(fd.get(), &about) == 0 && S_ISREG(about.st_mode)) {
    static constexpr std::array<char, 64 * 1024> kZeros{};
    for (off_t at = 0; at < about.st_size;) {
      const auto rest = static_cast<size_t>(about.st_size - at);
      const ssize_t n = ::pwrite(fd.get(), kZeros.data(), std::min(rest, kZeros.size()), at);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      at += n;
    }
    (void)!::ftruncate(fd.get(), 0);
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return errno_status(errno, path);
  return {};
}

void keep_first(Status& first, Status next) {
  if (first.ok()) first = std::move(next);
}

}  // namespace

Result<std::vector<std::string>> MemoryFiles::write(const std::string& container_id,
                                                    const std::vector<MemoryFile>& files) {
  MUSTER_TRY(remove(container_id));
  std::vector<std::string> paths;
  if (files.empty()) return paths;
  size_t bytes = 0;
  for (const MemoryFile& file : files) bytes += (file.data.size() + kPage - 1) / kPage * kPage;
  if (bytes > kContainerBytesMax) {
    return fail(resource_exhausted(
        "the secrets and configs of one container have {} bytes together; the limit is {}", bytes,
        kContainerBytesMax));
  }
  const std::string directory = path(container_id);
  MUSTER_TRY(make_directory(directory_, 0700));
  MUSTER_TRY(make_directory(directory, 0700));
  // Never on a disk, wherever the run directory may be.
  MUSTER_TRY(mount_memory(directory, bytes, files.size()));
  for (const MemoryFile& file : files) {
    paths.push_back(fmt::format("{}/{}", directory, paths.size()));
    MUSTER_TRY(write_one(paths.back(), file));
  }
  return paths;
}

Status MemoryFiles::remove(const std::string& container_id) {
  const std::string directory = path(container_id);
  Status first;
  // A crash between the mounting and the writing, or two of them, leave less or more than one.
  while (is_mount_point(directory)) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(directory, error)) {
      keep_first(first, wipe(entry.path()));
    }
    if (::umount2(directory.c_str(), MNT_DETACH) != 0) {
      keep_first(first, errno_status(errno, "unmounting " + directory));
      return first;
    }
  }
  if (::rmdir(directory.c_str()) != 0 && errno != ENOENT) {
    keep_first(first, errno_status(errno, directory));
  }
  return first;
}

std::vector<std::string> MemoryFiles::list() {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory_, error)) {
    out.push_back(entry.path().filename().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace muster::agent
