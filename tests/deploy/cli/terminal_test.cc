// The program itself on a pseudo-terminal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/deploy/cli/terminal.h"

namespace muster::deploy::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST_F(Terminal, LiveProgressPerTask) {
  daemon_.add_service("web", 2);
  daemon_.end_streams = false;
  start({"service", "scale", "--monitor", "0s", "web=2"});
  EXPECT_EQ(finish(), 0);
  EXPECT_THAT(screen_, HasSubstr("\x1b[Koverall progress: 2 out of 2 tasks"));
  EXPECT_THAT(screen_, HasSubstr("\x1b[K1/2: running"));
  EXPECT_THAT(screen_, HasSubstr("verify: Service web converged"));
}

TEST_F(Terminal, LongReasonsStayInTheirColumn) {
  daemon_.add_service("web", 1);
  auto& node = *daemon_.explanation.add_nodes();
  node.set_hostname("host1");
  node.set_filter("constraint");
  node.set_reason("constraint node.labels.disk == ssd: the label is absent");
  start({"service", "explain", "web"});
  EXPECT_EQ(finish(), 0);
  EXPECT_THAT(screen_, HasSubstr("ssd: the label is\r\n" + std::string(46, ' ') + "absent\r\n"));
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

TEST_F(Terminal, ExecFollowsTheWindowsSize) {
  v1::ExecOutput output;
  output.set_exit_code(0);
  daemon_.exec_messages.push_back(output);
  start({"exec", "-it", "web.1", "sh"});
  ASSERT_TRUE(expect_raw());
  resize(50, 132);  // the signal is there before the key is typed
  type("\r");
  EXPECT_EQ(finish(), 0);
  ASSERT_GE(daemon_.exec_inputs.size(), 3U);
  EXPECT_EQ(daemon_.exec_inputs[1].resize().rows(), 50U);
  EXPECT_EQ(daemon_.exec_inputs[1].resize().columns(), 132U);
}

TEST_F(Terminal, ATerminatedExecGivesTheTerminalBack) {
  for (const int number : {SIGTERM, SIGHUP}) {
    start({"exec", "-it", "web.1", "sh"});
    ASSERT_TRUE(expect_raw());
    send_signal(number);
    EXPECT_EQ(finish(), 128 + number);
    EXPECT_FALSE(is_raw());
  }
}

}  // namespace
}  // namespace muster::deploy::cli
