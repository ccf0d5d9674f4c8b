#include "agent/runtime/conmon_runtime.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <filesystem>

#include "agent/runtime/oci_bundle.h"
#include "agent/runtime/process_tree.h"
#include "agent/runtime/user_lookup.h"
#include "base/file.h"
#include "base/process.h"
#include "base/remove_tree.h"

namespace muster::agent {
namespace {

namespace fs = std::filesystem;

// A runtime that has not answered by then is killed; the slowest seen under load took 3 s.
constexpr Duration kCreateTimeout = 60s;
constexpr size_t kUserFileBytesMax = 4 << 20;
constexpr const char* kMonitors = "monitors";

Result<int64_t> read_number(const std::string& path) {
  MUSTER_ASSIGN(const std::string text, read_file(path, 64));
  int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  if (value <= 0) return fail(data_loss("{} holds no pid", path));
  return value;
}

std::vector<std::string> entries(const std::string& directory) {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.empty() && name[0] != '.') out.push_back(name);
  }
  return out;
}

std::string version_line(const std::string& program) {
  ProcessOptions process;
  process.argv = {program, "--version"};
  process.env = std::vector<std::string>{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  const auto said = run_process(process);
  if (!said) return "";
  // "crun version 1.8.1\n..." to "crun 1.8.1".
  std::string line = said->out.substr(0, said->out.find('\n'));
  if (const size_t at = line.find(" version "); at != std::string::npos) line.erase(at, 8);
  return line;
}

// What conmon reports over its sync pipe: {"data": pid} or {"data": -1, "message": "..."}.
struct SyncReport {
  int64_t pid = -1;
  std::string message;
};

Status not_created_in_time() {
  return Status(
      StatusCode::kDeadlineExceeded,
      fmt::format("the container was not created within {}", format_duration(kCreateTimeout)));
}

Result<SyncReport> read_sync(int fd) {
  std::string text;
  while (true) {
    struct pollfd ready {
      fd, POLLIN, 0
    };
    const int count = ::poll(&ready, 1, static_cast<int>(kCreateTimeout / 1ms));
    if (count < 0 && errno == EINTR) continue;
    if (count == 0) return fail(not_created_in_time());
    char buffer[4096];
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(buffer, static_cast<size_t>(got));
    if (text.back() == '\n') break;
  }
  boost::json::error_code error;
  const boost::json::value value = boost::json::parse(text, error);
  if (error || !value.is_object()) return fail(internal_error("the monitor ended early"));
  SyncReport out;
  const boost::json::object& object = value.as_object();
  if (const auto* data = object.if_contains("data"); data != nullptr && data->is_int64()) {
    out.pid = data->as_int64();
  }
  if (const auto* message = object.if_contains("message");
      message != nullptr && message->is_string()) {
    out.message = std::string(message->as_string());
  }
  return out;
}

// Whether the process holds the FIFO on which a created container waits for its start. Opening the
// FIFO would tell as well, but wake the container.
bool waits_at(const std::string& fifo, int64_t pid) {
  struct stat wanted {};
  if (::stat(fifo.c_str(), &wanted) != 0) return false;
  const std::string directory = fmt::format("/proc/{}/fd", pid);
  for (const std::string& name : entries(directory)) {
    struct stat held {};
    if (::stat((directory + "/" + name).c_str(), &held) == 0 && held.st_ino == wanted.st_ino &&
        held.st_dev == wanted.st_dev) {
      return true;
    }
  }
  return false;
}

}  // namespace

BundlePaths::BundlePaths(const std::string& dir)
    : config(dir + "/config.json"),
      pid(dir + "/pid"),
      monitor_pid(dir + "/conmon.pid"),
      log(dir + "/container.log"),
      monitor_log(dir + "/conmon.log"),
      control(dir + "/ctl") {}

ConmonRuntime::ConmonRuntime(RuntimeOptions options, HostFacts host, Log log)
    : options_(std::move(options)),
      host_(std::move(host)),
      log_(std::move(log)),
      cgroups_(host_.cgroups) {
  host_.allow_privileged = options_.allow_privileged;
  host_.init_by_default = options_.init_by_default;
}

Status ConmonRuntime::open() {
  if (options_.instance_id.empty() || options_.run_dir.empty()) {
    return invalid_argument("the runtime needs an instance id and a run directory");
  }
  const std::string name = fs::path(options_.runtime).filename().string();
  is_crun_ = name != "runc";
  runtime_path_ = find_program(options_.runtime);
  if (runtime_path_.empty()) {
    return unavailable("container runtime {} not found in PATH; install the package {}",
                       options_.runtime, name);
  }
  monitor_path_ = find_program(options_.monitor);
  if (monitor_path_.empty()) {
    return unavailable("container monitor {} not found in PATH; install the package conmon",
                       options_.monitor);
  }
  use_shim_ = is_crun_ && host_.cgroups == CgroupVersion::kHybrid;
  if (use_shim_) {
    std::error_code error;
    const fs::path self = fs::read_symlink("/proc/self/exe", error);
    const std::string beside = (self.parent_path() / "muster-runtime-shim").string();
    for (const std::string& path :
         {options_.shim, beside, std::string("/usr/libexec/muster/muster-runtime-shim")}) {
      if (path.empty() || ::access(path.c_str(), X_OK) != 0) continue;
      options_.shim = path;
      break;
    }
    if (options_.shim.empty() || ::access(options_.shim.c_str(), X_OK) != 0) {
      return unavailable(
          "muster-runtime-shim not found beside musterd; crun needs it on a host "
          "with hybrid cgroups");
    }
  }
  // Of processes that were run in containers by a killed predecessor.
  if (const Status status = remove_tree(exec_dir()); !status.ok()) {
    log_->warn("left-over exec sessions: {}", status.message());
  }
  for (const std::string& directory :
       {options_.run_dir, state_dir(), exit_dir(), socket_dir(), exec_dir()}) {
    MUSTER_TRY(make_directory(directory, 0700));
  }
  runtime_version_ = version_line(runtime_path_);
  MUSTER_ASSIGN(watcher_, ExitWatcher::create(exit_dir(), cgroups_, log_));
  return {};
}

RuntimeInfo ConmonRuntime::info() const {
  RuntimeInfo out;
  out.name = runtime_version_;
  out.cgroup_version = std::string(to_string(host_.cgroups));
  if (!host_.can_raise_limits) {
    out.limitations.push_back(
        "CAP_SYS_RESOURCE is missing: ulimits above musterd's own and lower oom_score_adj values "
        "are left out");
  }
  if (!host_.swap_accounting) {
    out.limitations.push_back("the kernel does not account swap: memory-swap is left out");
  }
  if (host_.init_path.empty()) {
    out.limitations.push_back("no init program found: --init needs the package tini");
  }
  return out;
}

Status ConmonRuntime::teardown() {
  const std::string any = cgroup_of("any");
  return cgroups_.kill_and_remove(any.substr(0, any.rfind('/')));
}

std::string ConmonRuntime::cgroup_of(const std::string& container_id) const {
  return cgroup_path(options_.instance_id, container_id);
}

std::vector<std::string> ConmonRuntime::runtime_command() const {
  return {use_shim_ ? options_.shim : runtime_path_, "--root", state_dir()};
}

std::vector<std::string> ConmonRuntime::runtime_env() const {
  return {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
          "MUSTER_OCI_RUNTIME=" + runtime_path_};
}

void ConmonRuntime::add_compiled_seccomp(boost::json::object& config) {
  // The profile stays in the document for a runtime that does not know the annotation.
  const auto* profile = config["linux"].as_object().if_contains("seccomp");
  if (!is_crun_ || profile == nullptr) return;
  const auto program = seccomp_.get(profile->as_object());
  if (program) {
    config["annotations"].as_object()["run.oci.seccomp_bpf_data"] = *program;
  } else {
    log_->warn("seccomp profile left to the runtime: {}", program.error().message());
  }
}

Status ConmonRuntime::write_bundle(const ContainerRequest& request) {
  ImageFiles files;
  MUSTER_ASSIGN(files.passwd, read_in_root(request.rootfs, "/etc/passwd", kUserFileBytesMax));
  MUSTER_ASSIGN(files.group, read_in_root(request.rootfs, "/etc/group", kUserFileBytesMax));
  MUSTER_ASSIGN(boost::json::object config, make_bundle(request, host_, files));
  add_compiled_seccomp(config);
  const auto& process = config.at("process").as_object();
  const auto& user = process.at("user").as_object();
  MUSTER_TRY(make_directory_in_root(request.rootfs, std::string(process.at("cwd").as_string()),
                                    user.at("uid").to_number<uint32_t>(),
                                    user.at("gid").to_number<uint32_t>()));
  return write_file_atomic(BundlePaths(request.bundle_dir).config, boost::json::serialize(config),
                           0600, Durability::kNone);
}

Result<int64_t> ConmonRuntime::create(const ContainerRequest& request) {
  const BundlePaths paths(request.bundle_dir);
  const v1::ContainerSpec& spec = request.spec.container();
  MUSTER_ASSIGN(auto sync, make_pipe());
  MUSTER_ASSIGN(auto go, make_pipe());
  const UniqueFd log(
      ::open(paths.monitor_log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!log) return fail(errno_status(errno, paths.monitor_log));

  ProcessOptions spawning;
  spawning.argv = {
      monitor_path_,
      "--api-version",
      "1",
      "--cid",
      request.container_id,
      "--cuuid",
      request.container_id,
      "--name",
      request.name,
      "--runtime",
      use_shim_ ? options_.shim : runtime_path_,
      "--runtime-arg",
      "--root",
      "--runtime-arg",
      state_dir(),
      "--bundle",
      request.bundle_dir,
      "--container-pidfile",
      paths.pid,
      "--conmon-pidfile",
      paths.monitor_pid,
      "--persist-dir",
      request.bundle_dir,
      "--exit-dir",
      exit_dir(),
      "--socket-dir-path",
      socket_dir(),
      "--log-path",
      request.log_driver.name() == "none" ? "k8s-file:/dev/null" : "k8s-file:" + paths.log,
      "--log-level",
      "error",
      "--no-sync-log"};
  if (spec.tty()) spawning.argv.push_back("--terminal");
  if (spec.open_stdin()) {
    spawning.argv.push_back("--stdin");
    spawning.argv.push_back("--leave-stdin-open");
  }
  spawning.env = runtime_env();
  spawning.env->push_back("_OCI_SYNCPIPE=3");
  spawning.env->push_back("_OCI_STARTPIPE=4");
  spawning.inherit = {{log.get(), 2}, {sync.second.get(), 3}, {go.first.get(), 4}};
  spawning.working_dir = request.bundle_dir;
  spawning.new_session = true;
  MUSTER_ASSIGN(Process monitor, Process::spawn(spawning));
  sync.second.reset();
  go.first.reset();
  // conmon waits on the start pipe, so that it is out of our cgroup before it makes children.
  const Status moved =
      cgroups_.adopt_process(cgroup_path(options_.instance_id, kMonitors), monitor.pid());
  if (!moved.ok()) log_->debug("container {}: {}", request.container_id, moved.to_string());
  [[maybe_unused]] const ssize_t written = ::write(go.second.get(), "\n", 1);
  go.second.reset();
  // The first process of conmon only forks the monitor proper and ends.
  MUSTER_ASSIGN(const auto forked, monitor.wait(kCreateTimeout));
  if (!forked) return fail(not_created_in_time());
  MUSTER_ASSIGN(const SyncReport report, read_sync(sync.first.get()));
  if (report.pid > 0) return report.pid;
  std::string program;
  if (const auto args = container_args(spec, request.image)) program = args->front();
  return fail(explain_runtime_error(report.message, program));
}

Status ConmonRuntime::release(const std::string& container_id) {
  // The container's first process waits for a byte in its FIFO; `crun start` would do no more
  // than this, at the price of two program starts. crun opens the reading end before it makes that
  // process, so there is a reader as long as the process lives.
  const std::string fifo = container_state_dir(container_id) + "/exec.fifo";
  if (is_crun_) {
    const UniqueFd fd(::open(fifo.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
    if (fd) {
      if (::write(fd.get(), "x", 1) != 1) return errno_status(errno, "starting the container");
      ::unlink(fifo.c_str());
      return {};
    }
    if (errno == ENXIO) return internal_error("the container ended before it was started");
  }
  ProcessOptions start;
  start.argv = runtime_command();
  start.argv.insert(start.argv.end(), {"start", container_id});
  start.env = runtime_env();
  MUSTER_ASSIGN(const RunResult result, run_process(start));
  return result.exit.success() ? Status() : explain_runtime_error(result.err, "");
}

Result<ContainerState> ConmonRuntime::start(const ContainerRequest& request) {
  if (::access(runtime_path_.c_str(), X_OK) != 0) {
    return fail(unavailable("container runtime {} not found in PATH; install the package {}",
                            options_.runtime, options_.runtime));
  }
  MUSTER_TRY(write_bundle(request));
  auto pid = create(request);
  Status started = pid ? release(request.container_id) : pid.error();
  if (!started.ok()) {
    if (const Status status = remove(request.container_id, request.bundle_dir); !status.ok()) {
      log_->warn("container {}: {}", request.container_id, status.message());
    }
    return fail(started);
  }
  ContainerState state;
  state.phase = ContainerState::Phase::kRunning;
  state.pid = *pid;
  return state;
}

UniqueFd ConmonRuntime::open_monitor(const std::string& container_id,
                                     const std::string& bundle_dir) const {
  const auto pid = read_number(BundlePaths(bundle_dir).monitor_pid);
  if (!pid) return {};
  UniqueFd monitor = open_pidfd(*pid);
  // Numbers are used again: believe it only if the process, now pinned, speaks of this container.
  const auto line = read_file(fmt::format("/proc/{}/cmdline", *pid), 1 << 16);
  if (!line || line->find(container_id) == std::string::npos) return {};
  return monitor;
}

Status ConmonRuntime::watch_exit(const std::string& container_id, const std::string& bundle_dir,
                                 std::function<void(ContainerExit)> exited) {
  return watcher_->watch({container_id, cgroup_of(container_id), bundle_dir},
                         open_monitor(container_id, bundle_dir), std::move(exited));
}

Result<ContainerState> ConmonRuntime::inspect(const std::string& container_id,
                                              const std::string& bundle_dir) {
  ContainerState state;
  const ExitSource source{container_id, cgroup_of(container_id), bundle_dir};
  state.exit = watcher_->read_exit(source);
  if (state.exit) {
    state.phase = ContainerState::Phase::kExited;
    return state;
  }
  const auto pid = read_number(BundlePaths(bundle_dir).pid);
  if (pid && cgroups_.contains(source.cgroup, *pid)) {
    state.pid = *pid;
    const std::string fifo = container_state_dir(container_id) + "/exec.fifo";
    state.phase =
        waits_at(fifo, *pid) ? ContainerState::Phase::kCreated : ContainerState::Phase::kRunning;
    return state;
  }
  // The process has just ended and its monitor is about to say how.
  if (pid && open_monitor(container_id, bundle_dir)) {
    state.phase = ContainerState::Phase::kRunning;
    state.pid = *pid;
  }
  return state;
}

Result<int64_t> ConmonRuntime::first_process(const std::string& container_id) const {
  // Both runtimes keep the pid in their state; its first field of that kind is enough.
  for (const char* name : {"status", "state.json"}) {
    const auto text = read_file(container_state_dir(container_id) + "/" + name, 1 << 20);
    if (!text) continue;
    boost::json::error_code error;
    const boost::json::value value = boost::json::parse(*text, error);
    if (error || !value.is_object()) continue;
    for (const char* key : {"pid", "init_process_pid"}) {
      const auto* pid = value.as_object().if_contains(key);
      if (pid == nullptr || !pid->is_int64()) continue;
      if (cgroups_.contains(cgroup_of(container_id), pid->as_int64())) return pid->as_int64();
    }
  }
  return fail(not_found("container {} is not running", container_id.substr(0, 12)));
}

bool ConmonRuntime::is_alive(const std::string& container_id) const {
  const auto pid = first_process(container_id);
  if (!pid) return false;
  const auto stat = read_process_stat(*pid);
  return stat && !stat->ending;
}

Status ConmonRuntime::kill(const std::string& container_id, int signal) {
  const auto pid = first_process(container_id);
  if (!pid) return {};
  const UniqueFd process = open_pidfd(*pid);
  // Looked at again once it is pinned: the number may have changed hands.
  if (!process || !cgroups_.contains(cgroup_of(container_id), *pid)) return {};
  if (::syscall(SYS_pidfd_send_signal, process.get(), signal, nullptr, 0) != 0 && errno != ESRCH) {
    return errno_status(errno, "signalling container " + container_id.substr(0, 12));
  }
  return {};
}

Status ConmonRuntime::remove(const std::string& container_id, const std::string& bundle_dir) {
  watcher_->forget(container_id);
  MUSTER_TRY(cgroups_.kill_and_remove(cgroup_of(container_id)));
  // With its container gone conmon ends by itself once it has drained the output.
  if (const UniqueFd monitor = open_monitor(container_id, bundle_dir)) {
    struct pollfd ended {
      monitor.get(), POLLIN, 0
    };
    if (::poll(&ended, 1, 1000) == 0) {
      ::syscall(SYS_pidfd_send_signal, monitor.get(), SIGKILL, nullptr, 0);
    }
  }
  MUSTER_TRY(remove_tree(container_state_dir(container_id)).with_context("container state"));
  for (const std::string& path :
       {exit_dir() + "/" + container_id, socket_dir() + "/" + container_id}) {
    ::unlink(path.c_str());
  }
  if (!bundle_dir.empty()) {
    const BundlePaths paths(bundle_dir);
    for (const std::string& path :
         {paths.pid, paths.monitor_pid, paths.control, bundle_dir + "/winsz",
          bundle_dir + "/attach", bundle_dir + "/oom", bundle_dir + "/exit"}) {
      ::unlink(path.c_str());
    }
  }
  return {};
}

Result<std::vector<std::string>> ConmonRuntime::list() {
  std::vector<std::string> out = entries(state_dir());
  for (std::string& name : cgroups_.children("/muster/" + options_.instance_id)) {
    if (name != kMonitors && name != kNetdCgroup) out.push_back(std::move(name));
  }
  for (std::string& name : entries(exit_dir())) out.push_back(std::move(name));
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

Status explain_runtime_error(std::string_view output, const std::string& program) {
  std::string text(output);
  // runc writes log lines: the message is what counts.
  if (const size_t at = text.rfind("msg=\""); at != std::string::npos) {
    std::string message;
    for (size_t i = at + 5; i < text.size() && text[i] != '"'; ++i) {
      if (text[i] == '\\' && i + 1 < text.size()) ++i;
      message.push_back(text[i]);
    }
    text = message;
  }
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  const auto has = [&](const char* word) { return text.find(word) != std::string::npos; };
  const bool about_program = has("executable") || has("exec:") || has("exec `");
  if (!program.empty() && about_program &&
      (has("not found") || has("No such file") || has("no such file"))) {
    return not_found("command not found: \"{}\"", program);
  }
  if (!program.empty() && about_program && (has("Permission denied") || has("permission denied"))) {
    return permission_denied("permission denied: \"{}\" is not executable", program);
  }
  if (text.empty()) text = "the container runtime gave no reason";
  return internal_error("cannot create the container: {}", text);
}

Result<std::unique_ptr<ConmonRuntime>> make_runtime(RuntimeOptions options, Log log) {
  auto runtime = std::make_unique<ConmonRuntime>(std::move(options), probe_host(), std::move(log));
  MUSTER_TRY(runtime->open());
  return runtime;
}

}  // namespace muster::agent
