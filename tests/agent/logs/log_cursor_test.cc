#include "agent/logs/log_cursor.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "agent/logs/log_reader.h"
#include "agent/logs/log_rotation.h"
#include "base/file.h"
#include "base/time.h"

namespace muster::agent {
namespace {

class LogCursorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/muster-log-XXXXXX";
    ASSERT_NE(::mkdtemp(path), nullptr);
    dir_ = path;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  // A line of the second `second`, as the monitor writes it.
  static std::string record(int second, const std::string& text, const char* stream = "stdout",
                            char tag = 'F') {
    return fmt::format("{} {} {} {}\n", format_rfc3339(WallTime{second * 1'000'000'000LL}), stream,
                       tag, text);
  }
  void append(const std::string& text, const std::string& name = "container.log") {
    std::ofstream(dir_ + "/" + name, std::ios::app) << text;
  }
  // As rotate_log() and the monitor do it together.
  void rotate(int files_max = 5) {
    for (int i = files_max - 1; i > 0; --i) {
      const std::string from =
          dir_ + "/container.log" + (i == 1 ? "" : "." + std::to_string(i - 1));
      std::error_code ignored;
      std::filesystem::rename(from, dir_ + "/container.log." + std::to_string(i), ignored);
    }
    append("");
  }
  static std::string rest(LogCursor& cursor) {
    std::string out;
    LogLine line;
    auto next = LogCursor::Next::kMore;
    while ((next = cursor.next(&line)) == LogCursor::Next::kLine ||
           next == LogCursor::Next::kMore) {
      out += line.text;
    }
    return out;
  }

  std::string dir_;
};

TEST_F(LogCursorTest, GoesOnThroughSeveralRotationsAtOnce) {
  LogCursor cursor(dir_, {});
  EXPECT_EQ(rest(cursor), "");
  append(record(1, "a"));
  EXPECT_EQ(rest(cursor), "a\n");
  append(record(2, "b"));
  rotate();
  append(record(3, "c"));
  rotate();
  rotate();
  append(record(4, "d"));
  EXPECT_EQ(rest(cursor), "b\nc\nd\n");
  EXPECT_EQ(cursor.gaps(), 0U);
}

TEST_F(LogCursorTest, WhatIsWrittenBetweenRenameAndReopenIsRead) {
  append(record(1, "a"));
  LogCursor cursor(dir_, {});
  EXPECT_EQ(rest(cursor), "a\n");
  std::filesystem::rename(dir_ + "/container.log", dir_ + "/container.log.1");
  append(record(2, "b"), "container.log.1");
  EXPECT_EQ(rest(cursor), "b\n");
  append(record(3, "c"), "container.log.1");
  append(record(4, "d"));
  EXPECT_EQ(rest(cursor), "c\nd\n");
}

TEST_F(LogCursorTest, FilesThatAreGoneAreCountedAsAGap) {
  append(record(1, "a"));
  LogCursor cursor(dir_, {});
  EXPECT_EQ(rest(cursor), "a\n");
  append(record(2, "b"));
  rotate(2);
  append(record(3, "lost"));
  rotate(2);
  append(record(4, "d"));
  // b's file was still open; what came between was deleted.
  EXPECT_EQ(rest(cursor), "b\nlost\nd\n");
  rotate(2);
  rotate(2);
  append(record(5, "e"));
  EXPECT_EQ(rest(cursor), "e\n");
  EXPECT_GE(cursor.gaps(), 1U);
}

TEST_F(LogCursorTest, PiecesAreJoinedPerStream) {
  append(record(1, "one ", "stdout", 'P') + record(1, "err ", "stderr", 'P') +
         record(2, "two", "stdout", 'F') + record(3, "or", "stderr", 'F'));
  append(record(4, "unfinished", "stdout", 'P'));
  LogCursor cursor(dir_, {});
  LogLine line;
  ASSERT_EQ(cursor.next(&line), LogCursor::Next::kLine);
  EXPECT_EQ(line.text, "one two\n");
  EXPECT_EQ(line.time_ns, 1'000'000'000);
  ASSERT_EQ(cursor.next(&line), LogCursor::Next::kLine);
  EXPECT_EQ(line.text, "err or\n");
  ASSERT_EQ(cursor.next(&line), LogCursor::Next::kNothing);
  ASSERT_TRUE(cursor.take_unfinished(&line));
  EXPECT_EQ(line.text, "unfinished");
  EXPECT_FALSE(cursor.take_unfinished(&line));
}

TEST_F(LogCursorTest, ALongLineComesInPieces) {
  for (int i = 0; i < 20; ++i) append(record(1, std::string(8000, 'x'), "stdout", 'P'));
  append(record(1, "end"));
  LogCursor cursor(dir_, {});
  LogLine line;
  size_t bytes = 0;
  int lines = 0;
  while (cursor.next(&line) == LogCursor::Next::kLine) {
    ++lines;
    bytes += line.text.size();
    EXPECT_LE(line.text.size(), LogCursor::kLineBytesMax + 8192);
  }
  EXPECT_EQ(bytes, 160'004U);
  EXPECT_EQ(lines, 3);
}

TEST_F(LogCursorTest, TailCountsWhatTheFilterTakes) {
  std::string text;
  for (int i = 0; i < 5000; ++i) {
    text += record(i, fmt::format("line {}", i), i % 2 == 0 ? "stdout" : "stderr");
  }
  append(text, "container.log.1");
  append(record(5000, "half", "stdout", 'P') + record(5000, " line") + record(5001, "e", "stderr"));
  const struct {
    int64_t tail;
    bool out, err;
    std::string expected;
  } cases[] = {
      {0, true, true, ""},
      {1, true, true, "e\n"},
      {2, true, true, "half line\ne\n"},
      {3, true, true, "line 4999\nhalf line\ne\n"},
      {2, true, false, "line 4998\nhalf line\n"},
      {1, false, true, "e\n"},
  };
  for (const auto& c : cases) {
    LogFilter filter;
    filter.include_stdout = c.out;
    filter.include_stderr = c.err;
    LogCursor cursor(dir_, filter);
    cursor.seek_tail(c.tail);
    EXPECT_EQ(rest(cursor), c.expected) << c.tail;
  }
  LogCursor all(dir_, {});
  all.seek_tail(1'000'000);
  const std::string everything = rest(all);
  EXPECT_EQ(std::count(everything.begin(), everything.end(), '\n'), 5002);
  LogFilter since;
  since.since_ns = 4998 * 1'000'000'000LL;
  LogCursor late(dir_, since);
  late.seek_tail(100);
  EXPECT_EQ(rest(late), "line 4998\nline 4999\nhalf line\ne\n");
}

TEST_F(LogCursorTest, TailGoesOnWithWhatIsWrittenLater) {
  append(record(1, "a") + record(2, "b"));
  LogCursor cursor(dir_, {});
  cursor.seek_tail(0);
  EXPECT_EQ(rest(cursor), "");
  append(record(3, "c"));
  rotate();
  append(record(4, "d"));
  EXPECT_EQ(rest(cursor), "c\nd\n");
}

TEST_F(LogCursorTest, APositionOutlivesRotationAndTheReader) {
  append(record(1, "a") + record(2, "b"));
  LogPosition position;
  {
    LogCursor cursor(dir_, {});
    LogLine line;
    ASSERT_EQ(cursor.next(&line), LogCursor::Next::kLine);
    position = cursor.position();
  }
  append(record(3, "c"));
  rotate();
  append(record(4, "d"));
  LogCursor next(dir_, {});
  EXPECT_TRUE(next.seek(position));
  EXPECT_EQ(rest(next), "b\nc\nd\n");
  position = next.position();
  LogCursor last(dir_, {});
  EXPECT_TRUE(last.seek(position));
  EXPECT_EQ(rest(last), "");
  // Rotated away: from the oldest there is, and it is told.
  rotate(2);
  rotate(2);
  append(record(5, "e"));
  LogCursor lost(dir_, {});
  EXPECT_FALSE(lost.seek(position));
  EXPECT_EQ(rest(lost), "e\n");
}

TEST_F(LogCursorTest, APositionIsNeverInAFileThatHasNoLine) {
  append(record(1, "a") + record(2, "b"));
  append(record(3, "begun ", "stdout", 'P'));
  rotate();
  LogCursor cursor(dir_, {});
  EXPECT_EQ(rest(cursor), "a\nb\n");  // and stands in the empty file now
  LogCursor next(dir_, {});
  EXPECT_TRUE(next.seek(cursor.position()));
  append(record(4, "ended"));
  EXPECT_EQ(rest(next), "begun ended\n");
}

TEST_F(LogCursorTest, TornAndForeignLinesAreSkipped) {
  append("garbage\n" + record(1, "a") + "2026-01-31T08:05:00Z std");
  LogCursor cursor(dir_, {});
  EXPECT_EQ(rest(cursor), "a\n");
  append("out F b\n");
  EXPECT_EQ(rest(cursor), "b\n");
}

// ---------------------------------------------------------------- readers

struct Collect final : LogOutput {
  bool line(const std::string& task_id, LogLine line) override {
    std::lock_guard lock(mutex);
    out += task_id + ":" + line.text;
    changed.notify_all();
    return true;
  }
  bool current() override {
    std::lock_guard lock(mutex);
    is_current = true;
    changed.notify_all();
    return true;
  }
  void await(const std::function<bool()>& done) {
    std::unique_lock lock(mutex);
    ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(20), done)) << out;
  }
  std::mutex mutex;
  std::condition_variable changed;
  std::string out;
  bool is_current = false;
};

TEST_F(LogCursorTest, SeveralContainersAreMergedByTime) {
  const std::string other = dir_ + "/other";
  std::filesystem::create_directory(other);
  append(record(1, "a") + record(3, "c"));
  append(record(2, "b") + record(4, "d"), "other/container.log");
  LogReader reader({}, false);
  reader.add({"x", dir_, true});
  reader.add({"y", other, true});
  Collect collect;
  EXPECT_TRUE(reader.run(collect).ok());
  EXPECT_EQ(collect.out, "x:a\ny:b\nx:c\ny:d\n");
}

TEST_F(LogCursorTest, FollowingTakesNewLinesRotationsAndNewContainers) {
  append(record(1, "old") + record(2, "a"));
  LogQuery query;
  query.follow = true;
  query.tail = 1;
  LogReader reader(query, true);
  reader.add({"x", dir_, false});
  Collect collect;
  std::thread thread([&] { EXPECT_TRUE(reader.run(collect).ok()); });
  collect.await([&] { return collect.is_current; });
  append(record(3, "b"));
  collect.await([&] { return collect.out == "x:a\nx:b\n"; });
  rotate();
  append(record(4, "c"));
  collect.await([&] { return collect.out == "x:a\nx:b\nx:c\n"; });
  // Of a container that comes later everything is shown; its directory may come later still.
  const std::string late = dir_ + "/late";
  std::filesystem::create_directory(late);
  append(record(5, "d") + record(6, "e"), "late/container.log");
  reader.add({"y", late, false});
  collect.await([&] { return collect.out == "x:a\nx:b\nx:c\ny:d\ny:e\n"; });
  append(record(7, "f", "stdout", 'P'), "late/container.log");
  reader.set_ended("y");
  collect.await([&] { return collect.out == "x:a\nx:b\nx:c\ny:d\ny:e\ny:f"; });
  append(record(8, "last"));
  reader.finish();
  thread.join();
  EXPECT_EQ(collect.out, "x:a\nx:b\nx:c\ny:d\ny:e\ny:fx:last\n");
}

TEST_F(LogCursorTest, FollowingEndsWithTheContainersOrTheirDirectory) {
  append(record(1, "a"));
  LogQuery query;
  query.follow = true;
  {
    LogReader reader(query, false);
    reader.add({"x", dir_, true});
    Collect collect;
    EXPECT_TRUE(reader.run(collect).ok());
    EXPECT_EQ(collect.out, "x:a\n");
  }
  const std::string gone = dir_ + "/gone";
  std::filesystem::create_directory(gone);
  append(record(1, "b"), "gone/container.log");
  LogReader reader(query, false);
  reader.add({"x", gone, false});
  Collect collect;
  std::thread thread([&] { EXPECT_TRUE(reader.run(collect).ok()); });
  collect.await([&] { return collect.is_current; });
  std::filesystem::remove_all(gone);
  thread.join();
  EXPECT_EQ(collect.out, "x:b\n");
}

}  // namespace
}  // namespace muster::agent
