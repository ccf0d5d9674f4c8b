// The program itself on a pseudo-terminal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "tests/deploy/cli/fake_daemon.h"

namespace muster::deploy::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

class Terminal : public testing::Test {
 protected:
  ~Terminal() override {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }

  void start(std::vector<std::string> words) {
    const std::string socket = "MUSTER_SOCKET=" + daemon_.address();
    words.insert(words.begin(), MUSTER_PROGRAM);
    std::vector<char*> argv;
    for (auto& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    char* environment[] = {const_cast<char*>(socket.c_str()), nullptr};
    winsize size{};
    size.ws_row = 40;
    size.ws_col = 100;
    int master = -1;
    pid_ = forkpty(&master, nullptr, nullptr, &size);
    if (pid_ == 0) {
      execve(argv[0], argv.data(), environment);
      _exit(99);
    }
    ASSERT_GT(pid_, 0);
    master_ = UniqueFd(master);
  }

  // Reads until the screen holds `text`; false at the end of the program or after 20 s.
  bool expect(const std::string& text) {
    for (;;) {
      if (screen_.find(text) != std::string::npos) return true;
      if (!read_more()) return false;
    }
  }
  // Until the program has switched the terminal's line editing off; false after 20 s.
  bool expect_raw() {
    for (int i = 0; i < 4000; ++i) {
      termios settings{};
      if (tcgetattr(master_.get(), &settings) == 0 && (settings.c_lflag & ICANON) == 0) return true;
      poll(nullptr, 0, 5);
    }
    return false;
  }
  void type(const std::string& keys) {
    ASSERT_EQ(write(master_.get(), keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }
  int finish() {
    while (read_more()) continue;
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  FakeDaemon daemon_;
  std::string screen_;

 private:
  bool read_more() {
    pollfd poll_fd = {master_.get(), POLLIN, 0};
    if (poll(&poll_fd, 1, 20'000) <= 0) return false;
    char buffer[4096];
    const ssize_t n = read(master_.get(), buffer, sizeof buffer);
    if (n <= 0) return false;
    screen_.append(buffer, static_cast<size_t>(n));
    return true;
  }

  pid_t pid_ = -1;
  UniqueFd master_;
};

TEST_F(Terminal, LiveProgressPerTask) {
  daemon_.add_service("web", 2);
  daemon_.end_streams = false;
  start({"service", "scale", "--monitor", "0s", "web=2"});
  EXPECT_EQ(finish(), 0);
  EXPECT_THAT(screen_, HasSubstr("\x1b[Koverall progress: 2 out of 2 tasks"));
  EXPECT_THAT(screen_, HasSubstr("\x1b[K1/2: running"));
  EXPECT_THAT(screen_, HasSubstr("verify: Service web converged"));
}

TEST_F(Terminal, InterruptEndsTheWaitingOnly) {
  daemon_.add_service("web", 1);
  daemon_.tasks[0].mutable_status()->set_state(v1::TASK_PREPARING);
  daemon_.end_streams = false;
  start({"service", "scale", "web=1"});
  ASSERT_TRUE(expect("1/1: preparing"));
  type("\x03");
  EXPECT_EQ(finish(), 0);
  EXPECT_THAT(screen_, HasSubstr("Operation continuing in background."));
  EXPECT_THAT(screen_, HasSubstr("muster service ps web"));
}

TEST_F(Terminal, ExecHasTheTerminalsSizeAndRawKeys) {
  v1::ExecOutput output;
  output.set_stdout("# done\r\n");
  daemon_.exec_messages.push_back(output);
  output.set_exit_code(7);
  daemon_.exec_messages.push_back(output);
  start({"exec", "-it", "web.1", "sh"});
  ASSERT_TRUE(expect_raw());
  type("\x03ls\r");
  EXPECT_EQ(finish(), 7);
  EXPECT_THAT(screen_, HasSubstr("# done"));
  const auto& start_message = daemon_.exec_inputs.at(0).start();
  EXPECT_TRUE(start_message.tty());
  EXPECT_EQ(start_message.size().rows(), 40U);
  EXPECT_EQ(start_message.size().columns(), 100U);
  std::string typed;
  for (const auto& input : daemon_.exec_inputs) typed += input.stdin();
  EXPECT_EQ(typed.back(), '\r');
}

}  // namespace
}  // namespace muster::deploy::cli
