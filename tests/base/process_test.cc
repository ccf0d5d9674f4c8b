#include "base/process.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace muster {
namespace {

ProcessOptions shell(const std::string& script) {
  ProcessOptions options;
  options.argv = {"sh", "-c", script};
  return options;
}

TEST(Process, CollectsBothStreamsAndTheExitCode) {
  const auto r = run_process(shell("echo out; echo err >&2; exit 3"));
  ASSERT_TRUE(r.has_value()) << r.error().message();
  EXPECT_EQ(r->out, "out\n");
  EXPECT_EQ(r->err, "err\n");
  EXPECT_EQ(r->exit.code, 3);
  EXPECT_EQ(r->exit.to_string(), "exit status 3");
}

TEST(Process, FeedsMoreInputThanAPipeHolds) {
  RunOptions run;
  run.input.assign(300'000, 'x');
  const auto r = run_process(shell("wc -c"), run);
  ASSERT_TRUE(r.has_value());
  EXPECT_EQ(std::stoi(r->out), 300'000);
}

TEST(Process, ChildThatClosesItsInputIsNoError) {
  RunOptions run;
  run.input.assign(300'000, 'x');
  const auto r = run_process(shell("exec <&-; exit 0"), run);
  ASSERT_TRUE(r.has_value());
  EXPECT_TRUE(r->exit.success());
}

TEST(Process, MissingProgramIsNotFound) {
  ProcessOptions options;
  options.argv = {"no-such-program-here"};
  const auto r = run_process(options);
  ASSERT_FALSE(r.has_value());
  EXPECT_EQ(r.error().code(), StatusCode::kNotFound);
  EXPECT_EQ(r.error().message(), "no-such-program-here: executable file not found");
}

TEST(Process, TimeoutKillsTheChild) {
  RunOptions run;
  run.timeout = 50ms;
  const auto r = run_process(shell("exec tail -f /dev/null"), run);
  ASSERT_FALSE(r.has_value());
  EXPECT_EQ(r.error().code(), StatusCode::kDeadlineExceeded);
}

TEST(Process, CancellationKillsTheChild) {
  RunOptions run;
  run.poll_period = 5ms;
  int asked = 0;
  run.cancelled = [&] { return ++asked > 3; };
  const auto r = run_process(shell("exec tail -f /dev/null"), run);
  ASSERT_FALSE(r.has_value());
  EXPECT_EQ(r.error().code(), StatusCode::kCancelled);
}

TEST(Process, TooMuchOutputIsAnError) {
  RunOptions run;
  run.output_bytes_max = 1000;
  const auto r = run_process(shell("exec yes"), run);
  ASSERT_FALSE(r.has_value());
  EXPECT_EQ(r.error().code(), StatusCode::kResourceExhausted);
}

TEST(Process, EnvironmentAndDescriptorsAreWhatWasAsked) {
  ProcessOptions options = shell("echo $A; ls /proc/self/fd | wc -l");
  options.env = std::vector<std::string>{"A=b", "PATH=/bin:/usr/bin"};
  const auto r = run_process(options);
  ASSERT_TRUE(r.has_value());
  EXPECT_EQ(r->out, "b\n4\n");  // 0 1 2 and the directory being listed
}

TEST(Process, SignalsAreReported) {
  auto child = Process::spawn(shell("exec tail -f /dev/null"));
  ASSERT_TRUE(child.has_value());
  const auto early = child->wait(0ms);
  ASSERT_TRUE(early.has_value());
  EXPECT_FALSE(early->has_value());
  ASSERT_TRUE(child->kill(SIGKILL).ok());
  const auto exit = child->wait(10s);
  ASSERT_TRUE(exit.has_value() && exit->has_value());
  EXPECT_EQ((*exit)->signal, SIGKILL);
  EXPECT_EQ((*exit)->to_string(), "signal 9 (Killed)");
}

TEST(Process, GrandchildHoldingThePipeDoesNotHangUs) {
  RunOptions run;
  run.timeout = 20s;
  const auto r = run_process(shell("(exec timeout 60 tail -f /dev/null) & echo $!"), run);
  ASSERT_TRUE(r.has_value());
  EXPECT_TRUE(r->exit.success());
  kill(std::stoi(r->out), SIGKILL);
}

TEST(Process, DescriptorsTakeThePlaceOfStreams) {
  auto pipe = make_pipe();
  ASSERT_TRUE(pipe.has_value());
  ProcessOptions options = shell("echo words >&2; echo more >&3");
  options.inherit = {{pipe->second.get(), 2}, {pipe->second.get(), 3}};
  auto process = Process::spawn(options);
  ASSERT_TRUE(process.has_value()) << process.error().message();
  pipe->second.reset();
  ASSERT_TRUE(process->wait(Duration(-1)).has_value());
  char buffer[64];
  const ssize_t n = read(pipe->first.get(), buffer, sizeof buffer);
  EXPECT_EQ(std::string(buffer, n > 0 ? static_cast<size_t>(n) : 0), "words\nmore\n");
}

TEST(Process, ProgramsAreFoundOutsideOfPath) {
  EXPECT_EQ(find_program("nosuchprogramanywhere"), "");
  EXPECT_EQ(find_program("/nonexistent/sh"), "");
  EXPECT_EQ(find_program("/bin/sh"), "/bin/sh");
  EXPECT_NE(find_program("sh"), "");
}

}  // namespace
}  // namespace muster
