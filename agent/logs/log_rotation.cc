#include "agent/logs/log_rotation.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/unique_fd.h"

namespace muster::agent {

Status rotate_log(const LogLimit& limit) {
  const std::string current = limit.bundle_dir + "/container.log";
  struct stat info {};
  if (limit.bytes_max == 0) return {};
  // Killed between the renaming and the reopening: the monitor still writes to the old file.
  const bool torn = ::stat(current.c_str(), &info) != 0;
  if (!torn && static_cast<uint64_t>(info.st_size) <= limit.bytes_max) return {};
  // Without a reader of the FIFO the monitor is gone, and so is the writer.
  const UniqueFd control(
      ::open((limit.bundle_dir + "/ctl").c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  if (!control) return {};
  for (unsigned i = limit.files_max; i > 1 && !torn; --i) {
    const std::string from = i == 2 ? current : fmt::format("{}.{}", current, i - 2);
    const std::string to = fmt::format("{}.{}", current, i - 1);
    if (::rename(from.c_str(), to.c_str()) != 0 && errno != ENOENT) {
      return errno_status(errno, to);
    }
  }
  if (limit.files_max == 1 && !torn && ::unlink(current.c_str()) != 0) {
    return errno_status(errno, current);
  }
  // conmon's message 2: open the log anew.
  constexpr char kReopen[] = "2 0 0\n";
  if (::write(control.get(), kReopen, sizeof kReopen - 1) < 0) {
    return errno_status(errno, "asking the monitor for a new log file");
  }
  return {};
}

}  // namespace muster::agent
