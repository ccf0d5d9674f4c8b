#include "agent/runtime/user_lookup.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>

#include "base/unique_fd.h"

namespace muster::agent {
namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::optional<uint32_t> number(std::string_view text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

struct PasswdEntry {
  std::string_view name;
  uint32_t uid;
  uint32_t gid;
  std::string_view home;
};

std::optional<PasswdEntry> find_user(std::string_view passwd, std::string_view name,
                                     std::optional<uint32_t> uid) {
  for (const std::string_view line : split(passwd, '\n')) {
    const auto fields = split(line, ':');
    if (fields.size() < 6) continue;
    const auto entry_uid = number(fields[2]);
    const auto entry_gid = number(fields[3]);
    if (!entry_uid || !entry_gid) continue;
    if (fields[0] == name || (uid && *entry_uid == *uid)) {
      return PasswdEntry{fields[0], *entry_uid, *entry_gid, fields[5]};
    }
  }
  return std::nullopt;
}

// The number of a group given by name or number.
Result<uint32_t> find_group(std::string_view groups, std::string_view wanted) {
  for (const std::string_view line : split(groups, '\n')) {
    const auto fields = split(line, ':');
    if (fields.size() < 3 || fields[0] != wanted) continue;
    if (const auto gid = number(fields[2])) return *gid;
  }
  if (const auto gid = number(wanted)) return *gid;
  return fail(invalid_argument("group \"{}\" is not in the image's /etc/group", wanted));
}

UniqueFd open_in_root(int root, const std::string& path, uint64_t flags) {
  struct open_how how {};
  how.flags = flags | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return UniqueFd(static_cast<int>(::syscall(SYS_openat2, root, path.c_str(), &how, sizeof how)));
}

}  // namespace

Result<ResolvedUser> resolve_user(std::string_view user, const std::vector<std::string>& groups,
                                  std::string_view passwd, std::string_view group) {
  const size_t colon = user.find(':');
  const bool has_group = colon != std::string_view::npos && colon + 1 < user.size();
  const std::string_view user_part = user.substr(0, colon);
  const std::string_view name = user_part.empty() ? std::string_view("0") : user_part;

  ResolvedUser out;
  const auto uid = number(name);
  const auto entry = find_user(passwd, name, uid);
  if (entry) {
    out.uid = entry->uid;
    out.gid = entry->gid;
    if (!entry->home.empty()) out.home = std::string(entry->home);
  } else if (uid) {
    out.uid = *uid;
    if (*uid == 0) out.home = "/root";
  } else {
    return fail(invalid_argument("user \"{}\" is not in the image's /etc/passwd", name));
  }
  if (has_group) {
    MUSTER_ASSIGN(out.gid, find_group(group, user.substr(colon + 1)));
  } else if (entry) {
    for (const std::string_view line : split(group, '\n')) {
      const auto fields = split(line, ':');
      if (fields.size() < 4) continue;
      const auto members = split(fields[3], ',');
      if (std::find(members.begin(), members.end(), entry->name) == members.end()) continue;
      if (const auto gid = number(fields[2])) out.groups.push_back(*gid);
    }
  }
  for (const std::string& extra : groups) {
    MUSTER_ASSIGN(const uint32_t gid, find_group(group, extra));
    out.groups.push_back(gid);
  }
  std::sort(out.groups.begin(), out.groups.end());
  out.groups.erase(std::unique(out.groups.begin(), out.groups.end()), out.groups.end());
  out.groups.erase(std::remove(out.groups.begin(), out.groups.end(), out.gid), out.groups.end());
  return out;
}

Result<std::string> read_in_root(const std::string& rootfs, const std::string& path,
                                 size_t bytes_max) {
  const UniqueFd root(::open(rootfs.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) return fail(errno_status(errno, rootfs));
  const UniqueFd file = open_in_root(root.get(), path, O_RDONLY | O_NONBLOCK);
  if (!file) {
    if (errno == ENOENT || errno == ENOTDIR) return std::string();
    return fail(errno_status(errno, path + " of the image"));
  }
  struct stat info {};
  if (::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) return std::string();
  std::string text;
  char buffer[16384];
  while (text.size() <= bytes_max) {
    const ssize_t got = ::read(file.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(errno_status(errno, path + " of the image"));
    if (got == 0) return text;
    text.append(buffer, static_cast<size_t>(got));
  }
  return fail(resource_exhausted("{} of the image is longer than {} bytes", path, bytes_max));
}

Status make_directory_in_root(const std::string& rootfs, const std::string& path, uint32_t uid,
                              uint32_t gid) {
  const UniqueFd root(::open(rootfs.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) return errno_status(errno, rootfs);
  if (open_in_root(root.get(), path, O_PATH | O_DIRECTORY)) return {};
  std::string done;
  for (const std::string_view part : split(path, '/')) {
    if (part.empty()) continue;
    const std::string parent = done.empty() ? "/" : done;
    done += "/" + std::string(part);
    if (open_in_root(root.get(), done, O_PATH | O_DIRECTORY)) continue;
    if (errno != ENOENT) {
      return failed_precondition("{} in the image is not a directory", done);
    }
    const UniqueFd up = open_in_root(root.get(), parent, O_PATH | O_DIRECTORY);
    const std::string leaf(part);
    if (!up || ::mkdirat(up.get(), leaf.c_str(), 0755) != 0) {
      return errno_status(errno, "making " + done + " in the container");
    }
    if (::fchownat(up.get(), leaf.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW) != 0) {
      return errno_status(errno, "owner of " + done + " in the container");
    }
  }
  return {};
}

}  // namespace muster::agent
