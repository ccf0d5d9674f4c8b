#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace muster::agent {

// One line of a container's output, or a piece of a very long one.
struct LogLine {
  int64_t time_ns = 0;
  bool is_stderr = false;
  std::string text;  // with its newline, except for a piece that goes on in the next
};

// Which lines are of interest.
struct LogFilter {
  int64_t since_ns = 0;  // 0 = from the start
  int64_t until_ns = 0;  // 0 = no end; the time itself is outside
  bool include_stdout = true;
  bool include_stderr = true;

  bool takes(int64_t time_ns, bool is_stderr) const {
    return (is_stderr ? include_stderr : include_stdout) && time_ns >= since_ns &&
           (until_ns <= 0 || time_ns < until_ns);
  }
};

// Parses a line of conmon's k8s-file format: "<RFC 3339> stdout|stderr F|P <text>". Nothing when
// it is malformed (a torn write of a killed monitor).
std::optional<LogLine> parse_log_line(std::string_view line);

}  // namespace muster::agent
