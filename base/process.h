#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "base/time.h"
#include "base/unique_fd.h"

namespace muster {

// What to run and with what around it. The child gets default signal dispositions, an empty signal
// mask, a session of its own when asked for, and no descriptor but the three standard ones and
// those in `inherit`.
struct ProcessOptions {
  std::vector<std::string> argv;  // argv[0] is looked up in PATH unless it holds a slash
  // The whole environment, "K=V"; nullopt inherits ours.
  std::optional<std::vector<std::string>> env;
  std::string working_dir;   // empty = ours
  bool new_session = false;  // setsid: the child survives our terminal and our group's signals

  enum class Stream { kNull, kInherit, kPipe };
  Stream in = Stream::kNull;
  Stream out = Stream::kNull;
  Stream err = Stream::kNull;
  // Our descriptor and its number in the child: 3, 4, ... without a gap, since everything above
  // them is closed; or 0 to 2, instead of the stream above.
  std::vector<std::pair<int, int>> inherit;
};

struct ProcessExit {
  int code = 0;    // exit code; 0 when a signal ended it
  int signal = 0;  // the signal that ended it, or 0

  bool success() const { return code == 0 && signal == 0; }
  // "exit status 3" or "signal 9 (Killed)".
  std::string to_string() const;
};

// A child process, started with posix_spawn (never fork: the daemon has many threads and gigabytes
// of memory). Not thread-safe. A child not waited for is killed and reaped by the destructor, so
// nothing is left behind on an error path; call detach() for one that has to outlive us.
class Process {
 public:
  // NOT_FOUND "NAME: executable file not found" when there is no such program.
  static Result<Process> spawn(const ProcessOptions& options);

  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();

  pid_t pid() const { return pid_; }
  // Readable when the child has ended; for epoll. Owned by the object.
  int pidfd() const { return pidfd_.get(); }

  // Our ends of the streams that were asked to be pipes; take them, or leave them to be closed.
  UniqueFd stdin_pipe;
  UniqueFd stdout_pipe;
  UniqueFd stderr_pipe;

  // The exit if the child has ended, nullopt if `timeout` passed before (negative = no limit).
  Result<std::optional<ProcessExit>> wait(Duration timeout);
  // Signals the child through its pidfd: never another process that got its number.
  Status kill(int signal);
  // Gives up the child: neither killed nor reaped by the destructor.
  void detach();

 private:
  Process(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  void end() noexcept;

  pid_t pid_ = -1;
  UniqueFd pidfd_;
  bool reaped_ = false;
};

struct RunOptions {
  std::string input;                  // written to the child's standard input
  Duration timeout = 60s;             // then the child is killed: DEADLINE_EXCEEDED
  size_t output_bytes_max = 1 << 20;  // per stream; stdout beyond it: RESOURCE_EXHAUSTED
  // Asked about every `poll_period`; true kills the child: CANCELLED.
  std::function<bool()> cancelled;
  // Called from the waiting thread about every `poll_period`; for progress.
  std::function<void()> tick;
  Duration poll_period = 100ms;
};

struct RunResult {
  ProcessExit exit;
  std::string out;
  std::string err;  // the last `output_bytes_max` bytes
};

// Runs a program to its end and collects what it says. A non-zero exit is a result, not an error;
// the process is certain to be gone when this returns. `in`, `out`, `err` of `options` are ignored.
Result<RunResult> run_process(ProcessOptions options, const RunOptions& run = {});

// A close-on-exec pipe: read end, write end.
Result<std::pair<UniqueFd, UniqueFd>> make_pipe();

// pidfd_open(2): holds on to a process whose number may be used again. Whoever read the number from
// somewhere has to look once more, with the descriptor in hand, whether it is still the one meant.
UniqueFd open_pidfd(int64_t pid);

// The path of a program: looked up in PATH, then in the usual folders, which a daemon's PATH may
// lack. Empty when there is none.
std::string find_program(const std::string& name);

}  // namespace muster
