#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "agent/runtime/conmon_runtime.h"
#include "base/process.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace muster::agent {

struct ExecRequest {
  std::string container_id;
  std::string bundle_dir;
  std::string rootfs;  // for user names; empty = numbers only
  std::vector<std::string> command;
  bool tty = false;
  bool open_stdin = false;
  std::vector<std::string> env;  // added to the container's
  std::string dir;               // empty = the container's
  std::string user;              // user[:group]; empty = the container's
  bool privileged = false;
  // When it is killed, so is all it has started, whatever sessions and groups that is in; only what
  // has made itself the container's own child in time is left.
  bool kill_tree = false;
  uint32_t rows = 0;  // of the terminal; 0 = unknown
  uint32_t columns = 0;
};

// Called on the session's thread, `done` last and once: the exit code, or why there is none.
struct ExecEvents {
  std::function<void(std::string_view)> out;
  std::function<void(std::string_view)> err;  // never with a terminal
  std::function<void()> input_taken;          // some input has left the queue; may be empty
  std::function<void(Result<int>)> done;
};

// A process in a running container, with a thread of its own to carry its input and output.
// Destruction kills the process with its session and waits for `done` to have returned; it must
// not happen inside an event. Methods are thread-safe.
class ExecSession {
 public:
  // Input that the process does not read is kept up to this; beyond, write_input() fails with
  // RESOURCE_EXHAUSTED and takes nothing: try again after `input_taken`.
  static constexpr size_t kInputBytesMax = 4 << 20;
  // Output read after the command's end: more than a pipe holds. What comes then is of processes it
  // has left behind, of which nobody waits for the end.
  static constexpr size_t kRestBytesMax = 1 << 20;

  // NOT_FOUND when the container does not run; errors of the command itself come through
  // `events.done`: NOT_FOUND "command not found: \"x\"", PERMISSION_DENIED.
  static Result<std::unique_ptr<ExecSession>> start(const ConmonRuntime& runtime,
                                                    const ExecRequest& request, ExecEvents events);
  ~ExecSession();

  Status write_input(std::string_view data);
  void close_input();
  void resize(uint32_t rows, uint32_t columns);
  // SIGKILL to the process and its process group, or to its whole tree.
  void kill();
  // Whether the command itself runs or has run; until then it is the runtime's turn.
  bool has_begun() const;

 private:
  ExecSession() = default;
  Status open(const ConmonRuntime& runtime, const ExecRequest& request);
  Result<UniqueFd> open_terminal();
  Status receive_terminal(int listener);
  void run();
  bool pump();
  void read_ready(UniqueFd& fd, const std::function<void(std::string_view)>& sink, bool capture);
  void release_held();
  void write_ready();
  bool drain_input();
  void wake();
  bool was_killed();
  void kill_processes();
  UniqueFd open_command();
  Result<int> wait_child();

  ExecEvents events_;
  std::string program_;
  std::string directory_;  // with the process document, pid file and socket
  bool tty_ = false;
  bool kill_tree_ = false;
  bool ended_ = false;            // the command
  size_t rest_bytes_ = 0;         // read since
  bool copied_terminal_ = false;  // the runtime copies between ours and the container's
  std::optional<Process> child_;  // the OCI runtime's, whose exit code is the command's
  int64_t command_pid_ = 0;
  std::string container_cgroup_;
  std::optional<Cgroups> cgroups_;
  UniqueFd terminal_;  // instead of the three below
  UniqueFd stdin_;
  UniqueFd stdout_;
  UniqueFd stderr_;
  UniqueFd wake_;
  bool started_ = false;    // as far as stderr is concerned
  std::string held_;        // of stderr, while it is not
  std::string error_text_;  // the first KiB of stderr or the terminal, for a failed start
  std::mutex mutex_;
  std::string input_;
  bool input_closed_ = false;
  bool killed_ = false;
  std::thread thread_;
};

}  // namespace muster::agent
