#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "deploy/cli/commands.h"

namespace muster::deploy::cli {
namespace {

// The user's terminal without echo and line editing, for as long as it lives.
class RawTerminal {
 public:
  RawTerminal(int fd, bool enable) : fd_(fd) {
    if (!enable || tcgetattr(fd_, &before_) != 0) return;
    termios raw = before_;
    cfmakeraw(&raw);
    active_ = tcsetattr(fd_, TCSANOW, &raw) == 0;
  }
  ~RawTerminal() {
    if (active_) tcsetattr(fd_, TCSADRAIN, &before_);
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  int fd_;
  termios before_{};
  bool active_ = false;
};

v1::TerminalSize terminal_size(int fd) {
  winsize size{};
  v1::TerminalSize out;
  if (ioctl(fd, TIOCGWINSZ, &size) == 0) {
    out.set_rows(size.ws_row);
    out.set_columns(size.ws_col);
  }
  return out;
}

// What docker's exec returns when the command could not be started.
int start_failure_code(const Status& status) {
  return status.code() == StatusCode::kNotFound ? 127 : 126;
}

class ExecSession {
 public:
  ExecSession(Run& run, ExecStream& stream, bool tty, bool with_stdin, Signals& signals)
      : run_(run), stream_(stream), tty_(tty), reading_(with_stdin), signals_(signals) {}

  Result<int> pump() {
    for (;;) {
      v1::ExecOutput message;
      while (stream_.pop(&message)) {
        if (message.has_stdout()) run_.world.out(message.stdout());
        if (message.has_stderr()) run_.world.err(message.stderr());
        if (message.has_exit_code()) return message.exit_code();
      }
      if (stream_.ended()) {
        if (stream_.status().ok()) return 0;
        return fail(stream_.status());
      }
      const bool reads = reading_ && stream_.wants_input();
      wait_readable({stream_.fd(), signals_.fd(), reads ? run_.world.in_fd : -1}, std::nullopt);
      const int signal = signals_.pop();
      if (signal == SIGWINCH && tty_) send_size();
      // Left in an orderly way, so that the terminal gets its settings back.
      if (signal == SIGTERM || signal == SIGHUP) return 128 + signal;
      if (reads && input_waits()) send_input();
    }
  }

 private:
  bool input_waits() const {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(run_.world.in_fd, &set);
    timeval now{};
    return select(run_.world.in_fd + 1, &set, nullptr, nullptr, &now) > 0;
  }
  void send_size() {
    v1::ExecInput message;
    *message.mutable_resize() = terminal_size(run_.world.in_fd);
    stream_.write(std::move(message));
  }
  void send_input() {
    char buffer[32768];
    const ssize_t n = ::read(run_.world.in_fd, buffer, sizeof buffer);
    v1::ExecInput message;
    if (n > 0)
      message.set_stdin(buffer, static_cast<size_t>(n));
    else
      message.set_stdin_closed(true);
    if (n <= 0) reading_ = false;
    stream_.write(std::move(message));
  }

  Run& run_;
  ExecStream& stream_;
  const bool tty_;
  bool reading_;
  Signals& signals_;
};

}  // namespace

Result<int> container_exec(Run& run) {
  v1::ExecInput first;
  auto* start = first.mutable_start();
  bool interactive = false, tty = false, detach = false, privileged = false;
  std::string user, dir, detach_keys;
  std::vector<std::string> env, env_files;
  run.flags.stop_at_first_argument();
  run.flags.toggle("interactive,i", &interactive, "keep standard input open");
  run.flags.toggle("tty,t", &tty, "give the command a terminal");
  run.flags.toggle("detach,d", &detach, "leave the command to itself");
  run.flags.toggle("privileged", &privileged, "with all capabilities");
  run.flags.value("user,u", &user, "USER[:GROUP]", "user to run as");
  run.flags.value("workdir,w", &dir, "DIR", "working directory");
  run.flags.list("env,e", &env, "NAME=VALUE", "environment variable");
  MUSTER_TRY(run.parse(2, -1));
  if (tty && interactive && !run.world.in_is_terminal)
    return fail(usage_error("the input device is not a TTY"));
  start->set_container(run.args[0]);
  for (size_t i = 1; i < run.args.size(); ++i) start->add_command(run.args[i]);
  start->set_tty(tty);
  start->set_stdin(interactive);
  start->set_detach(detach);
  start->set_privileged(privileged);
  start->set_user(user);
  start->set_dir(dir);
  for (std::string entry : env) {
    if (entry.find('=') == std::string::npos) entry += "=" + run.env(entry);
    start->add_env(entry);
  }
  if (tty && run.world.in_is_terminal) *start->mutable_size() = terminal_size(run.world.in_fd);

  Signals signals({SIGWINCH, SIGTERM, SIGHUP});
  const auto stream = run.client().exec();
  stream->write(std::move(first));
  Result<int> code = 0;
  {
    const RawTerminal raw(run.world.in_fd, tty && interactive && run.world.in_is_terminal);
    ExecSession session(run, *stream, tty, interactive, signals);
    code = session.pump();
  }
  if (!code && code.error().reason() == "exec-start-failed") {
    run.warn("muster: " + code.error().message());
    return start_failure_code(code.error());
  }
  return code;
}

}  // namespace muster::deploy::cli
