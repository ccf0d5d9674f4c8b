#include "agent/runtime/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string_view>

#include "base/file.h"
#include "base/unique_fd.h"

namespace muster::agent {
namespace {

// cgroup files are small and their reads must not go through the page cache's size checks.
std::string read_small(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return {};
  std::string out;
  char buffer[4096];
  while (true) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return out;
    out.append(buffer, static_cast<size_t>(got));
  }
}

uint64_t to_number(std::string_view text) {
  uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// The number after "key " at the start of a line.
std::optional<uint64_t> keyed(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    if (line.size() > key.size() && line.substr(0, key.size()) == key && line[key.size()] == ' ') {
      return to_number(line.substr(key.size() + 1));
    }
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return std::nullopt;
}

// Sum of the numbers after `marker` in all lines: "8:0 Read 4096" or "8:0 rbytes=4096 ...".
uint64_t sum_after(std::string_view text, std::string_view marker) {
  uint64_t sum = 0;
  for (size_t at = text.find(marker); at != std::string_view::npos;
       at = text.find(marker, at + marker.size())) {
    sum += to_number(text.substr(at + marker.size()));
  }
  return sum;
}

std::vector<std::string> subdirectories(const std::string& directory) {
  std::vector<std::string> out;
  DIR* dir = ::opendir(directory.c_str());
  if (dir == nullptr) return out;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string_view name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..") out.emplace_back(name);
  }
  ::closedir(dir);
  std::sort(out.begin(), out.end());
  return out;
}

void collect_processes(const std::string& directory, std::vector<int64_t>& out) {
  const std::string text = read_small(directory + "/cgroup.procs");
  std::string_view rest = text;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const uint64_t pid = to_number(rest.substr(0, end));
    if (pid > 0) out.push_back(static_cast<int64_t>(pid));
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  for (const std::string& name : subdirectories(directory)) {
    collect_processes(directory + "/" + name, out);
  }
}

uint64_t host_memory() {
  struct sysinfo info {};
  ::sysinfo(&info);
  return static_cast<uint64_t>(info.totalram) * info.mem_unit;
}

Status write_control(const std::string& path, const std::string& text) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return errno_status(errno, path);
  if (::write(fd.get(), text.data(), text.size()) < 0) return errno_status(errno, path);
  return {};
}

}  // namespace

Cgroups::Cgroups(CgroupVersion version, std::string root)
    : version_(version), root_(std::move(root)) {
  if (version_ == CgroupVersion::kV2) {
    hierarchies_.push_back(root_);
    return;
  }
  for (const std::string& name : subdirectories(root_)) {
    // On a hybrid host nothing of ours is in the cgroup2 tree.
    if (name != "unified") hierarchies_.push_back(root_ + "/" + name);
  }
}

std::string Cgroups::file(const char* controller, const std::string& path, const char* name) const {
  if (version_ == CgroupVersion::kV2) return fmt::format("{}{}/{}", root_, path, name);
  return fmt::format("{}/{}{}/{}", root_, controller, path, name);
}

std::vector<int64_t> Cgroups::processes(const std::string& path) const {
  std::vector<int64_t> out;
  for (const std::string& hierarchy : hierarchies_) collect_processes(hierarchy + path, out);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

bool Cgroups::contains(const std::string& path, int64_t pid) const {
  const std::string text = read_small(fmt::format("/proc/{}/cgroup", pid));
  const std::string wanted = ":" + path;
  for (size_t at = text.find(wanted); at != std::string::npos; at = text.find(wanted, at + 1)) {
    const size_t end = at + wanted.size();
    if (end == text.size() || text[end] == '\n' || text[end] == '/') return true;
  }
  return false;
}

bool Cgroups::oom_killed(const std::string& path) const {
  if (version_ == CgroupVersion::kV2) {
    return keyed(read_small(file("", path, "memory.events")), "oom_kill").value_or(0) > 0;
  }
  return keyed(read_small(file("memory", path, "memory.oom_control")), "oom_kill").value_or(0) > 0;
}

Result<CgroupUsage> Cgroups::usage(const std::string& path) const {
  CgroupUsage out;
  const bool v2 = version_ == CgroupVersion::kV2;
  const std::string probe = v2 ? root_ + path : root_ + "/memory" + path;
  if (::access(probe.c_str(), F_OK) != 0) return fail(errno_status(errno, probe));
  const std::string stat = read_small(file("memory", path, "memory.stat"));
  uint64_t memory = 0;
  uint64_t inactive = 0;
  uint64_t limit = 0;
  if (v2) {
    out.cpu_ns = keyed(read_small(file("", path, "cpu.stat")), "usage_usec").value_or(0) * 1000;
    memory = to_number(read_small(file("", path, "memory.current")));
    limit = to_number(read_small(file("", path, "memory.max")));
    inactive = keyed(stat, "inactive_file").value_or(0);
    const std::string io = read_small(file("", path, "io.stat"));
    out.block_read_bytes = sum_after(io, "rbytes=");
    out.block_write_bytes = sum_after(io, "wbytes=");
  } else {
    out.cpu_ns = to_number(read_small(file("cpuacct", path, "cpuacct.usage")));
    memory = to_number(read_small(file("memory", path, "memory.usage_in_bytes")));
    limit = to_number(read_small(file("memory", path, "memory.limit_in_bytes")));
    inactive = keyed(stat, "total_inactive_file").value_or(0);
    const std::string io = read_small(file("blkio", path, "blkio.throttle.io_service_bytes"));
    out.block_read_bytes = sum_after(io, " Read ");
    out.block_write_bytes = sum_after(io, " Write ");
  }
  out.memory_bytes = memory > inactive ? memory - inactive : 0;
  const uint64_t total = host_memory();
  out.memory_limit_bytes = limit == 0 || limit > total ? total : limit;
  out.pids = to_number(read_small(file("pids", path, "pids.current")));
  return out;
}

std::vector<std::string> Cgroups::children(const std::string& path) const {
  std::vector<std::string> out;
  for (const std::string& hierarchy : hierarchies_) {
    for (std::string& name : subdirectories(hierarchy + path)) out.push_back(std::move(name));
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

Status Cgroups::adopt_process(const std::string& path, int64_t pid) const {
  // Every write waits for a grace period of the kernel, so hierarchies where the process is in the
  // root anyway are left alone. Lines are "id:controllers:path".
  const std::string text = read_small("/proc/self/cgroup");
  for (const std::string& hierarchy : hierarchies_) {
    std::string wanted = ":/\n";
    if (version_ != CgroupVersion::kV2) {
      const std::string name = std::filesystem::path(hierarchy).filename().string();
      const size_t named = text.find(name + ":/");
      if (named == std::string::npos || text.compare(named + name.size(), 3, wanted) == 0) continue;
    } else if (text.find("0::/\n") != std::string::npos) {
      continue;
    }
    const std::string directory = hierarchy + path;
    MUSTER_TRY(make_directory(directory, 0755));
    MUSTER_TRY(write_control(directory + "/cgroup.procs", fmt::format("{}", pid)));
  }
  return {};
}

Status Cgroups::remove_tree(const std::string& directory) const {
  for (const std::string& name : subdirectories(directory)) {
    MUSTER_TRY(remove_tree(directory + "/" + name));
  }
  if (::rmdir(directory.c_str()) == 0 || errno == ENOENT || errno == ENOTDIR) return {};
  return errno_status(errno, "removing cgroup " + directory);
}

Status Cgroups::kill_and_remove(const std::string& path) const {
  Status last;
  // A killed process leaves its cgroup a moment later, and a forking one may have had a child
  // meanwhile: repeat until nobody is left.
  for (int round = 0; round < 100; ++round) {
    const std::vector<int64_t> pids = processes(path);
    for (const int64_t pid : pids) ::kill(static_cast<pid_t>(pid), SIGKILL);
    last = Status();
    if (pids.empty()) {
      for (const std::string& hierarchy : hierarchies_) {
        const Status status = remove_tree(hierarchy + path);
        if (!status.ok()) last = status;
      }
      if (last.ok()) return {};
    } else {
      last = internal_error("{} processes of cgroup {} do not end", pids.size(), path);
    }
    const struct timespec pause { 0, 10'000'000 };
    ::nanosleep(&pause, nullptr);
  }
  return last;
}

}  // namespace muster::agent
