#include "base/remove_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string_view>

#include "base/unique_fd.h"

namespace muster {
namespace {

// Levels that are walked, at two descriptors each; what lies deeper is first moved to the top.
constexpr int kDepthMax = 60;

Status failed(std::string_view what, const std::string& name) {
  return errno_status(errno, fmt::format("cannot {} {}", what, name));
}

bool is_mount_root(int fd) {
  struct statx facts {};
  return statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_TYPE, &facts) == 0 &&
         (facts.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

class Removal {
 public:
  explicit Removal(int top) : top_(top) {}

  Status empty_top() {
    do {
      moved_ = false;
      MUSTER_TRY(empty(top_, 0));
    } while (moved_);
    return ok_status();
  }

 private:
  Status empty(int directory, int depth) {
    // A descriptor of its own: closedir closes it, and reading moves the offset.
    UniqueFd own(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!own) return failed("open", "a directory");
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(own.get()), &closedir);
    if (!stream) return failed("list", "a directory");
    own.release();
    while (true) {
      errno = 0;
      const dirent* entry = readdir(stream.get());
      if (entry == nullptr) return errno == 0 ? ok_status() : failed("list", "a directory");
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      if (unlinkat(directory, name.c_str(), 0) == 0 || errno == ENOENT) continue;
      if (errno != EISDIR && errno != EPERM) return failed("delete", name);
      MUSTER_TRY(subdirectory(directory, name, depth));
    }
  }

  Status subdirectory(int directory, const std::string& name, int depth) {
    const UniqueFd fd(
        openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) {
      // No directory after all: what unlink said about it counts.
      if (errno == ENOTDIR || errno == ELOOP) errno = EPERM;
      return failed("delete", name);
    }
    if (is_mount_root(fd.get())) return failed_precondition("{} is a mount point", name);
    if (depth == kDepthMax) return move_up(directory, name);
    MUSTER_TRY(empty(fd.get(), depth + 1));
    if (unlinkat(directory, name.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return ok_status();
    return failed("delete", name);
  }

  Status move_up(int directory, const std::string& name) {
    moved_ = true;
    while (true) {
      const std::string to = fmt::format(".deep-{}", next_++);
      if (renameat2(directory, name.c_str(), top_, to.c_str(), RENAME_NOREPLACE) == 0) {
        return ok_status();
      }
      if (errno != EEXIST) return failed("move", name);
    }
  }

  const int top_;
  bool moved_ = false;
  uint64_t next_ = 0;
};

}  // namespace

Status remove_tree(int parent, const std::string& name) {
  if (unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return ok_status();
  if (errno != EISDIR && errno != EPERM) return failed("delete", name);
  {
    const UniqueFd fd(
        openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) return failed("open", name);
    if (is_mount_root(fd.get())) return failed_precondition("{} is a mount point", name);
    Removal removal(fd.get());
    MUSTER_TRY(removal.empty_top().with_context("deleting " + name));
  }
  if (unlinkat(parent, name.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return ok_status();
  return failed("delete", name);
}

Status remove_tree(const std::string& path) {
  return remove_tree(AT_FDCWD, path);
}

}  // namespace muster
