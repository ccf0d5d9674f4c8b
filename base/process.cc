#include "base/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>

extern char** environ;

namespace muster {
namespace {

struct SpawnSettings {
  SpawnSettings() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (const std::string& s : strings) result.push_back(const_cast<char*>(s.c_str()));
  result.push_back(nullptr);
  return result;
}

// Above every number that a child may want, so that placing one descriptor in the child never
// overwrites another one that is still to be placed.
constexpr int kSafeFdMin = 256;

Result<UniqueFd> lift(int fd) {
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, kSafeFdMin));
  if (!copy) return fail(errno_status(errno, "cannot duplicate a descriptor"));
  return copy;
}

// Prepares one standard stream of the child; `ours` gets our end when it is a pipe, `theirs` the
// end that has to stay open until the spawn.
Status plan_stream(SpawnSettings& settings, ProcessOptions::Stream kind, int number, UniqueFd& ours,
                   UniqueFd& theirs) {
  switch (kind) {
    case ProcessOptions::Stream::kInherit: return ok_status();
    case ProcessOptions::Stream::kNull:
      posix_spawn_file_actions_addopen(&settings.actions, number, "/dev/null",
                                       number == 0 ? O_RDONLY : O_WRONLY, 0);
      return ok_status();
    case ProcessOptions::Stream::kPipe: break;
  }
  MUSTER_ASSIGN(auto ends, make_pipe());
  ours = std::move(number == 0 ? ends.second : ends.first);
  MUSTER_ASSIGN(theirs, lift(number == 0 ? ends.first.get() : ends.second.get()));
  posix_spawn_file_actions_adddup2(&settings.actions, theirs.get(), number);
  return ok_status();
}

void plan_attributes(SpawnSettings& settings, const ProcessOptions& options) {
  sigset_t all;
  sigset_t none;
  sigfillset(&all);
  sigemptyset(&none);
  posix_spawnattr_setsigdefault(&settings.attributes, &all);
  posix_spawnattr_setsigmask(&settings.attributes, &none);
  int flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
  if (options.new_session) flags |= POSIX_SPAWN_SETSID;
  posix_spawnattr_setflags(&settings.attributes, static_cast<short>(flags));
}

TimePoint steady_now() {
  return {std::chrono::steady_clock::now().time_since_epoch()};
}

}  // namespace

Result<std::pair<UniqueFd, UniqueFd>> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail(errno_status(errno, "cannot create a pipe"));
  return std::make_pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

UniqueFd open_pidfd(int64_t pid) {
  return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, static_cast<pid_t>(pid), 0)));
}

std::string find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return access(name.c_str(), X_OK) == 0 ? name : "";
  const char* set = getenv("PATH");
  const std::string path = std::string(set == nullptr ? "" : set) +
                           ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find(':', begin), path.size());
    const std::string candidate = path.substr(begin, end - begin) + "/" + name;
    if (end > begin && access(candidate.c_str(), X_OK) == 0) return candidate;
    begin = end + 1;
  }
  return "";
}

std::string ProcessExit::to_string() const {
  if (signal != 0) return fmt::format("signal {} ({})", signal, sigdescr_np(signal));
  return fmt::format("exit status {}", code);
}

Result<Process> Process::spawn(const ProcessOptions& options) {
  if (options.argv.empty()) return fail(invalid_argument("no program to run"));
  SpawnSettings settings;
  plan_attributes(settings, options);
  UniqueFd ours[3];
  UniqueFd theirs[3];
  const ProcessOptions::Stream kinds[3] = {options.in, options.out, options.err};
  for (int i = 0; i < 3; ++i) {
    MUSTER_TRY(plan_stream(settings, kinds[i], i, ours[i], theirs[i]));
  }
  std::vector<UniqueFd> lifted;
  int first_unused = 3;
  for (const auto& [our, child] : options.inherit) {
    MUSTER_ASSIGN(UniqueFd copy, lift(our));
    posix_spawn_file_actions_adddup2(&settings.actions, copy.get(), child);
    lifted.push_back(std::move(copy));
    first_unused = std::max(first_unused, child + 1);
  }
  posix_spawn_file_actions_addclosefrom_np(&settings.actions, first_unused);
  if (!options.working_dir.empty()) {
    posix_spawn_file_actions_addchdir_np(&settings.actions, options.working_dir.c_str());
  }
  const auto argv = pointers(options.argv);
  // Named, since what pointers() returns points into it.
  const std::vector<std::string> environment = options.env.value_or(std::vector<std::string>{});
  const auto env = pointers(environment);
  pid_t pid = -1;
  const int error = posix_spawnp(&pid, argv[0], &settings.actions, &settings.attributes,
                                 argv.data(), options.env ? env.data() : environ);
  if (error == ENOENT) {
    return fail(not_found("{}: executable file not found", options.argv[0]));
  }
  if (error != 0) return fail(errno_status(error, fmt::format("cannot run {}", options.argv[0])));
  // Nobody else reaps our children, so the number is still its own here.
  UniqueFd pidfd = open_pidfd(pid);
  if (!pidfd) {
    const int saved = errno;
    ::kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return fail(errno_status(saved, "cannot open a pidfd"));
  }
  Process process(pid, std::move(pidfd));
  process.stdin_pipe = std::move(ours[0]);
  process.stdout_pipe = std::move(ours[1]);
  process.stderr_pipe = std::move(ours[2]);
  return process;
}

Process::Process(Process&& other) noexcept
    : stdin_pipe(std::move(other.stdin_pipe)),
      stdout_pipe(std::move(other.stdout_pipe)),
      stderr_pipe(std::move(other.stderr_pipe)),
      pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::move(other.pidfd_)),
      reaped_(other.reaped_) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this == &other) return *this;
  end();
  stdin_pipe = std::move(other.stdin_pipe);
  stdout_pipe = std::move(other.stdout_pipe);
  stderr_pipe = std::move(other.stderr_pipe);
  pid_ = std::exchange(other.pid_, -1);
  pidfd_ = std::move(other.pidfd_);
  reaped_ = other.reaped_;
  return *this;
}

Process::~Process() {
  end();
}

void Process::end() noexcept {
  if (pid_ <= 0 || reaped_) return;
  ::kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  reaped_ = true;
}

void Process::detach() {
  reaped_ = true;
}

Status Process::kill(int signal) {
  if (reaped_) return ok_status();
  if (syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0) != 0 && errno != ESRCH) {
    return errno_status(errno, fmt::format("cannot signal process {}", pid_));
  }
  return ok_status();
}

Result<std::optional<ProcessExit>> Process::wait(Duration timeout) {
  if (reaped_) return fail(failed_precondition("process {} has been waited for already", pid_));
  const TimePoint deadline = steady_now() + timeout;
  while (timeout >= Duration(0)) {
    const Duration left = std::max(deadline - steady_now(), Duration(0));
    pollfd waiter{pidfd_.get(), POLLIN, 0};
    // Rounded up, so that the last round does not spin.
    const auto left_ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
    const int n = poll(&waiter, 1, static_cast<int>(std::min<int64_t>(left_ms, 1 << 30)));
    if (n < 0 && errno != EINTR) return fail(errno_status(errno, "cannot poll"));
    if (n > 0) break;
    if (n == 0 && steady_now() >= deadline) return std::optional<ProcessExit>();
  }
  siginfo_t info{};
  while (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED) != 0) {
    if (errno != EINTR) return fail(errno_status(errno, fmt::format("cannot wait for {}", pid_)));
  }
  reaped_ = true;
  ProcessExit exit;
  (info.si_code == CLD_EXITED ? exit.code : exit.signal) = info.si_status;
  return std::optional<ProcessExit>(exit);
}

namespace {

// Collects the two output streams and feeds the input, all without blocking on any of them.
class Exchange {
 public:
  Exchange(Process& process, const RunOptions& run) : process_(process), run_(run) {
    for (UniqueFd* fd : {&process.stdin_pipe, &process.stdout_pipe, &process.stderr_pipe}) {
      if (*fd) fcntl(fd->get(), F_SETFL, O_NONBLOCK);
    }
    if (run.input.empty()) process.stdin_pipe.reset();
  }

  bool streams_open() const { return process_.stdout_pipe || process_.stderr_pipe; }

  // One round of at most `timeout`.
  Status step(Duration timeout, RunResult& result) {
    pollfd fds[4] = {{process_.stdin_pipe.get(), POLLOUT, 0},
                     {process_.stdout_pipe.get(), POLLIN, 0},
                     {process_.stderr_pipe.get(), POLLIN, 0},
                     {process_.pidfd(), POLLIN, 0}};
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(timeout).count();
    if (poll(fds, 4, static_cast<int>(std::max<int64_t>(ms, 0))) < 0 && errno != EINTR) {
      return errno_status(errno, "cannot poll");
    }
    if (fds[0].revents != 0) feed();
    if (fds[1].revents != 0) {
      drain(process_.stdout_pipe, result.out);
      if (result.out.size() > run_.output_bytes_max) {
        return resource_exhausted("the output is larger than {} bytes", run_.output_bytes_max);
      }
    }
    if (fds[2].revents != 0) {
      drain(process_.stderr_pipe, result.err);
      if (result.err.size() > run_.output_bytes_max) {
        result.err.erase(0, result.err.size() - run_.output_bytes_max);
      }
    }
    // A grandchild may hold the pipes open for ever; what the child itself said is there by now.
    if (fds[3].revents != 0 && fds[1].revents == 0 && fds[2].revents == 0) {
      process_.stdout_pipe.reset();
      process_.stderr_pipe.reset();
    }
    return ok_status();
  }

 private:
  void feed() {
    const ssize_t n =
        write(process_.stdin_pipe.get(), run_.input.data() + fed_, run_.input.size() - fed_);
    if (n > 0) fed_ += static_cast<size_t>(n);
    const bool broken = n < 0 && errno != EAGAIN && errno != EINTR;
    if (broken || fed_ == run_.input.size()) process_.stdin_pipe.reset();
  }

  static void drain(UniqueFd& fd, std::string& to) {
    char buffer[16384];
    const ssize_t n = read(fd.get(), buffer, sizeof buffer);
    if (n > 0) to.append(buffer, static_cast<size_t>(n));
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) fd.reset();
  }

  Process& process_;
  const RunOptions& run_;
  size_t fed_ = 0;
};

// Writing to a child that has closed its input must be an error, not a signal that ends us.
class PipeSignalBlock {
 public:
  PipeSignalBlock() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  PipeSignalBlock(const PipeSignalBlock&) = delete;
  PipeSignalBlock& operator=(const PipeSignalBlock&) = delete;
  ~PipeSignalBlock() {
    const timespec zero{};
    while (sigtimedwait(&pipe_, nullptr, &zero) > 0) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t pipe_;
  sigset_t before_;
};

}  // namespace

Result<RunResult> run_process(ProcessOptions options, const RunOptions& run) {
  options.in = run.input.empty() ? ProcessOptions::Stream::kNull : ProcessOptions::Stream::kPipe;
  options.out = ProcessOptions::Stream::kPipe;
  options.err = ProcessOptions::Stream::kPipe;
  const PipeSignalBlock no_sigpipe;
  MUSTER_ASSIGN(Process process, Process::spawn(options));
  RunResult result;
  Exchange exchange(process, run);
  const TimePoint deadline = steady_now() + run.timeout;
  TimePoint next_tick = steady_now() + run.poll_period;
  std::optional<ProcessExit> exit;
  while (!exit) {
    const TimePoint now = steady_now();
    if (now >= deadline) {
      return fail(
          StatusCode::kDeadlineExceeded,
          fmt::format("{} did not end within {}", options.argv[0], format_duration(run.timeout)));
    }
    if (run.cancelled && run.cancelled()) {
      return fail(StatusCode::kCancelled, fmt::format("{} was cancelled", options.argv[0]));
    }
    if (now >= next_tick) {
      if (run.tick) run.tick();
      next_tick = now + run.poll_period;
    }
    const Duration slice = std::min(deadline, next_tick) - now;
    if (exchange.streams_open()) {
      MUSTER_TRY(exchange.step(slice, result));
    } else {
      MUSTER_ASSIGN(exit, process.wait(slice));
    }
  }
  result.exit = *exit;
  return result;
}

}  // namespace muster
