#include "agent/logs/log_cursor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

namespace muster::agent {
namespace {

// A record: conmon cuts lines at 8 KiB. More than this without a newline is no log.
constexpr size_t kRecordBytesMax = 1 << 20;
constexpr size_t kHeadBytes = 64;

ssize_t read_at(int fd, char* out, size_t size, uint64_t offset) {
  while (true) {
    const ssize_t got = ::pread(fd, out, size, static_cast<off_t>(offset));
    if (got >= 0 || errno != EINTR) return got;
  }
}

// How a file begins: the time stamp of its first line, which no other file of the container has.
std::string head_of(int fd) {
  char text[kHeadBytes];
  const ssize_t got = read_at(fd, text, sizeof text, 0);
  if (got <= 0) return {};
  const std::string_view head(text, static_cast<size_t>(got));
  const size_t space = head.find(' ');
  return space == std::string_view::npos ? std::string() : std::string(head.substr(0, space));
}

bool same_file(int fd, const std::string& path) {
  struct stat open_file {};
  struct stat named {};
  return ::fstat(fd, &open_file) == 0 && ::stat(path.c_str(), &named) == 0 &&
         open_file.st_ino == named.st_ino && open_file.st_dev == named.st_dev;
}

// Walks a file's records backwards.
class BackwardReader {
 public:
  explicit BackwardReader(int fd) : fd_(fd) {
    struct stat info {};
    if (::fstat(fd, &info) == 0) begin_ = static_cast<uint64_t>(info.st_size);
    end_ = begin_;
    // What stands behind the last newline is not finished and left out.
    std::string_view record;
    if (load() && text_.back() != '\n') previous(&record, &end_);
  }
  // Behind the last record.
  uint64_t end() const { return end_; }

  // The record before, without its newline, and where it begins; false at the file's start.
  bool previous(std::string_view* record, uint64_t* offset) {
    if (!text_.empty() && text_.back() == '\n')
      text_.pop_back();
    else if (text_.empty() && begin_ == 0)
      return false;
    size_t newline = 0;
    while ((newline = text_.rfind('\n')) == std::string::npos) {
      if (text_.size() > kRecordBytesMax) return false;
      if (!load()) break;
    }
    const size_t start = newline == std::string::npos ? 0 : newline + 1;
    record_ = text_.substr(start);
    text_.resize(start);
    *record = record_;
    *offset = begin_ + start;
    return true;
  }

 private:
  // Puts the block before in front.
  bool load() {
    if (begin_ == 0) return false;
    const uint64_t size = std::min<uint64_t>(begin_, LogCursor::kBlockBytes);
    std::string block(size, '\0');
    const ssize_t got = read_at(fd_, block.data(), size, begin_ - size);
    if (got != static_cast<ssize_t>(size)) return false;
    begin_ -= size;
    text_.insert(0, block);
    return true;
  }

  int fd_;
  uint64_t begin_ = 0;  // of text_ in the file
  uint64_t end_ = 0;
  std::string text_;
  std::string record_;
};

}  // namespace

LogCursor::LogCursor(std::string bundle_dir, LogFilter filter)
    : bundle_dir_(std::move(bundle_dir)), filter_(filter) {}

std::string LogCursor::file_name(int index) const {
  const std::string path = bundle_dir_ + "/container.log";
  return index == 0 ? path : fmt::format("{}.{}", path, index);
}

int LogCursor::index_of_current() const {
  for (int i = 0; i <= kRotatedFilesMax; ++i) {
    if (same_file(current_.get(), file_name(i))) return i;
  }
  return -1;
}

bool LogCursor::open_file(int index, uint64_t offset) {
  UniqueFd file(::open(file_name(index).c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return false;
  adopt(std::move(file), offset);
  return true;
}

void LogCursor::adopt(UniqueFd file, uint64_t offset) {
  current_ = std::move(file);
  head_ = head_of(current_.get());
  read_offset_ = offset;
  block_.clear();
  block_begin_ = 0;
  skipping_ = drained_ = false;
}

bool LogCursor::open_oldest() {
  int oldest = -1;
  for (int i = 0; i <= kRotatedFilesMax; ++i) {
    struct stat info {};
    if (::stat(file_name(i).c_str(), &info) != 0) {
      // Between a rotation and the monitor's new file there is a moment without container.log.
      if (i > 0) break;
      continue;
    }
    // Files that were last written before the time asked for need no reading.
    const int64_t written = info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec;
    if (i > 0 && filter_.since_ns > 0 && written < filter_.since_ns) break;
    oldest = i;
  }
  return oldest >= 0 && open_file(oldest, 0);
}

void LogCursor::seek_start() {
  current_.reset();
  pieces_ = {};
}

void LogCursor::seek_tail(int64_t lines) {
  seek_start();
  // Newest first. A rotation meanwhile brings a file under its next name again.
  std::vector<UniqueFd> files;
  for (int i = 0; i <= kRotatedFilesMax; ++i) {
    UniqueFd file(::open(file_name(i).c_str(), O_RDONLY | O_CLOEXEC));
    if (!file && i > 0) break;
    if (file && (files.empty() || !same_file(files.back().get(), file_name(i)))) {
      files.push_back(std::move(file));
    }
  }
  int64_t found = 0;
  for (UniqueFd& file : files) {
    BackwardReader reader(file.get());
    uint64_t start = reader.end();
    bool complete = false;
    std::string_view text;
    uint64_t offset = 0;
    while (!complete && reader.previous(&text, &offset)) {
      const auto record = parse_log_line(text);
      const bool whole = record && !record->text.empty() && record->text.back() == '\n';
      const bool taken = whole && filter_.takes(record->time_ns, record->is_stderr);
      // Pieces go with the whole line behind them.
      complete = (record && record->time_ns < filter_.since_ns) || (taken && ++found > lines);
      if (!complete) start = offset;
    }
    adopt(std::move(file), start);
    if (complete) return;
  }
}

bool LogCursor::seek(const LogPosition& position) {
  seek_start();
  if (position.file_head.empty()) return true;
  for (int i = 0; i <= kRotatedFilesMax; ++i) {
    UniqueFd file(::open(file_name(i).c_str(), O_RDONLY | O_CLOEXEC));
    if (!file && i > 0) break;
    struct stat info {};
    if (!file || head_of(file.get()) != position.file_head || ::fstat(file.get(), &info) != 0 ||
        static_cast<uint64_t>(info.st_size) < position.offset) {
      continue;
    }
    adopt(std::move(file), position.offset);
    safe_ = position;
    return true;
  }
  return false;
}

bool LogCursor::advance() {
  const int index = index_of_current();
  if (index == 0) return false;
  // Written to until the newer file exists: a look at what came meanwhile, then on.
  const int next = index > 0 ? index - 1 : 0;
  struct stat newer {};
  if (::stat(file_name(next).c_str(), &newer) != 0) return false;
  if (!std::exchange(drained_, true)) return true;
  if (index > 0) return open_file(next, 0);
  ++gaps_;
  return open_oldest();
}

bool LogCursor::fill() {
  if (!current_ && !open_oldest()) return false;
  block_.erase(0, std::exchange(block_begin_, 0));
  if (block_.size() > kRecordBytesMax) {
    block_.clear();
    skipping_ = true;
  }
  const size_t kept = block_.size();
  block_.resize(kept + kBlockBytes);
  const ssize_t got = read_at(current_.get(), block_.data() + kept, kBlockBytes, read_offset_);
  block_.resize(kept + static_cast<size_t>(std::max<ssize_t>(got, 0)));
  if (got <= 0) return false;
  if (head_.empty()) head_ = head_of(current_.get());
  read_offset_ += static_cast<uint64_t>(got);
  return true;
}

bool LogCursor::add_record(LogLine record, LogLine* line) {
  LogLine& piece = pieces_[record.is_stderr ? 1 : 0];
  if (!piece.text.empty()) {
    record.time_ns = piece.time_ns;
    record.text.insert(0, piece.text);
    piece.text.clear();
  }
  const bool whole = !record.text.empty() && record.text.back() == '\n';
  if (!whole && record.text.size() < kLineBytesMax) {
    piece = std::move(record);
    return false;
  }
  *line = std::move(record);
  return true;
}

LogCursor::Next LogCursor::next(LogLine* line) {
  uint64_t scanned = 0;
  while (true) {
    const size_t end = block_.find('\n', block_begin_);
    if (end == std::string::npos) {
      if (scanned >= kScanBytesMax) return Next::kMore;
      scanned += kBlockBytes;
      if (fill()) continue;
      if (current_ && advance()) continue;
      return Next::kNothing;
    }
    const std::string_view text = std::string_view(block_).substr(block_begin_, end - block_begin_);
    auto record = skipping_ ? std::nullopt : parse_log_line(text);
    skipping_ = false;
    block_begin_ = end + 1;
    bool complete = false;
    if (record) complete = add_record(*std::move(record), line);
    if (pieces_[0].text.empty() && pieces_[1].text.empty()) mark_safe();
    if (!complete) continue;
    if (filter_.until_ns > 0 && line->time_ns >= filter_.until_ns) return Next::kPastUntil;
    if (filter_.takes(line->time_ns, line->is_stderr)) return Next::kLine;
  }
}

bool LogCursor::take_unfinished(LogLine* line) {
  for (LogLine& piece : pieces_) {
    if (piece.text.empty()) continue;
    *line = std::exchange(piece, {});
    if (pieces_[0].text.empty() && pieces_[1].text.empty()) mark_safe();
    if (filter_.takes(line->time_ns, line->is_stderr)) return true;
  }
  return false;
}

void LogCursor::mark_safe() {
  if (safe_.file_head != head_) safe_.file_head = head_;
  safe_.offset = read_offset_ - (block_.size() - block_begin_);
}

}  // namespace muster::agent
