#include "deploy/lab/processes.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/file.h"
#include "base/process.h"

namespace muster::deploy::lab {
namespace {

std::string read_proc(int64_t pid, std::string_view name) {
  return read_file(fmt::format("/proc/{}/{}", pid, name), 1 << 20).value_or("");
}

// Its folder and node when the process is the first of a node.
bool is_init(const ProcessView& view, std::string* lab_dir, std::string* node) {
  if (!view.inner_init || view.owner != 0 || view.argv.size() != 5) return false;
  if (view.argv[1] != kInitWords[0] || view.argv[2] != kInitWords[1]) return false;
  *lab_dir = view.argv[3];
  *node = view.argv[4];
  return true;
}

// The process again, now that it cannot change under our hands; nullopt when it is not what `is`
// asks for any more.
template <class Is>
std::optional<Held> hold(int64_t pid, const Is& is) {
  UniqueFd pidfd = open_pidfd(pid);
  if (!pidfd) return std::nullopt;
  std::optional<ProcessView> view = view_process(pid);
  if (!view || !is(*view)) return std::nullopt;
  return Held{*std::move(view), std::move(pidfd)};
}

// What is behind the name in /proc/PID/stat: "PID (NAME) STATE PARENT ...". The name may hold
// anything.
std::string_view after_name(std::string_view stat) {
  const size_t close = stat.rfind(')');
  if (close == std::string_view::npos || close + 2 >= stat.size()) return {};
  return stat.substr(close + 2);
}

}  // namespace

std::vector<std::string> parse_cmdline(std::string_view text) {
  std::vector<std::string> argv;
  while (!text.empty()) {
    const size_t end = text.find('\0');
    argv.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return argv;
}

char parse_process_state(std::string_view stat) {
  const std::string_view rest = after_name(stat);
  return rest.empty() ? '?' : rest[0];
}

int64_t parse_parent(std::string_view stat) {
  const std::string_view rest = after_name(stat);
  int64_t parent = 0;
  if (rest.size() > 2) std::from_chars(rest.data() + 2, rest.data() + rest.size(), parent);
  return parent;
}

bool parse_inner_init(std::string_view status) {
  constexpr std::string_view kField = "\nNSpid:";
  const size_t at = status.find(kField);
  if (at == std::string_view::npos) return false;
  std::string_view line = status.substr(at + kField.size());
  line = line.substr(0, line.find('\n'));
  // The numbers from our namespace inwards: exactly one below ours, and there it is the first.
  std::vector<std::string_view> numbers;
  while (true) {
    const size_t begin = line.find_first_not_of(" \t");
    if (begin == std::string_view::npos) break;
    line.remove_prefix(begin);
    const size_t end = std::min(line.find_first_of(" \t"), line.size());
    numbers.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
  return numbers.size() == 2 && numbers[1] == "1";
}

std::optional<ProcessView> view_process(int64_t pid) {
  ProcessView view;
  view.pid = pid;
  view.argv = parse_cmdline(read_proc(pid, "cmdline"));
  // Threads of the kernel have none, and neither has a process that has ended.
  if (view.argv.empty()) return std::nullopt;
  const std::string stat_text = read_proc(pid, "stat");
  view.state = parse_process_state(stat_text);
  view.parent = parse_parent(stat_text);
  if (view.state == 'Z' || view.state == 'X') return std::nullopt;
  view.inner_init = parse_inner_init(read_proc(pid, "status"));
  struct stat about {};
  if (stat(fmt::format("/proc/{}/ns/pid", pid).c_str(), &about) != 0) return std::nullopt;
  view.pid_namespace = about.st_ino;
  if (stat(fmt::format("/proc/{}", pid).c_str(), &about) != 0) return std::nullopt;
  view.owner = about.st_uid;
  return view;
}

std::vector<ProcessView> list_processes() {
  std::vector<ProcessView> out;
  DIR* dir = opendir("/proc");
  if (dir == nullptr) return out;
  while (const dirent* entry = readdir(dir)) {
    int64_t pid = 0;
    const char* end = entry->d_name + std::strlen(entry->d_name);
    if (std::from_chars(entry->d_name, end, pid).ptr != end) continue;
    if (auto view = view_process(pid)) out.push_back(*std::move(view));
  }
  closedir(dir);
  return out;
}

std::vector<InitProcess> find_inits(const std::string& base) {
  std::vector<InitProcess> out;
  for (const ProcessView& candidate : list_processes()) {
    InitProcess init;
    const auto is = [&](const ProcessView& view) {
      return is_init(view, &init.lab_dir, &init.node) &&
             (init.lab_dir == base || init.lab_dir.starts_with(base + "/"));
    };
    if (!is(candidate)) continue;
    auto held = hold(candidate.pid, is);
    if (!held) continue;
    init.process = *std::move(held);
    out.push_back(std::move(init));
  }
  return out;
}

std::optional<InitProcess> find_init(const std::string& lab_dir, const std::string& node) {
  for (InitProcess& init : find_inits(lab_dir)) {
    if (init.lab_dir == lab_dir && init.node == node) return std::move(init);
  }
  return std::nullopt;
}

std::optional<Held> find_in_node(const InitProcess& init, std::string_view word) {
  const auto is = [&](const ProcessView& view) {
    return view.parent == init.process.view.pid &&
           std::find(view.argv.begin(), view.argv.end(), word) != view.argv.end();
  };
  for (const ProcessView& candidate : list_processes()) {
    if (!is(candidate)) continue;
    if (auto held = hold(candidate.pid, is)) return held;
  }
  return std::nullopt;
}

Status signal_process(const Held& process, int signal) {
  if (syscall(SYS_pidfd_send_signal, process.pidfd.get(), signal, nullptr, 0) == 0 ||
      errno == ESRCH) {
    return ok_status();
  }
  return errno_status(errno, fmt::format("signal process {}", process.view.pid));
}

Status await_end(const Held& process, Duration timeout) {
  pollfd ended{process.pidfd.get(), POLLIN, 0};
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count();
  if (poll(&ended, 1, static_cast<int>(ms)) == 1) return ok_status();
  return Status(StatusCode::kDeadlineExceeded,
                fmt::format("process {} ({}) did not end within {}", process.view.pid,
                            process.view.argv[0], format_duration(timeout)));
}

}  // namespace muster::deploy::lab
