#include "agent/volumes/copy_up.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace muster::agent {
namespace {

// Under this name a file grows until it is complete. No image has a file of this name.
constexpr const char* kUnfinished = ".muster-volume-copy~";
// Two descriptors a level.
constexpr int kDepthMax = 500;

Result<std::vector<std::string>> names_in(int directory) {
  // A descriptor of its own: fdopendir takes it, and reading moves the shared offset.
  UniqueFd own(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!own) return fail(errno_status(errno, "cannot open a directory"));
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(own.get()), &::closedir);
  if (!stream) return fail(errno_status(errno, "cannot read a directory"));
  own.release();
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) return fail(errno_status(errno, "cannot read a directory"));
  return names;
}

// Attributes that mean something on another file system: not overlayfs's own, nor labels that
// the host's policy gives.
bool is_copied_attribute(std::string_view name) {
  return name.rfind("user.", 0) == 0 || name == "security.capability" ||
         name.rfind("system.posix_acl_", 0) == 0;
}

Status copy_attributes(int source, int target) {
  std::string names(65536, '\0');
  const ssize_t length = ::flistxattr(source, names.data(), names.size());
  if (length < 0) return errno == ENOTSUP ? Status() : errno_status(errno, "reading attributes");
  std::string value(65536, '\0');
  for (const char* name = names.data(); name < names.data() + length;
       name += std::string_view(name).size() + 1) {
    if (!is_copied_attribute(name)) continue;
    const ssize_t size = ::fgetxattr(source, name, value.data(), value.size());
    if (size < 0) return errno_status(errno, name);
    if (::fsetxattr(target, name, value.data(), static_cast<size_t>(size), 0) == 0) continue;
    // A file system without attributes (NFS, or tmpfs for user.*) holds the rest all the same.
    if (errno != ENOTSUP) return errno_status(errno, name);
  }
  return {};
}

// Owner first, since a change of owner clears the set-user-id bits and capabilities.
Status copy_metadata(int source, const struct stat& info, int target) {
  if (::fchown(target, info.st_uid, info.st_gid) != 0) return errno_status(errno, "owner");
  if (::fchmod(target, info.st_mode & 07777) != 0) return errno_status(errno, "mode");
  MUSTER_TRY(copy_attributes(source, target));
  const timespec times[2] = {info.st_atim, info.st_mtim};
  if (::futimens(target, times) != 0) return errno_status(errno, "times");
  return {};
}

Status copy_bytes(int source, int target) {
  while (true) {
    const ssize_t n = ::copy_file_range(source, nullptr, target, nullptr, 64 << 20, 0);
    if (n == 0) return {};
    if (n > 0) continue;
    if (errno == EINTR) continue;
    if (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP) break;
    return errno_status(errno, "copying");
  }
  // Both offsets are where copy_file_range stopped.
  std::vector<char> buffer(256 << 10);
  while (true) {
    const ssize_t n = ::read(source, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_status(errno, "reading");
    if (n == 0) return {};
    for (ssize_t done = 0; done < n;) {
      const ssize_t wrote = ::write(target, buffer.data() + done, static_cast<size_t>(n - done));
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) return errno_status(errno, "writing");
      done += wrote;
    }
  }
}

// One copy of one tree. Paths are relative to the two tops and serve messages and hard links.
class Copier {
 public:
  explicit Copier(int target_top) : target_top_(target_top) {}

  uint64_t copied() const { return copied_; }

  Status directory(int source, int target, const std::string& path, int depth) {
    if (depth > kDepthMax) return invalid_argument("{}: more than {} levels", path, kDepthMax);
    MUSTER_ASSIGN(const std::vector<std::string> names, names_in(source));
    for (const std::string& name : names) {
      const std::string below = path.empty() ? name : path + "/" + name;
      const Status status = entry(source, target, name, below, depth);
      if (!status.ok()) return depth == 0 ? status.with_context(below) : status;
    }
    struct stat info {};
    if (::fstat(source, &info) != 0) return errno_status(errno, path);
    return copy_metadata(source, info, target);
  }

 private:
  Status entry(int source, int target, const std::string& name, const std::string& path,
               int depth) {
    struct stat info {};
    if (::fstatat(source, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      return errno_status(errno, "cannot look at it");
    }
    if (S_ISDIR(info.st_mode)) return subdirectory(source, target, name, path, depth);
    struct stat present {};
    if (::fstatat(target, name.c_str(), &present, AT_SYMLINK_NOFOLLOW) == 0) return {};
    if (info.st_nlink > 1) {
      const auto [known, first] = links_.emplace(std::pair(info.st_dev, info.st_ino), path);
      if (!first && link(known->second, target, name)) {
        ++copied_;
        return {};
      }
    }
    switch (info.st_mode & S_IFMT) {
      case S_IFREG: MUSTER_TRY(file(source, target, name)); break;
      case S_IFLNK: MUSTER_TRY(symlink(source, target, name, info)); break;
      case S_IFIFO:
      case S_IFCHR:
      case S_IFBLK: MUSTER_TRY(node(target, name, info)); break;
      default: return {};  // a socket is nothing without the process that made it
    }
    ++copied_;
    return {};
  }

  // False when the first one is not there any more: then the file is copied again.
  bool link(const std::string& first, int target, const std::string& name) const {
    open_how how{};
    how.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
    const UniqueFd found(
        static_cast<int>(::syscall(SYS_openat2, target_top_, first.c_str(), &how, sizeof how)));
    if (!found) return false;
    // The descriptor itself is linked, whatever its path leads to by now.
    return ::linkat(found.get(), "", target, name.c_str(), AT_EMPTY_PATH) == 0;
  }

  Status subdirectory(int source, int target, const std::string& name, const std::string& path,
                      int depth) {
    constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    const UniqueFd from(::openat(source, name.c_str(), kFlags));
    if (!from) return errno_status(errno, "cannot open");
    if (::mkdirat(target, name.c_str(), 0700) == 0) {
      ++copied_;
    } else if (errno != EEXIST) {
      return errno_status(errno, "cannot create");
    }
    const UniqueFd to(::openat(target, name.c_str(), kFlags));
    if (!to) {
      // Something else has the name already: it stays.
      if (errno == ENOTDIR || errno == ELOOP) return {};
      return errno_status(errno, "cannot open the copy");
    }
    return directory(from.get(), to.get(), path, depth + 1);
  }

  static Status file(int source, int target, const std::string& name) {
    const UniqueFd from(
        ::openat(source, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!from) return errno_status(errno, "cannot open");
    struct stat info {};
    if (::fstat(from.get(), &info) != 0) return errno_status(errno, "cannot look at it");
    ::unlinkat(target, kUnfinished, 0);
    const UniqueFd to(::openat(target, kUnfinished, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!to) return errno_status(errno, "cannot create");
    Status status = copy_bytes(from.get(), to.get());
    if (status.ok()) status = copy_metadata(from.get(), info, to.get());
    if (status.ok() && ::renameat(target, kUnfinished, target, name.c_str()) != 0) {
      status = errno_status(errno, "cannot rename");
    }
    if (!status.ok()) ::unlinkat(target, kUnfinished, 0);
    return status;
  }

  static Status symlink(int source, int target, const std::string& name, const struct stat& info) {
    std::string text(4096, '\0');
    const ssize_t length = ::readlinkat(source, name.c_str(), text.data(), text.size());
    if (length < 0) return errno_status(errno, "cannot read the link");
    text.resize(static_cast<size_t>(length));
    if (::symlinkat(text.c_str(), target, name.c_str()) != 0) {
      return errno_status(errno, "cannot create the link");
    }
    return copy_metadata_at(target, name, info);
  }

  static Status node(int target, const std::string& name, const struct stat& info) {
    if (::mknodat(target, name.c_str(), info.st_mode & (S_IFMT | 0700), info.st_rdev) != 0) {
      return errno_status(errno, "cannot create the node");
    }
    MUSTER_TRY(copy_metadata_at(target, name, info));
    // umask took part in mknod, and the owner may have been changed. There is no chmod that
    // follows no link, but an O_PATH descriptor serves.
    const UniqueFd made(::openat(target, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    const std::string path = fmt::format("/proc/self/fd/{}", made.get());
    if (!made || ::chmod(path.c_str(), info.st_mode & 07777) != 0) {
      return errno_status(errno, "mode");
    }
    return {};
  }

  // Owner and times of what cannot be opened.
  static Status copy_metadata_at(int target, const std::string& name, const struct stat& info) {
    if (::fchownat(target, name.c_str(), info.st_uid, info.st_gid, AT_SYMLINK_NOFOLLOW) != 0) {
      return errno_status(errno, "owner");
    }
    const timespec times[2] = {info.st_atim, info.st_mtim};
    if (::utimensat(target, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) {
      return errno_status(errno, "times");
    }
    return {};
  }

  int target_top_;
  uint64_t copied_ = 0;
  std::map<std::pair<dev_t, ino_t>, std::string> links_;  // first path of each inode copied
};

}  // namespace

Result<uint64_t> copy_up(int source, int target) {
  Copier copier(target);
  MUSTER_TRY(copier.directory(source, target, "", 0));
  return copier.copied();
}

Result<bool> is_empty_directory(int directory) {
  MUSTER_ASSIGN(const std::vector<std::string> names, names_in(directory));
  for (const std::string& name : names) {
    if (name != "lost+found") return false;
  }
  return true;
}

}  // namespace muster::agent
