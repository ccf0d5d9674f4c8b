#include "overlay/dataplane/kernel/sysctl.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

namespace muster::overlay {
namespace {

Result<std::string> path_of(std::string_view key) {
  std::string path(key);
  if (path.find('/') == std::string::npos) std::replace(path.begin(), path.end(), '.', '/');
  if (path.empty() || path.front() == '/' || path.find("..") != std::string::npos ||
      path.find("//") != std::string::npos) {
    return fail(invalid_argument("\"{}\" is not the name of a kernel setting", key));
  }
  return "/proc/sys/" + path;
}

}  // namespace

Status write_sysctl(std::string_view key, std::string_view value) {
  MUSTER_ASSIGN(const std::string path, path_of(key));
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno_status(errno, fmt::format("cannot set {}", key));
  const ssize_t written = write(fd, value.data(), value.size());
  const int error = errno;
  close(fd);
  if (written < 0) return errno_status(error, fmt::format("cannot set {} to \"{}\"", key, value));
  return ok_status();
}

Result<std::string> read_sysctl(std::string_view key) {
  MUSTER_ASSIGN(const std::string path, path_of(key));
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(errno_status(errno, fmt::format("cannot read {}", key)));
  char text[256];
  const ssize_t n = read(fd, text, sizeof(text));
  const int error = errno;
  close(fd);
  if (n < 0) return fail(errno_status(error, fmt::format("cannot read {}", key)));
  std::string out(text, static_cast<size_t>(n));
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool kernel_has_ipv6() {
  return access("/proc/sys/net/ipv6", F_OK) == 0;
}

Status forward_ipv6() {
  const auto now = read_sysctl("net.ipv6.conf.all.forwarding");
  if (!now || *now == "1") return ok_status();
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc/sys/net/ipv6/conf", error), end;
       !error && it != end; it.increment(error)) {
    const std::string key = "net/ipv6/conf/" + it->path().filename().string() + "/accept_ra";
    const auto accepts = read_sysctl(key);
    if (accepts && *accepts == "1") MUSTER_TRY(write_sysctl(key, "2"));
  }
  return write_sysctl("net.ipv6.conf.all.forwarding", "1");
}

void keep_forwarding(bool v6, std::vector<std::string>& said, std::vector<std::string>& failed) {
  const auto keep = [&](const char* key, const char* family, const auto& mend) {
    const auto now = read_sysctl(key);
    if (!now || *now == "1") return;
    const Status done = mend();
    if (done.ok()) {
      said.push_back(fmt::format("the host no longer forwarded {}", family));
    } else {
      failed.push_back(fmt::format("the host does not forward {}: {}", family, done.message()));
    }
  };
  constexpr const char* kV4 = "net.ipv4.ip_forward";
  keep(kV4, "IPv4", [&] { return write_sysctl(kV4, "1"); });
  if (v6) keep("net.ipv6.conf.all.forwarding", "IPv6", forward_ipv6);
}

}  // namespace muster::overlay
