#include "deploy/cli/swarm_text.h"

#include <termios.h>
#include <unistd.h>

#include "deploy/cli/paths.h"

namespace muster::deploy::cli {
namespace {

constexpr size_t kLineBytesMax = 4096;

// Keys are not shown while it lives.
class NoEcho {
 public:
  explicit NoEcho(int fd) : fd_(fd) {
    if (tcgetattr(fd_, &before_) != 0) return;
    termios silent = before_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    changed_ = tcsetattr(fd_, TCSAFLUSH, &silent) == 0;
  }
  ~NoEcho() {
    if (changed_) tcsetattr(fd_, TCSAFLUSH, &before_);
  }
  NoEcho(const NoEcho&) = delete;
  NoEcho& operator=(const NoEcho&) = delete;

 private:
  int fd_;
  termios before_{};
  bool changed_ = false;
};

}  // namespace

Result<v1::NodeSpec::Availability> parse_availability(const std::string& text) {
  if (text == "pause") return v1::NodeSpec::PAUSE;
  if (text == "drain") return v1::NodeSpec::DRAIN;
  if (text.empty() || text == "active") return v1::NodeSpec::ACTIVE;
  return fail(
      usage_error(fmt::format("invalid availability \"{}\": active, pause or drain", text)));
}

std::string unlock_text(const std::string& key) {
  return fmt::format(
      "\nTo unlock a swarm manager after it restarts, run the `muster swarm unlock`\n"
      "command and provide the following key:\n\n    {}\n\n"
      "Remember to store this key in a password manager, since without it you\n"
      "will not be able to restart the manager.\n",
      key);
}

Status read_pem_file(Run& run, const std::string& file, std::string* pem) {
  MUSTER_ASSIGN(*pem, read_pem(file, run.world.current_dir));
  return ok_status();
}

Result<std::string> read_hidden_line(Run& run, Signals& signals, const std::string& prompt) {
  const int fd = run.world.in_fd;
  const bool terminal = run.world.in_is_terminal;
  std::string line;
  bool ended = false;
  {
    std::optional<NoEcho> silent;
    if (terminal) {
      run.out(prompt);
      silent.emplace(fd);
    }
    while (!ended && line.size() < kLineBytesMax) {
      wait_readable({fd, signals.fd()}, std::nullopt);
      if (signals.pop() != 0) return fail(Status(StatusCode::kCancelled, "interrupted"));
      char c = 0;  // one by one: what follows the line is not ours
      const ssize_t n = ::read(fd, &c, 1);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail(errno_status(errno, "standard input"));
      ended = n == 0 || c == '\n';
      if (!ended) line += c;
    }
  }
  if (terminal) run.out("\n");
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return line;
}

}  // namespace muster::deploy::cli
