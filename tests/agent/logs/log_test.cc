#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "agent/logs/log_reader.h"
#include "agent/logs/log_rotation.h"
#include "base/file.h"

namespace muster::agent {
namespace {

class LogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/muster-log-XXXXXX";
    ASSERT_NE(::mkdtemp(path), nullptr);
    dir_ = path;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  void put(const std::string& name, const std::string& text) {
    ASSERT_TRUE(write_file_atomic(dir_ + "/" + name, text, 0600, Durability::kNone).ok());
  }
  struct Collect final : LogOutput {
    bool line(const std::string& task_id, LogLine line) override {
      out += (task_id.empty() ? "" : task_id + "/") + (line.is_stderr ? "E:" : "O:") + line.text;
      return true;
    }
    std::string out;
  };
  std::string read(const LogQuery& query) {
    LogReader reader(query, false);
    reader.add({"", dir_, true});
    Collect collect;
    const Status status = reader.run(collect);
    EXPECT_TRUE(status.ok()) << status.message();
    return collect.out;
  }

  std::string dir_;
};

TEST(LogLineTest, Table) {
  const std::string at = "2026-01-31T08:05:00.000000001+00:00 ";
  EXPECT_EQ(parse_log_line(at + "stdout F hello")->text, "hello\n");
  EXPECT_EQ(parse_log_line(at + "stderr P part")->text, "part");
  EXPECT_TRUE(parse_log_line(at + "stderr P part")->is_stderr);
  EXPECT_EQ(parse_log_line(at + "stdout F ")->text, "\n");
  EXPECT_EQ(parse_log_line(at + "stdout F a b  c")->text, "a b  c\n");
  for (const char* bad : {"", "x", "2026 stdout F x", "stdout F x", "\xff\xfe"}) {
    EXPECT_FALSE(parse_log_line(bad).has_value()) << bad;
  }
  for (const char* bad : {"stdin F x", "stdout X x", "stdout F", "stdout"}) {
    EXPECT_FALSE(parse_log_line(at + bad).has_value()) << bad;
  }
}

TEST_F(LogTest, RotatedFilesComeFirst) {
  put("container.log.2", "2026-01-01T00:00:01Z stdout F one\n");
  put("container.log.1", "2026-01-01T00:00:02Z stderr F two\n");
  put("container.log", "2026-01-01T00:00:03Z stdout F three\ntorn");
  EXPECT_EQ(read({}), "O:one\nE:two\nO:three\n");
  LogQuery tail;
  tail.tail = 2;
  EXPECT_EQ(read(tail), "E:two\nO:three\n");
  tail.tail = 0;
  EXPECT_EQ(read(tail), "");
  LogQuery streams;
  streams.filter.include_stdout = false;
  EXPECT_EQ(read(streams), "E:two\n");
  LogQuery window;
  window.filter.since_ns = parse_rfc3339("2026-01-01T00:00:02Z")->unix_ns;
  window.filter.until_ns = parse_rfc3339("2026-01-01T00:00:03Z")->unix_ns;
  EXPECT_EQ(read(window), "E:two\n");
}

TEST_F(LogTest, NoLogIsEmpty) {
  EXPECT_EQ(read({}), "");
}

TEST_F(LogTest, NothingIsRotatedWithoutAMonitor) {
  put("container.log", "2026-01-01T00:00:03Z stdout F three\n");
  EXPECT_TRUE(rotate_log({dir_, 1, 3}).ok());
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/container.log.1"));
}

}  // namespace
}  // namespace muster::agent
