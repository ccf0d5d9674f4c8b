#include "agent/logs/log_line.h"

#include "base/time.h"

namespace muster::agent {

std::optional<LogLine> parse_log_line(std::string_view line) {
  const size_t first = line.find(' ');
  if (first == std::string_view::npos) return std::nullopt;
  const size_t second = line.find(' ', first + 1);
  if (second == std::string_view::npos || second + 3 > line.size()) return std::nullopt;
  const auto time = parse_rfc3339(line.substr(0, first));
  const std::string_view stream = line.substr(first + 1, second - first - 1);
  const char tag = line[second + 1];
  if (!time || (stream != "stdout" && stream != "stderr") || (tag != 'F' && tag != 'P') ||
      line[second + 2] != ' ') {
    return std::nullopt;
  }
  LogLine out;
  out.time_ns = time->unix_ns;
  out.is_stderr = stream == "stderr";
  out.text = std::string(line.substr(second + 3));
  if (tag == 'F') out.text.push_back('\n');
  return out;
}

}  // namespace muster::agent
