#include "agent/images/layer_tree.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "base/remove_tree.h"

namespace muster::agent {
namespace {

constexpr char kOpaque[] = "trusted.overlay.opaque";

Status refused(std::string_view path, std::string_view why) {
  return data_loss("malicious or damaged layer: \"{}\" {}", path, why);
}

Status failed(std::string_view what, std::string_view path) {
  return errno_status(errno, fmt::format("cannot {} \"{}\" of the layer", what, path));
}

}  // namespace

Result<std::vector<std::string>> LayerTree::split(std::string_view path) const {
  std::vector<std::string> parts;
  size_t start = 0;
  while (start <= path.size()) {
    const size_t slash = std::min(path.find('/', start), path.size());
    const std::string_view part = path.substr(start, slash - start);
    start = slash + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..") return fail(refused(path, "leaves the image through .."));
    if (part.size() > NAME_MAX) return fail(refused(path, "has too long a name"));
    if (part.find('\0') != std::string_view::npos) return fail(refused(path, "holds a NUL"));
    parts.emplace_back(part);
  }
  if (parts.size() > depth_max_) return fail(refused(path.substr(0, 200), "is nested too deep"));
  return parts;
}

Result<LayerTree::Place> LayerTree::locate(std::string_view path, Missing missing) {
  MUSTER_ASSIGN(std::vector<std::string> parts, split(path));
  if (parts.empty()) return Place{root_.get(), ""};
  std::string name = std::move(parts.back());
  parts.pop_back();
  if (parts.empty()) return Place{root_.get(), std::move(name)};
  if (cached_fd_ && parts == cached_path_) return Place{cached_fd_.get(), std::move(name)};
  cached_fd_.reset();
  UniqueFd current;
  int at = root_.get();
  for (const std::string& part : parts) {
    if (missing == Missing::kCreate && mkdirat(at, part.c_str(), 0755) != 0 && errno != EEXIST) {
      return fail(failed("make a parent of", path));
    }
    UniqueFd next(openat(at, part.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next && (errno == ENOTDIR || errno == ELOOP)) {
      return fail(refused(path, fmt::format("goes through \"{}\", which is no directory", part)));
    }
    if (!next) return fail(failed("find a parent of", path));
    current = std::move(next);
    at = current.get();
  }
  cached_fd_ = std::move(current);
  cached_path_ = std::move(parts);
  return Place{cached_fd_.get(), std::move(name)};
}

Result<UniqueFd> LayerTree::open_directory(std::string_view path) {
  MUSTER_ASSIGN(const Place place, locate(path, Missing::kCreate));
  const char* name = place.name.empty() ? "." : place.name.c_str();
  UniqueFd fd(openat(place.parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail(failed("open directory", path));
  return fd;
}

Status LayerTree::clear(const Place& place, std::string_view path) {
  if (place.name.empty()) return refused(path, "would replace the image's root directory");
  if (unlinkat(place.parent, place.name.c_str(), 0) == 0 || errno == ENOENT) return ok_status();
  if (errno != EISDIR && errno != EPERM) return failed("replace", path);
  // A cached directory may be inside of what goes away; only one that is the parent itself is not.
  if (place.parent == root_.get()) cached_fd_.reset();
  const int parent = dup(place.parent);
  if (parent < 0) return failed("replace", path);
  const UniqueFd owned(parent);
  return remove_tree(parent, place.name);
}

Status LayerTree::apply(int fd, std::string_view path, const FileAttributes& a) {
  if (fchown(fd, a.uid, a.gid) != 0) return failed("set the owner of", path);
  // After the owner, whose change clears setuid and capabilities.
  if (fchmod(fd, a.mode & 07777) != 0) return failed("set the mode of", path);
  for (const auto& [key, value] : a.xattrs) {
    if (fsetxattr(fd, key.c_str(), value.data(), value.size(), 0) == 0) continue;
    // A file system that cannot hold a user attribute still holds the image.
    if (errno != ENOTSUP) return failed(fmt::format("set attribute {} of", key), path);
  }
  return ok_status();
}

Status LayerTree::make_directory(std::string_view path, const FileAttributes& attributes) {
  MUSTER_ASSIGN(const Place place, locate(path, Missing::kCreate));
  if (!place.name.empty()) {
    struct stat st {};
    const bool exists = fstatat(place.parent, place.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
    const bool whiteout = exists && S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0);
    if (exists && !S_ISDIR(st.st_mode)) MUSTER_TRY(clear(place, path));
    if ((!exists || !S_ISDIR(st.st_mode)) && mkdirat(place.parent, place.name.c_str(), 0700) != 0) {
      return failed("make directory", path);
    }
    // The layer first hid the name, then put a directory there: the old content stays hidden.
    if (whiteout) MUSTER_TRY(set_opaque(place, path));
  }
  MUSTER_ASSIGN(const UniqueFd fd, open_directory(path));
  MUSTER_TRY(apply(fd.get(), path, attributes));
  directory_times_.emplace_back(std::string(path), attributes.mtime);
  return ok_status();
}

Status LayerTree::make_symlink(std::string_view path, const std::string& target,
                               const FileAttributes& a) {
  MUSTER_ASSIGN(const Place place, locate(path, Missing::kCreate));
  MUSTER_TRY(clear(place, path));
  const char* name = place.name.c_str();
  if (symlinkat(target.c_str(), place.parent, name) != 0) return failed("make link", path);
  const timespec times[2] = {a.mtime, a.mtime};
  if (fchownat(place.parent, name, a.uid, a.gid, AT_SYMLINK_NOFOLLOW) != 0 ||
      utimensat(place.parent, name, times, AT_SYMLINK_NOFOLLOW) != 0) {
    return failed("set the owner of", path);
  }
  return ok_status();
}

Status LayerTree::make_node(std::string_view path, mode_t type, dev_t device,
                            const FileAttributes& a) {
  MUSTER_ASSIGN(const Place place, locate(path, Missing::kCreate));
  MUSTER_TRY(clear(place, path));
  const char* name = place.name.c_str();
  if (mknodat(place.parent, name, type | 0600, device) != 0) return failed("make device", path);
  // Never opened, since opening a device acts on it; what was just made is no link to follow.
  const timespec times[2] = {a.mtime, a.mtime};
  if (fchownat(place.parent, name, a.uid, a.gid, AT_SYMLINK_NOFOLLOW) != 0 ||
      fchmodat(place.parent, name, a.mode & 07777, 0) != 0 ||
      utimensat(place.parent, name, times, AT_SYMLINK_NOFOLLOW) != 0) {
    return failed("set the owner of", path);
  }
  return ok_status();
}

Status LayerTree::make_hard_link(std::string_view path, std::string_view target) {
  const auto missing = [&] {
    return refused(path, fmt::format("is a hard link to \"{}\", which is missing", target));
  };
  const auto located = locate(target, Missing::kFail);
  if (!located && located.error().code() == StatusCode::kNotFound) return missing();
  MUSTER_ASSIGN(const Place from, located);
  if (from.name.empty()) return refused(path, "is a hard link to a directory");
  const UniqueFd from_parent(dup(from.parent));
  struct stat st {};
  if (fstatat(from_parent.get(), from.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    return errno == ENOENT ? missing() : failed("find the link target of", path);
  }
  if (S_ISDIR(st.st_mode)) return refused(path, "is a hard link to a directory");
  MUSTER_ASSIGN(const Place to, locate(path, Missing::kCreate));
  struct stat existing {};
  if (!to.name.empty() &&
      fstatat(to.parent, to.name.c_str(), &existing, AT_SYMLINK_NOFOLLOW) == 0 &&
      existing.st_ino == st.st_ino && existing.st_dev == st.st_dev) {
    return ok_status();  // replacing it would delete a file linked to itself
  }
  MUSTER_TRY(clear(to, path));
  if (linkat(from_parent.get(), from.name.c_str(), to.parent, to.name.c_str(), 0) != 0) {
    return failed("make hard link", path);
  }
  return ok_status();
}

Result<UniqueFd> LayerTree::make_file(std::string_view path) {
  MUSTER_ASSIGN(const Place place, locate(path, Missing::kCreate));
  MUSTER_TRY(clear(place, path));
  UniqueFd fd(openat(place.parent, place.name.c_str(),
                     O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return fail(failed("make file", path));
  return fd;
}

Status LayerTree::finish_file(int fd, std::string_view path, const FileAttributes& attributes) {
  MUSTER_TRY(apply(fd, path, attributes));
  const timespec times[2] = {attributes.mtime, attributes.mtime};
  if (futimens(fd, times) != 0) return failed("set the time of", path);
  return ok_status();
}

Status LayerTree::make_whiteout(std::string_view path) {
  MUSTER_ASSIGN(const Place place, locate(path, Missing::kCreate));
  if (place.name.empty()) return refused(path, "would delete the image's root directory");
  if (mknodat(place.parent, place.name.c_str(), S_IFCHR, makedev(0, 0)) == 0) return ok_status();
  if (errno != EEXIST) return failed("make whiteout", path);
  // A whiteout speaks of the layers below. What this layer holds hides them already, except that a
  // directory would be merged with theirs.
  struct stat st {};
  if (fstatat(place.parent, place.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    return failed("make whiteout", path);
  }
  return S_ISDIR(st.st_mode) ? set_opaque(place, path) : ok_status();
}

Status LayerTree::set_opaque(const Place& place, std::string_view path) {
  const char* name = place.name.empty() ? "." : place.name.c_str();
  const UniqueFd fd(openat(place.parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd || fsetxattr(fd.get(), kOpaque, "y", 1, 0) != 0) return failed("mark as opaque", path);
  return ok_status();
}

Status LayerTree::make_opaque(std::string_view path) {
  MUSTER_ASSIGN(const Place place, locate(path, Missing::kCreate));
  if (!place.name.empty() && mkdirat(place.parent, place.name.c_str(), 0755) != 0 &&
      errno != EEXIST) {
    return failed("make directory", path);
  }
  return set_opaque(place, path);
}

Status LayerTree::finish() {
  cached_fd_.reset();
  for (const auto& [path, mtime] : directory_times_) {
    const auto place = locate(path, Missing::kFail);
    if (!place) continue;  // replaced later on
    const char* name = place->name.empty() ? "." : place->name.c_str();
    const timespec times[2] = {mtime, mtime};
    if (utimensat(place->parent, name, times, AT_SYMLINK_NOFOLLOW) != 0 && errno != ENOENT) {
      return failed("set the time of", path);
    }
  }
  return ok_status();
}

}  // namespace muster::agent
