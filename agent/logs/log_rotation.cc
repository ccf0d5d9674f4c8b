#include "agent/logs/log_rotation.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "base/unique_fd.h"

namespace muster::agent {

uint64_t parse_size(const std::string& text) {
  uint64_t value = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc()) return 0;
  std::string unit(end, last);
  std::transform(unit.begin(), unit.end(), unit.begin(),
                 [](unsigned char c) { return static_cast<char>(::tolower(c)); });
  if (unit.empty() || unit == "b") return value;
  if (unit == "k" || unit == "kb") return value << 10;
  if (unit == "m" || unit == "mb") return value << 20;
  if (unit == "g" || unit == "gb") return value << 30;
  return 0;
}

LogLimit log_limit(const v1::LogDriver& driver) {
  LogLimit limit;
  for (const v1::KeyValue& option : driver.options()) {
    if (option.key() == "max-size") limit.bytes_max = parse_size(option.value());
    if (option.key() == "max-file") {
      limit.files_max =
          static_cast<unsigned>(std::clamp<uint64_t>(parse_size(option.value()), 1, 100));
    }
  }
  return limit;
}

Status rotate_log(const LogLimit& limit) {
  const std::string current = limit.bundle_dir + "/container.log";
  struct stat info {};
  if (limit.bytes_max == 0 || ::stat(current.c_str(), &info) != 0 ||
      static_cast<uint64_t>(info.st_size) <= limit.bytes_max) {
    return {};
  }
  // Without a reader of the FIFO the monitor is gone, and so is the writer.
  const UniqueFd control(
      ::open((limit.bundle_dir + "/ctl").c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  if (!control) return {};
  for (unsigned i = limit.files_max; i > 1; --i) {
    const std::string from = i == 2 ? current : fmt::format("{}.{}", current, i - 2);
    const std::string to = fmt::format("{}.{}", current, i - 1);
    if (::rename(from.c_str(), to.c_str()) != 0 && errno != ENOENT) {
      return errno_status(errno, to);
    }
  }
  if (limit.files_max == 1 && ::unlink(current.c_str()) != 0) return errno_status(errno, current);
  // conmon's message 2: open the log anew.
  constexpr char kReopen[] = "2 0 0\n";
  if (::write(control.get(), kReopen, sizeof kReopen - 1) < 0) {
    return errno_status(errno, "asking the monitor for a new log file");
  }
  return {};
}

}  // namespace muster::agent
