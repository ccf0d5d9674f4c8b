#include "agent/runtime/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "base/file.h"
#include "base/process.h"
#include "base/unique_fd.h"

namespace muster::agent {
namespace {

constexpr const char* kUnified = "unified";  // a hybrid host's cgroup2 tree

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

// The ids in a list file ("cgroup.procs", "tasks") of a cgroup and of all below.
void collect_ids(const std::string& directory, const char* list, std::vector<int64_t>& out) {
  const std::string text = read_small(directory + "/" + list);
  std::string_view rest = text;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const uint64_t pid = to_number(rest.substr(0, end));
    if (pid > 0) out.push_back(static_cast<int64_t>(pid));
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  for (const std::string& name : subdirectories(directory)) {
    collect_ids(directory + "/" + name, list, out);
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

// Removes a cgroup with all below; 0 or the errno.
int remove_cgroup(const std::string& directory) {
  for (const std::string& name : subdirectories(directory)) {
    if (const int error = remove_cgroup(directory + "/" + name); error != 0) return error;
  }
  return ::rmdir(directory.c_str()) == 0 || errno == ENOENT || errno == ENOTDIR ? 0 : errno;
}

// Whether the process has ended before `deadline`.
bool wait_end(int pidfd, std::chrono::steady_clock::time_point deadline) {
  struct pollfd ended {
    pidfd, POLLIN, 0
  };
  while (true) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    const int ready = ::poll(&ended, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
    if (ready >= 0 || errno != EINTR) return ready > 0;
  }
}

}  // namespace

Cgroups::Cgroups(CgroupVersion version, std::string root)
    : version_(version), root_(std::move(root)) {
  if (version_ == CgroupVersion::kV2) {
    hierarchies_.push_back(root_);
    return;
  }
  for (const std::string& name : subdirectories(root_)) {
    hierarchies_.push_back(root_ + "/" + name);
  }
}

std::string Cgroups::file(const char* controller, const std::string& path, const char* name) const {
  if (version_ == CgroupVersion::kV2) return fmt::format("{}{}/{}", root_, path, name);
  return fmt::format("{}/{}{}/{}", root_, controller, path, name);
}

std::vector<int64_t> Cgroups::processes(const std::string& path) const {
  std::vector<int64_t> out;
  for (const std::string& hierarchy : hierarchies_)
    collect_ids(hierarchy + path, "cgroup.procs", out);
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
    const std::string name = std::filesystem::path(hierarchy).filename().string();
    // On a hybrid host the cgroup2 tree has no container's cgroup, since crun is kept from seeing
    // it: what a monitor starts stays there with its monitor.
    const bool v2 = version_ == CgroupVersion::kV2 || name == kUnified;
    const std::string own = v2 ? "0::/" : name + ":/";
    const size_t at = text.find(own);
    if (at == std::string::npos || text.compare(at + own.size(), 1, "\n") == 0) continue;
    const std::string directory = hierarchy + path;
    MUSTER_TRY(make_directory(directory, 0755));
    MUSTER_TRY(write_control(directory + "/cgroup.procs", fmt::format("{}", pid)));
  }
  return {};
}

// Processes with a thread in the cgroup or below. By threads, too: a process whose first thread has
// ended is not in cgroup.procs any more, although the others still keep the cgroup busy.
std::vector<int64_t> Cgroups::members(const std::string& path) const {
  const char* const list = version_ == CgroupVersion::kV2 ? "cgroup.threads" : "tasks";
  std::vector<int64_t> out = processes(path);
  std::vector<int64_t> threads;
  for (const std::string& hierarchy : hierarchies_) collect_ids(hierarchy + path, list, threads);
  for (const int64_t thread : threads) {
    const std::string status = read_small(fmt::format("/proc/{}/status", thread));
    const size_t at = status.find("\nTgid:\t");
    if (at != std::string::npos) {
      out.push_back(static_cast<int64_t>(to_number(std::string_view(status).substr(at + 7))));
    }
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

Status Cgroups::kill_and_remove(const std::string& path) const {
  const auto deadline = std::chrono::steady_clock::now() + kKillTimeout;
  while (true) {
    const std::vector<int64_t> found = members(path);
    std::vector<std::pair<int64_t, UniqueFd>> pinned;
    for (const int64_t pid : found) {
      if (UniqueFd fd = open_pidfd(pid)) pinned.emplace_back(pid, std::move(fd));
    }
    // Numbers are used again: only who is still a member now that it is pinned is meant.
    const std::vector<int64_t> still = found.empty() ? found : members(path);
    std::erase_if(pinned, [&](const auto& process) {
      return !std::binary_search(still.begin(), still.end(), process.first);
    });
    for (const auto& [pid, fd] : pinned) {
      ::syscall(SYS_pidfd_send_signal, fd.get(), SIGKILL, nullptr, 0);
    }
    bool in_time = std::chrono::steady_clock::now() < deadline;
    for (const auto& [pid, fd] : pinned) in_time = in_time && wait_end(fd.get(), deadline);
    const bool empty = pinned.empty() && still.empty();
    const int error = empty ? remove_all(path) : EBUSY;
    if (error == 0) return {};
    if (error != EBUSY) return errno_status(error, "removing cgroup " + path);
    if (!in_time) return internal_error("the processes of cgroup {} do not end", path);
    // A forking process had a child meanwhile; or the kernel is about to take the dead ones out of
    // the cgroup, for which there is no event.
    std::this_thread::yield();
  }
}

int Cgroups::remove_all(const std::string& path) const {
  int last = 0;
  for (const std::string& hierarchy : hierarchies_) {
    const int error = remove_cgroup(hierarchy + path);
    if (error != 0) last = error;
  }
  return last;
}

}  // namespace muster::agent
