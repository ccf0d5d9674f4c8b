#include "deploy/lab/log_tail.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"

namespace muster::deploy::lab {
namespace {

class LogTail : public testing::Test {
 protected:
  ~LogTail() override { unlink(path_.c_str()); }
  std::string tail(const std::string& text, int64_t lines) {
    EXPECT_TRUE(write_file_atomic(path_, text, 0600, Durability::kNone).ok());
    return log_tail(path_, lines);
  }

 private:
  const std::string path_ = testing::TempDir() + "log-tail-" + std::to_string(getpid());
};

TEST_F(LogTail, IsTheLastLines) {
  EXPECT_EQ(tail("a\nb\nc\n", 1), "c\n");
  EXPECT_EQ(tail("a\nb\nc\n", 2), "b\nc\n");
  EXPECT_EQ(tail("a\nb\nc\n", 3), "a\nb\nc\n");
  EXPECT_EQ(tail("a\nb\nc\n", 9), "a\nb\nc\n");
  EXPECT_EQ(tail("a\nb\nc\n", 0), "");
  EXPECT_EQ(tail("", 1), "");
}

TEST_F(LogTail, ALineThatIsBeingWrittenIsOne) {
  EXPECT_EQ(tail("a\nb", 1), "b");
  EXPECT_EQ(tail("a\n\nb", 2), "\nb");
}

TEST_F(LogTail, FindsLinesAcrossItsBlocks) {
  const std::string longer(100'000, 'x');
  EXPECT_EQ(tail("a\n" + longer + "\nb\n", 2), longer + "\nb\n");
  EXPECT_EQ(tail("a\n" + longer + "\nb\n", 3), "a\n" + longer + "\nb\n");
}

TEST_F(LogTail, OfNoFileIsNothing) {
  EXPECT_EQ(log_tail("/nowhere/log", 3), "");
}

}  // namespace
}  // namespace muster::deploy::lab
