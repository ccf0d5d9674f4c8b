#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "tests/deploy/cli/fake_daemon.h"

namespace muster::deploy::cli {

// A program on a pseudo-terminal of 100 columns and 40 rows, with a fake daemon beside it.
class Terminal : public testing::Test {
 protected:
  ~Terminal() override {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }

  void start(std::vector<std::string> words) {
    words.insert(words.begin(), MUSTER_PROGRAM);
    start_program(std::move(words), {});
  }
  void start_program(std::vector<std::string> words, std::vector<std::string> variables) {
    variables.push_back("MUSTER_SOCKET=" + daemon_.address());
    const auto pointers = [](std::vector<std::string>& texts) {
      std::vector<char*> out;
      for (auto& text : texts) out.push_back(text.data());
      out.push_back(nullptr);
      return out;
    };
    const std::vector<char*> argv = pointers(words);
    const std::vector<char*> environment = pointers(variables);
    winsize size{};
    size.ws_row = 40;
    size.ws_col = 100;
    int master = -1;
    pid_ = forkpty(&master, nullptr, nullptr, &size);
    if (pid_ == 0) {
      execve(argv[0], argv.data(), environment.data());
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
      if (is_raw()) return true;
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

  bool is_raw() {
    termios settings{};
    return tcgetattr(master_.get(), &settings) == 0 && (settings.c_lflag & ICANON) == 0;
  }
  // Forgets what the screen showed, so that expect() looks for something new.
  void clear() { screen_.clear(); }
  void send_signal(int number) { kill(pid_, number); }
  void resize(unsigned short rows, unsigned short columns) {
    winsize size{};
    size.ws_row = rows;
    size.ws_col = columns;
    ASSERT_EQ(ioctl(master_.get(), TIOCSWINSZ, &size), 0);
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

}  // namespace muster::deploy::cli
