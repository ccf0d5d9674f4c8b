#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/time.h"
#include "base/unique_fd.h"

namespace muster::agent {

// One line of a container's output, or a piece of a very long one.
struct LogLine {
  int64_t time_ns = 0;
  bool is_stderr = false;
  std::string text;  // with its newline, except for a piece that goes on in the next
};

// Parses a line of conmon's k8s-file format: "<RFC 3339> stdout|stderr F|P <text>". Nothing when
// it is malformed (a torn write of a killed monitor).
std::optional<LogLine> parse_log_line(std::string_view line);

struct LogQuery {
  std::string bundle_dir;
  std::optional<int64_t> tail;  // last lines that match; absent = all
  int64_t since_ns = 0;         // 0 = from the start
  int64_t until_ns = 0;         // 0 = no end
  bool include_stdout = true;
  bool include_stderr = true;
  bool follow = false;
};

// Reads one container's log through all its rotated files, oldest first, and follows it with
// inotify. Blocks; one thread per reader. Memory: one line, or with `tail` that many.
class LogReader {
 public:
  explicit LogReader(LogQuery query);
  ~LogReader();

  // Calls `each` for every line until the end, or, following, until cancel(), the container's end
  // (`ended` true and everything read) or until_ns has passed. `each` returns false to stop.
  Status run(const std::function<bool(LogLine)>& each, const std::function<bool()>& ended);
  // From any thread; run() returns soon.
  void cancel();

 private:
  enum class More { kYes, kStop };
  More read_file_lines(int fd, std::string& rest, const std::function<bool(LogLine)>& each);
  More deliver(LogLine line, const std::function<bool(LogLine)>& each);
  Status follow(const std::function<bool(LogLine)>& each, const std::function<bool()>& ended);
  bool wait_for_change();

  LogQuery query_;
  UniqueFd inotify_;
  UniqueFd cancel_;
  UniqueFd current_;
  std::string rest_;  // of current_, after its last newline
  bool collecting_tail_ = false;
  std::deque<LogLine> tail_;
};

}  // namespace muster::agent
