#include "agent/runtime/exec.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <utility>

#include "agent/runtime/capabilities.h"
#include "agent/runtime/oci_bundle.h"
#include "agent/runtime/process_tree.h"
#include "agent/runtime/user_lookup.h"
#include "base/descriptor_messages.h"
#include "base/file.h"
#include "base/rng.h"

namespace muster::agent {
namespace {

namespace json = boost::json;

constexpr int kTerminalTimeoutMs = 10'000;
constexpr size_t kErrorTextMax = 1024;
constexpr int kHeldPollMs = 10;
constexpr int kReapMs = 1000;

// The container's own process object, changed as asked.
Result<json::object> process_document(const ExecRequest& request, const HostFacts& host) {
  MUSTER_ASSIGN(const std::string text, read_file(BundlePaths(request.bundle_dir).config));
  json::error_code error;
  json::value config = json::parse(text, error);
  if (error || !config.is_object()) return fail(data_loss("the container's bundle is damaged"));
  json::object process = config.as_object()["process"].as_object();
  process["args"] = json::array(request.command.begin(), request.command.end());
  process["terminal"] = request.tty;
  if (!request.dir.empty()) process["cwd"] = request.dir;
  std::vector<std::string> base;
  for (const json::value& item : process["env"].as_array()) base.emplace_back(item.as_string());
  std::vector<std::string> extra;
  if (request.tty) extra.push_back("TERM=xterm");
  if (!request.user.empty()) {
    std::string passwd;
    std::string group;
    const std::string root(config.as_object()["root"].as_object()["path"].as_string());
    MUSTER_ASSIGN(passwd, read_in_root(root, "/etc/passwd", 4 << 20));
    MUSTER_ASSIGN(group, read_in_root(root, "/etc/group", 4 << 20));
    MUSTER_ASSIGN(const ResolvedUser user, resolve_user(request.user, {}, passwd, group));
    process["user"] = user_object(user);
    extra.push_back("HOME=" + user.home);
    std::vector<std::string> names;
    for (const json::value& name : process["capabilities"].as_object()["bounding"].as_array()) {
      names.emplace_back(name.as_string());
    }
    process["capabilities"] = capabilities_object(names, user.uid == 0);
  }
  if (request.privileged) {
    MUSTER_ASSIGN(const std::vector<std::string> all,
                  effective_capabilities({}, {}, true, host.capabilities));
    process["capabilities"] = capabilities_object(all, true);
  }
  const std::vector<std::string> env = merge_env({base, extra, request.env});
  process["env"] = json::array(env.begin(), env.end());
  return process;
}

// Listens where the runtime shall hand over the terminal.
Result<UniqueFd> listen_at(const std::string& path) {
  struct sockaddr_un address {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return fail(invalid_argument("the run directory's path is too long: {}", path));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd || ::bind(fd.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(fd.get(), 1) != 0) {
    return fail(errno_status(errno, "terminal socket"));
  }
  return fd;
}

void set_nonblocking(int fd) {
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
}

void set_size(int terminal, uint32_t rows, uint32_t columns) {
  if (rows == 0 || columns == 0) return;
  struct winsize size {};
  size.ws_row = static_cast<unsigned short>(rows);
  size.ws_col = static_cast<unsigned short>(columns);
  ::ioctl(terminal, TIOCSWINSZ, &size);
}

}  // namespace

Result<std::unique_ptr<ExecSession>> ExecSession::start(const ConmonRuntime& runtime,
                                                        const ExecRequest& request,
                                                        ExecEvents events) {
  if (request.command.empty()) return fail(invalid_argument("no command given"));
  MUSTER_ASSIGN([[maybe_unused]] const int64_t pid, runtime.first_process(request.container_id));
  std::unique_ptr<ExecSession> session(new ExecSession());
  session->events_ = std::move(events);
  session->program_ = request.command.front();
  session->tty_ = request.tty;
  session->kill_tree_ = request.kill_tree;
  SystemRng rng;
  session->directory_ = runtime.exec_dir() + "/" + rng.id();
  session->cgroups_ = runtime.cgroups();
  session->container_cgroup_ = runtime.cgroup_of(request.container_id);
  MUSTER_TRY(make_directory(session->directory_, 0700));
  MUSTER_TRY(session->open(runtime, request));
  session->thread_ = std::thread([raw = session.get()] { raw->run(); });
  return session;
}

Status ExecSession::open(const ConmonRuntime& runtime, const ExecRequest& request) {
  wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  MUSTER_ASSIGN(const json::object process, process_document(request, runtime.host()));
  const std::string document = directory_ + "/process.json";
  MUSTER_TRY(write_file_atomic(document, json::serialize(process), 0600, Durability::kNone));
  ProcessOptions spawning;
  spawning.argv = runtime.runtime_command();
  spawning.argv.insert(spawning.argv.end(),
                       {"exec", "--process", document, "--pid-file", directory_ + "/pid"});
  spawning.env = runtime.runtime_env();
  spawning.new_session = true;
  UniqueFd listener;
  UniqueFd own_side;
  spawning.err = ProcessOptions::Stream::kPipe;
  if (request.tty && !runtime.is_crun()) {
    // runc hands over a terminal only when it detaches, and then nobody learns the exit code. In
    // the foreground it copies between the container's terminal and its own: one of ours.
    MUSTER_ASSIGN(own_side, open_terminal());
    set_size(terminal_.get(), request.rows, request.columns);
    spawning.err = ProcessOptions::Stream::kNull;
    spawning.inherit = {{own_side.get(), 0}, {own_side.get(), 1}, {own_side.get(), 2}};
  } else if (request.tty) {
    const std::string socket = directory_ + "/tty";
    MUSTER_ASSIGN(listener, listen_at(socket));
    spawning.argv.insert(spawning.argv.end(), {"--console-socket", socket});
  } else {
    spawning.out = ProcessOptions::Stream::kPipe;
    if (request.open_stdin) spawning.in = ProcessOptions::Stream::kPipe;
  }
  spawning.argv.push_back(request.container_id);
  MUSTER_ASSIGN(child_, Process::spawn(spawning));
  own_side.reset();
  stdin_ = std::move(child_->stdin_pipe);
  stdout_ = std::move(child_->stdout_pipe);
  stderr_ = std::move(child_->stderr_pipe);
  if (listener) {
    const Status received = receive_terminal(listener.get());
    if (!received.ok()) return {};  // the runtime's exit code and words tell why
    set_size(terminal_.get(), request.rows, request.columns);
  }
  for (const UniqueFd* fd : {&terminal_, &stdin_, &stdout_, &stderr_}) {
    if (*fd) set_nonblocking(fd->get());
  }
  return {};
}

Result<UniqueFd> ExecSession::open_terminal() {
  terminal_.reset(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  char name[64];
  if (!terminal_ || ::grantpt(terminal_.get()) != 0 || ::unlockpt(terminal_.get()) != 0 ||
      ::ptsname_r(terminal_.get(), name, sizeof name) != 0) {
    return fail(errno_status(errno, "making a terminal"));
  }
  UniqueFd side(::open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!side) return fail(errno_status(errno, name));
  copied_terminal_ = true;
  return side;
}

Status ExecSession::receive_terminal(int listener) {
  // The runtime may fail before it connects.
  struct pollfd fds[2] = {{listener, POLLIN, 0}, {child_->pidfd(), POLLIN, 0}};
  ::poll(fds, 2, kTerminalTimeoutMs);
  if ((fds[0].revents & POLLIN) == 0) return unavailable("no terminal was made");
  const UniqueFd peer(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (!peer) return errno_status(errno, "terminal socket");
  DescriptorMessage got;  // its bytes are the terminal's name
  const int error = receive_descriptors(peer.get(), {256, 1}, got);
  if (error != 0 && error != ECONNRESET) return errno_status(error, "terminal socket");
  if (got.descriptors.empty()) return unavailable("no terminal was sent");
  terminal_ = std::move(got.descriptors.front());
  return {};
}

ExecSession::~ExecSession() {
  if (thread_.joinable()) {
    kill();
    thread_.join();
  }
  child_.reset();
  std::error_code error;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, error);
}

void ExecSession::wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t done = ::write(wake_.get(), &one, sizeof one);
}

Status ExecSession::write_input(std::string_view data) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (input_closed_) return failed_precondition("the input is closed");
    if (input_.size() + data.size() > kInputBytesMax) {
      return resource_exhausted("the command does not read its input");
    }
    input_.append(data);
  }
  wake();
  return {};
}

void ExecSession::close_input() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(input_closed_, true)) return;
    // A terminal has no end of file of its own: Ctrl-D says it.
    if (tty_) input_.push_back('\x04');
  }
  wake();
}

void ExecSession::resize(uint32_t rows, uint32_t columns) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!terminal_) return;
  set_size(terminal_.get(), rows, columns);
  if (copied_terminal_) [[maybe_unused]]
    const Status told = child_->kill(SIGWINCH);
}

void ExecSession::kill() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(killed_, true)) return;
  }
  wake();
}

bool ExecSession::has_begun() const {
  return ::access((directory_ + "/pid").c_str(), F_OK) == 0;
}

bool ExecSession::was_killed() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return killed_;
}

void ExecSession::read_ready(UniqueFd& fd, const std::function<void(std::string_view)>& sink,
                             bool capture) {
  char buffer[32768];
  const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got <= 0) {  // EIO: the last process on a terminal has closed it
    const std::lock_guard<std::mutex> lock(mutex_);
    fd.reset();
    return;
  }
  const std::string_view data(buffer, static_cast<size_t>(got));
  if (ended_) rest_bytes_ += data.size();
  if (capture && error_text_.size() < kErrorTextMax) {
    error_text_.append(data.substr(0, kErrorTextMax - error_text_.size()));
  }
  if (&fd == &stderr_ && !started_) {
    held_.append(data);
    return;
  }
  if (sink) sink(data);
}

// Until the runtime has noted the command's pid, what stands on stderr may be the runtime's own
// complaint, which is told as the reason of the failure and not as the command's output.
void ExecSession::release_held() {
  if (held_.empty()) return;
  started_ = started_ || has_begun();
  if (!started_) return;
  if (events_.err) events_.err(held_);
  held_.clear();
}

void ExecSession::write_ready() {
  if (drain_input() && events_.input_taken) events_.input_taken();
}

bool ExecSession::drain_input() {
  const std::lock_guard<std::mutex> lock(mutex_);
  UniqueFd& target = tty_ ? terminal_ : stdin_;
  size_t taken = 0;
  while (target && taken < input_.size()) {
    const ssize_t done = ::write(target.get(), input_.data() + taken, input_.size() - taken);
    if (done > 0) {
      taken += static_cast<size_t>(done);
    } else if (errno == EAGAIN) {
      break;
    } else if (errno != EINTR) {
      taken = input_.size();  // nobody reads any more
      if (!tty_) target.reset();
    }
  }
  if (!target) taken = input_.size();
  input_.erase(0, taken);
  if (input_closed_ && input_.empty() && !tty_) target.reset();
  return taken > 0;
}

// The command's process, once the runtime has noted its pid, which is a moment after it has begun.
// None when it has ended: the number may be somebody else's by now.
UniqueFd ExecSession::open_command() {
  int64_t pid = 0;
  for (int attempt = 0; attempt < 50 && pid == 0; ++attempt) {
    const auto text = read_file(directory_ + "/pid", 64);
    if (text) std::from_chars(text->data(), text->data() + text->size(), pid);
    struct pollfd ended {
      child_->pidfd(), POLLIN, 0
    };
    if (pid == 0 && ::poll(&ended, 1, 10) > 0) return {};
  }
  if (pid <= 0) return {};
  UniqueFd process = open_pidfd(pid);
  if (!process || !cgroups_->contains(container_cgroup_, pid)) return {};
  command_pid_ = pid;
  return process;
}

// The command's own process first, in the host's numbering; the runtime ends with it. It is given
// the time to reap it: a zombie that waits for the host's first process holds up the container's
// end.
void ExecSession::kill_processes() {
  if (const UniqueFd process = open_command()) {
    if (kill_tree_) kill_process_tree(*cgroups_, container_cgroup_, command_pid_);
    // Its group has no descriptor, but keeps its number while the leader is pinned and alive.
    ::kill(static_cast<pid_t>(-command_pid_), SIGKILL);
    ::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0);
    struct pollfd ended {
      child_->pidfd(), POLLIN, 0
    };
    ::poll(&ended, 1, kReapMs);
  }
  [[maybe_unused]] const Status killed = child_->kill(SIGKILL);
}

// One round; false when all output is through and the process has ended.
bool ExecSession::pump() {
  struct pollfd fds[6];
  bool wants_write = false;
  bool kill_now = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    wants_write = !input_.empty();
    kill_now = killed_;
  }
  const auto fd_of = [](const UniqueFd& fd) { return fd ? fd.get() : -1; };
  fds[0] = {fd_of(wake_), POLLIN, 0};
  fds[1] = {child_->pidfd(), POLLIN, 0};
  fds[2] = {fd_of(terminal_), static_cast<short>(POLLIN | (wants_write ? POLLOUT : 0)), 0};
  fds[3] = {fd_of(stdout_), POLLIN, 0};
  fds[4] = {fd_of(stderr_), POLLIN, 0};
  fds[5] = {wants_write ? fd_of(stdin_) : -1, POLLOUT, 0};
  if (kill_now) kill_processes();
  if (::poll(fds, 6, held_.empty() ? -1 : kHeldPollMs) < 0) return true;
  if (fds[0].revents != 0) {
    uint64_t value = 0;
    [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &value, sizeof value);
    write_ready();
  }
  if ((fds[2].revents & POLLOUT) != 0 || fds[5].revents != 0) write_ready();
  if ((fds[2].revents & ~POLLOUT) != 0) read_ready(terminal_, events_.out, true);
  if (fds[3].revents != 0) read_ready(stdout_, events_.out, false);
  if (fds[4].revents != 0) read_ready(stderr_, events_.err, true);
  release_held();
  const bool quiet = fds[2].revents == 0 && fds[3].revents == 0 && fds[4].revents == 0;
  // Output may be held open by what the command left in the background: not waited for, however
  // much that has to say.
  ended_ = fds[1].revents != 0;
  return !ended_ || (!quiet && rest_bytes_ < kRestBytesMax);
}

Result<int> ExecSession::wait_child() {
  // It has ended: this takes no time. resize() looks at it, too.
  const std::lock_guard<std::mutex> lock(mutex_);
  MUSTER_ASSIGN(const auto exit, child_->wait(Duration(-1)));
  return exit->signal != 0 ? 128 + exit->signal : exit->code;
}

void ExecSession::run() {
  ::pthread_setname_np(::pthread_self(), "exec-session");
  while (pump()) {
  }
  Result<int> code = wait_child();
  // The runtime's own complaint, which was no output of the command.
  if (code && *code != 0 && !has_begun() && !was_killed()) {
    // With a terminal crun loses its last words; then the place where it failed tells enough.
    const Status why = tty_ && error_text_.empty()
                           ? not_found("command not found or not executable: \"{}\"", program_)
                           : explain_runtime_error(error_text_, program_);
    code = fail(why);
  }
  if (code && !held_.empty() && events_.err) events_.err(held_);
  if (events_.done) events_.done(std::move(code));
}

}  // namespace muster::agent
