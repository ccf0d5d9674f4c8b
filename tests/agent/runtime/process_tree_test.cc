#include "agent/runtime/process_tree.h"

#include <gtest/gtest.h>

#include <unistd.h>

namespace muster::agent {
namespace {

TEST(ProcessStat, ReadsWhatTheKernelWrites) {
  const auto stat = parse_process_stat(
      "4711 (a) b) R) S 42 4711 4700 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 0 0 0");
  ASSERT_TRUE(stat.has_value());
  EXPECT_EQ(stat->pid, 4711);
  EXPECT_EQ(stat->parent, 42);
  EXPECT_EQ(stat->session, 4700);
  EXPECT_EQ(stat->start_ticks, 987654u);
  EXPECT_FALSE(stat->ending);
  // Ended; and in the middle of its end, when it is no zombie yet.
  EXPECT_TRUE(parse_process_stat("1 (x) Z 0 1 1 0 -1 0 1 0 0 0 0 0 0 0 20 0 1 0 5 0")->ending);
  EXPECT_TRUE(parse_process_stat("1 (x) S 0 1 1 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 5 0")->ending);
  for (const char* bad :
       {"", "1", "1 (x) S", "x (x) S 0 1 1 0 -1 0 1 0 0 0 0 0 0 0 20 0 1 0 5 0"}) {
    EXPECT_FALSE(parse_process_stat(bad).has_value()) << bad;
  }
  const auto self = read_process_stat(::getpid());
  ASSERT_TRUE(self.has_value());
  EXPECT_EQ(self->parent, ::getppid());
  EXPECT_FALSE(self->ending);
}

TEST(ProcessTree, DescendantsAndTheSessionWhateverTheirOrder) {
  const std::vector<ProcessStat> all = {
      {1, 0, 1, 0, false},      // the container's first
      {5, 30, 5, 0, false},     // a grandchild of 20 in a session of its own
      {20, 900, 20, 0, false},  // the root
      {30, 20, 20, 0, false},   // its child
      {40, 1, 20, 0, false},    // orphaned, but of its session
      {50, 1, 50, 0, false},    // somebody else
      {60, 50, 50, 0, false},
  };
  std::vector<int64_t> pids;
  for (const ProcessStat& process : tree_of(all, 20)) pids.push_back(process.pid);
  EXPECT_EQ(pids, (std::vector<int64_t>{5, 20, 30, 40}));
}

}  // namespace
}  // namespace muster::agent
