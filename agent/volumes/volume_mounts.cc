#include "agent/volumes/volume_mounts.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <netdb.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "base/file.h"

namespace muster::agent {
namespace {

// mountinfo writes space, tab, newline and backslash as three octal digits.
std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](size_t k) { return text[i + k] >= '0' && text[i + k] <= '7'; };
    if (text[i] == '\\' && i + 3 < text.size() && digit(1) && digit(2) && digit(3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// The fifth of the fields, which single spaces part.
std::string_view mount_point_field(std::string_view line) {
  for (int skipped = 0; skipped < 4; ++skipped) {
    const size_t space = line.find(' ');
    if (space == std::string_view::npos) return {};
    line.remove_prefix(space + 1);
  }
  return line.substr(0, line.find(' '));
}

bool is_address(const std::string& host) {
  unsigned char buffer[sizeof(in6_addr)];
  return inet_pton(AF_INET, host.c_str(), buffer) == 1 ||
         inet_pton(AF_INET6, host.c_str(), buffer) == 1;
}

// The kernel takes addresses only; mount.nfs would have looked the name up for it.
Result<std::string> resolve(const std::string& host) {
  if (is_address(host)) return host;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (error != 0) {
    return fail(unavailable("cannot resolve \"{}\": {}", host, gai_strerror(error)));
  }
  char text[NI_MAXHOST];
  const int named =
      getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST);
  freeaddrinfo(found);
  if (named != 0) return fail(unavailable("cannot resolve \"{}\": {}", host, gai_strerror(named)));
  return std::string(text);
}

// "//host/share" with the host as an address.
Result<std::string> resolve_share(const std::string& device) {
  if (device.rfind("//", 0) != 0) return device;
  const size_t slash = device.find('/', 2);
  if (slash == std::string::npos) return device;
  MUSTER_ASSIGN(const std::string address, resolve(device.substr(2, slash - 2)));
  return "//" + address + device.substr(slash);
}

Status mount_error(const VolumeMount& mount, const std::filesystem::path& target, int error) {
  return errno_status(error, fmt::format("failed to mount local volume: mount {}:{}, flags: {:#x}",
                                         mount.device, target.string(), mount.flags));
}

}  // namespace

Result<std::vector<MountPoint>> mounts_below(const std::filesystem::path& path) {
  MUSTER_ASSIGN(const std::string text, read_file("/proc/self/mountinfo"));
  std::vector<MountPoint> out;
  std::string_view rest = text;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    std::string point = unescape(mount_point_field(line));
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    const bool below = point.rfind(path.string(), 0) == 0 &&
                       (point.size() == path.native().size() || point[path.native().size()] == '/');
    if (below) out.push_back({std::move(point), line.find(" shared:") != std::string_view::npos});
  }
  return out;
}

Status mount_volume(const VolumeMount& mount, const std::filesystem::path& target) {
  std::string device = mount.device;
  std::string data = mount.data;
  if (!mount.address.empty()) {
    MUSTER_ASSIGN(const std::string address, resolve(mount.address));
    data += (data.empty() ? "addr=" : ",addr=") + address;
  } else if (mount.type == "cifs" || mount.type == "smb3") {
    MUSTER_ASSIGN(device, resolve_share(device));
  }
  if (::mount(device.c_str(), target.c_str(), mount.type.c_str(), mount.flags, data.c_str()) != 0) {
    return mount_error(mount, target, errno);
  }
  const auto undo = [&](int error) {
    ::umount2(target.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
    return mount_error(mount, target, error);
  };
  // The kernel ignores all other flags of a bind; they need a second call.
  constexpr unsigned long kBindable = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME |
                                      MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME;
  if ((mount.flags & MS_BIND) != 0 && (mount.flags & kBindable) != 0 &&
      ::mount(nullptr, target.c_str(), nullptr, MS_REMOUNT | MS_BIND | (mount.flags & kBindable),
              nullptr) != 0) {
    return undo(errno);
  }
  const unsigned long propagation =
      mount.propagation != 0 ? mount.propagation : (MS_PRIVATE | MS_REC);
  if (::mount(nullptr, target.c_str(), nullptr, propagation, nullptr) != 0) {
    return undo(errno);
  }
  return {};
}

Status unmount_below(const std::filesystem::path& path) {
  // More than once: unmounting may uncover another mount, or race with one being made.
  for (int round = 0; round < 8; ++round) {
    MUSTER_ASSIGN(std::vector<MountPoint> points, mounts_below(path));
    if (points.empty()) return {};
    for (const MountPoint& point : points) {
      if (!point.shared) continue;
      if (::mount(nullptr, point.path.c_str(), nullptr, MS_PRIVATE | MS_REC, nullptr) != 0) {
        return errno_status(errno, "parting " + point.path + " from its peers");
      }
    }
    std::reverse(points.begin(), points.end());
    for (const MountPoint& point : points) {
      if (::umount2(point.path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) continue;
      if (errno == EINVAL || errno == ENOENT) continue;  // gone with the one it was on
      return errno_status(errno, "unmounting " + point.path);
    }
  }
  return internal_error("{} is mounted again whenever it is unmounted", path.string());
}

Result<UniqueFd> open_in_root(const std::filesystem::path& root, const std::string& path) {
  const UniqueFd directory(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return fail(errno_status(errno, root.string()));
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  // A rename during the walk makes the kernel give up with EAGAIN rather than risk an escape.
  for (int attempt = 0; attempt < 64; ++attempt) {
    const long fd = ::syscall(SYS_openat2, directory.get(), path.c_str(), &how, sizeof how);
    if (fd >= 0) return UniqueFd(static_cast<int>(fd));
    if (errno != EAGAIN && errno != EINTR) break;
  }
  return fail(errno_status(errno, path));
}

Status bind_descriptor(int source, const std::filesystem::path& target) {
  struct stat info {};
  if (::fstat(source, &info) != 0) return errno_status(errno, target.string());
  if (S_ISDIR(info.st_mode)) {
    if (::mkdir(target.c_str(), 0700) != 0 && errno != EEXIST) {
      return errno_status(errno, "cannot create " + target.string());
    }
  } else {
    const UniqueFd file(::open(target.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file) return errno_status(errno, "cannot create " + target.string());
  }
  const std::string path = fmt::format("/proc/self/fd/{}", source);
  if (::mount(path.c_str(), target.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0 ||
      ::mount(nullptr, target.c_str(), nullptr, MS_PRIVATE | MS_REC, nullptr) != 0) {
    return errno_status(errno, "cannot bind on " + target.string());
  }
  return {};
}

}  // namespace muster::agent
