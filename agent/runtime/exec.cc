#include "agent/runtime/exec.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
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
#include "agent/runtime/spawn.h"
#include "agent/runtime/user_lookup.h"
#include "base/file.h"
#include "base/rng.h"

namespace muster::agent {
namespace {

namespace json = boost::json;

constexpr int kTerminalTimeoutMs = 10'000;
constexpr size_t kErrorTextMax = 1024;

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
  SystemRng rng;
  session->directory_ = runtime.options().run_dir + "/exec/" + rng.id();
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
  SpawnRequest spawning;
  spawning.argv = runtime.runtime_command();
  spawning.argv.insert(spawning.argv.end(),
                       {"exec", "--process", document, "--pid-file", directory_ + "/pid"});
  spawning.env = runtime.runtime_env();
  spawning.new_session = true;
  MUSTER_ASSIGN(auto err, make_pipe());
  UniqueFd listener;
  std::pair<UniqueFd, UniqueFd> in;
  std::pair<UniqueFd, UniqueFd> out;
  spawning.descriptors.emplace_back(err.second.get(), 2);
  UniqueFd own_side;
  if (request.tty && !runtime.is_crun()) {
    // runc hands over a terminal only when it detaches, and then nobody learns the exit code. In
    // the foreground it copies between the container's terminal and its own: one of ours.
    MUSTER_ASSIGN(own_side, open_terminal());
    set_size(terminal_.get(), request.rows, request.columns);
    spawning.descriptors = {{own_side.get(), 0}, {own_side.get(), 1}, {own_side.get(), 2}};
  } else if (request.tty) {
    const std::string socket = directory_ + "/tty";
    MUSTER_ASSIGN(listener, listen_at(socket));
    spawning.argv.insert(spawning.argv.end(), {"--console-socket", socket});
  } else {
    MUSTER_ASSIGN(out, make_pipe());
    spawning.descriptors.emplace_back(out.second.get(), 1);
    if (request.open_stdin) {
      MUSTER_ASSIGN(in, make_pipe());
      spawning.descriptors.emplace_back(in.first.get(), 0);
    }
  }
  spawning.argv.push_back(request.container_id);
  MUSTER_ASSIGN(child_, spawn(spawning));
  child_fd_ = open_pidfd(child_);
  own_side.reset();
  err.second.reset();
  stderr_ = std::move(err.first);
  stdin_ = std::move(in.second);
  stdout_ = std::move(out.first);
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
  struct pollfd fds[2] = {{listener, POLLIN, 0}, {child_fd_.get(), POLLIN, 0}};
  ::poll(fds, 2, kTerminalTimeoutMs);
  if ((fds[0].revents & POLLIN) == 0) return unavailable("no terminal was made");
  const UniqueFd peer(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (!peer) return errno_status(errno, "terminal socket");
  char name[256];
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  struct iovec part {
    name, sizeof name
  };
  struct msghdr message {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (::recvmsg(peer.get(), &message, MSG_CMSG_CLOEXEC) < 0) {
    return errno_status(errno, "terminal socket");
  }
  const struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) {
    return unavailable("no terminal was sent");
  }
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  terminal_.reset(fd);
  return {};
}

ExecSession::~ExecSession() {
  if (thread_.joinable()) {
    kill();
    thread_.join();
  } else if (child_ > 0) {
    ::kill(child_, SIGKILL);
    [[maybe_unused]] const auto code = wait_exit(child_);
  }
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
  if (copied_terminal_) ::kill(child_, SIGWINCH);
}

void ExecSession::kill() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(killed_, true)) return;
  }
  wake();
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
  if (capture && error_text_.size() < kErrorTextMax) {
    error_text_.append(data.substr(0, kErrorTextMax - error_text_.size()));
  }
  if (sink) sink(data);
}

void ExecSession::write_ready() {
  const std::lock_guard<std::mutex> lock(mutex_);
  UniqueFd& target = tty_ ? terminal_ : stdin_;
  if (!target) {
    input_.clear();
    return;
  }
  while (!input_.empty()) {
    const ssize_t done = ::write(target.get(), input_.data(), input_.size());
    if (done > 0) {
      input_.erase(0, static_cast<size_t>(done));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return;
    input_.clear();  // nobody reads any more
    if (!tty_) target.reset();
    return;
  }
  if (input_closed_ && !tty_) target.reset();
}

// The command's own process first, in the host's numbering; the runtime ends with it. The runtime
// notes the pid a moment after the command has begun, so a young session waits for it.
void ExecSession::kill_processes() {
  int64_t pid = 0;
  for (int attempt = 0; attempt < 50 && pid == 0; ++attempt) {
    const auto text = read_file(directory_ + "/pid", 64);
    if (text) std::from_chars(text->data(), text->data() + text->size(), pid);
    struct pollfd ended {
      child_fd_.get(), POLLIN, 0
    };
    if (pid == 0 && ::poll(&ended, 1, 10) > 0) break;
  }
  if (pid > 0) {
    ::kill(static_cast<pid_t>(-pid), SIGKILL);
    ::kill(static_cast<pid_t>(pid), SIGKILL);
  }
  ::kill(child_, SIGKILL);
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
  fds[1] = {fd_of(child_fd_), POLLIN, 0};
  fds[2] = {fd_of(terminal_), static_cast<short>(POLLIN | (wants_write ? POLLOUT : 0)), 0};
  fds[3] = {fd_of(stdout_), POLLIN, 0};
  fds[4] = {fd_of(stderr_), POLLIN, 0};
  fds[5] = {wants_write ? fd_of(stdin_) : -1, POLLOUT, 0};
  if (kill_now) kill_processes();
  if (::poll(fds, 6, -1) < 0) return true;
  if (fds[0].revents != 0) {
    uint64_t value = 0;
    [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &value, sizeof value);
    write_ready();
  }
  if ((fds[2].revents & POLLOUT) != 0 || fds[5].revents != 0) write_ready();
  if ((fds[2].revents & ~POLLOUT) != 0) read_ready(terminal_, events_.out, true);
  if (fds[3].revents != 0) read_ready(stdout_, events_.out, false);
  if (fds[4].revents != 0) read_ready(stderr_, events_.err, true);
  const bool quiet = fds[2].revents == 0 && fds[3].revents == 0 && fds[4].revents == 0;
  // Output may be held open by what the command left in the background: not waited for.
  return !(fds[1].revents != 0 && quiet);
}

void ExecSession::run() {
  ::pthread_setname_np(::pthread_self(), "exec-session");
  while (pump()) {
  }
  Result<int> code = wait_exit(child_);
  // The runtime's own complaint, which was no output of the command.
  const bool started = ::access((directory_ + "/pid").c_str(), F_OK) == 0;
  if (code && *code != 0 && !started && !was_killed()) {
    // With a terminal crun loses its last words; then the place where it failed tells enough.
    const Status why = tty_ && error_text_.empty()
                           ? not_found("command not found or not executable: \"{}\"", program_)
                           : explain_runtime_error(error_text_, program_);
    code = fail(why);
  }
  if (events_.done) events_.done(std::move(code));
}

}  // namespace muster::agent
