#include "agent/logs/log_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/thread_executor.h"

namespace muster::agent {
namespace {

// How often the container's state is looked at while its log is silent.
constexpr int kEndedCheckMs = 500;
constexpr int kRotatedFilesMax = 100;

bool same_file(int fd, const std::string& path) {
  struct stat open_file {};
  struct stat named {};
  return ::fstat(fd, &open_file) == 0 && ::stat(path.c_str(), &named) == 0 &&
         open_file.st_ino == named.st_ino && open_file.st_dev == named.st_dev;
}

}  // namespace

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

LogReader::LogReader(LogQuery query)
    : query_(std::move(query)), cancel_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

LogReader::~LogReader() = default;

void LogReader::cancel() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t done = ::write(cancel_.get(), &one, sizeof one);
}

LogReader::More LogReader::deliver(LogLine line, const std::function<bool(LogLine)>& each) {
  if (line.is_stderr ? !query_.include_stderr : !query_.include_stdout) return More::kYes;
  if (query_.since_ns > 0 && line.time_ns < query_.since_ns) return More::kYes;
  if (query_.until_ns > 0 && line.time_ns >= query_.until_ns) return More::kStop;
  if (!collecting_tail_) return each(std::move(line)) ? More::kYes : More::kStop;
  tail_.push_back(std::move(line));
  if (static_cast<int64_t>(tail_.size()) > *query_.tail) tail_.pop_front();
  return More::kYes;
}

LogReader::More LogReader::read_file_lines(int fd, std::string& rest,
                                           const std::function<bool(LogLine)>& each) {
  char buffer[65536];
  while (true) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return More::kYes;
    rest.append(buffer, static_cast<size_t>(got));
    size_t begin = 0;
    for (size_t end = 0; (end = rest.find('\n', begin)) != std::string::npos; begin = end + 1) {
      auto line = parse_log_line(std::string_view(rest).substr(begin, end - begin));
      if (line && deliver(*std::move(line), each) == More::kStop) return More::kStop;
    }
    rest.erase(0, begin);
  }
}

Status LogReader::run(const std::function<bool(LogLine)>& each,
                      const std::function<bool()>& ended) {
  const std::string path = query_.bundle_dir + "/container.log";
  if (query_.follow) {
    inotify_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!inotify_ ||
        ::inotify_add_watch(inotify_.get(), query_.bundle_dir.c_str(),
                            IN_MODIFY | IN_MOVED_TO | IN_CREATE | IN_DELETE_SELF) < 0) {
      return errno_status(errno, "following " + path);
    }
  }
  collecting_tail_ = query_.tail.has_value() && *query_.tail >= 0;
  // Opened oldest first while the newest stays open: a rotation meanwhile only renames.
  std::vector<UniqueFd> files;
  for (int i = 0; i <= kRotatedFilesMax; ++i) {
    const std::string name = i == 0 ? path : fmt::format("{}.{}", path, i);
    UniqueFd file(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file && i > 0) break;
    if (file) files.push_back(std::move(file));
  }
  More more = More::kYes;
  while (!files.empty() && more == More::kYes) {
    current_ = std::move(files.back());
    files.pop_back();
    rest_.clear();
    more = read_file_lines(current_.get(), rest_, each);
  }
  if (collecting_tail_) {
    collecting_tail_ = false;
    for (LogLine& line : std::exchange(tail_, {})) {
      if (*query_.tail > 0 && !each(std::move(line))) return {};
    }
  }
  if (more == More::kStop || !query_.follow) return {};
  return follow(each, ended);
}

bool LogReader::wait_for_change() {
  struct pollfd fds[2] = {{inotify_.get(), POLLIN, 0}, {cancel_.get(), POLLIN, 0}};
  ::poll(fds, 2, kEndedCheckMs);
  if (fds[1].revents != 0) return false;
  char buffer[4096];
  while (::read(inotify_.get(), buffer, sizeof buffer) > 0) {
  }
  return true;
}

Status LogReader::follow(const std::function<bool(LogLine)>& each,
                         const std::function<bool()>& ended) {
  const std::string path = query_.bundle_dir + "/container.log";
  const SystemClock clock;
  while (true) {
    const bool over = ended();  // asked before reading, so that nothing written before is missed
    if (current_ && read_file_lines(current_.get(), rest_, each) == More::kStop) return {};
    if (!current_ || !same_file(current_.get(), path)) {
      UniqueFd next(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      if (next) {
        // What was written to the old file until the very moment of its replacement.
        if (current_ && read_file_lines(current_.get(), rest_, each) == More::kStop) return {};
        current_ = std::move(next);
        rest_.clear();
        continue;
      }
      if (::access(query_.bundle_dir.c_str(), F_OK) != 0) return {};
    }
    if (over) return {};
    if (query_.until_ns > 0 && clock.wall_now().unix_ns >= query_.until_ns) return {};
    if (!wait_for_change()) return {};
  }
}

}  // namespace muster::agent
