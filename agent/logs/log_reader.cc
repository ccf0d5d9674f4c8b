#include "agent/logs/log_reader.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <queue>
#include <utility>

#include "base/thread_executor.h"

namespace muster::agent {

LogReader::LogReader(LogQuery query, bool open_ended)
    : query_(std::move(query)),
      open_ended_(open_ended),
      event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

LogReader::~LogReader() = default;

void LogReader::wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t done = ::write(event_.get(), &one, sizeof one);
}

void LogReader::add(LogSource source) {
  std::lock_guard lock(mutex_);
  added_.push_back(std::move(source));
  wake();
}

void LogReader::set_ended(const std::string& task_id) {
  std::lock_guard lock(mutex_);
  ended_.push_back(task_id);
  wake();
}

void LogReader::finish() {
  std::lock_guard lock(mutex_);
  finish_asked_ = true;
  wake();
}

void LogReader::cancel() {
  std::lock_guard lock(mutex_);
  cancelled_ = true;
  wake();
}

void LogReader::take_news() {
  std::vector<LogSource> added;
  std::vector<std::string> ended;
  {
    std::lock_guard lock(mutex_);
    added.swap(added_);
    ended.swap(ended_);
    finishing_ = finish_asked_;
  }
  for (LogSource& source : added) open(std::move(source));
  for (const std::string& task_id : ended) {
    const auto found = by_task_.find(task_id);
    if (found != by_task_.end() && found->second != nullptr) found->second->ended = true;
  }
}

void LogReader::open(LogSource source) {
  if (by_task_.count(source.task_id) != 0) return;
  auto opened = std::make_unique<Open>(Open{
      source.task_id, LogCursor(source.bundle_dir, query_.filter), {}, source.ended, false, -1});
  // Watched first: what is written between the first look and the watch would be missed.
  watch(*opened);
  // A container that began while its service is followed is shown from its beginning.
  if (query_.tail && !was_current_) opened->cursor.seek_tail(std::max<int64_t>(*query_.tail, 0));
  by_task_[opened->task_id] = opened.get();
  sources_.push_back(std::move(opened));
}

void LogReader::watch(Open& source) {
  if (!query_.follow || source.watch >= 0) return;
  source.watch = ::inotify_add_watch(inotify_.get(), source.cursor.bundle_dir().c_str(),
                                     IN_MODIFY | IN_MOVED_TO | IN_CREATE | IN_DELETE);
  if (source.watch >= 0) by_watch_[source.watch] = &source;
}

// The directory was there and is gone, and with it whatever could still be written. inotify does
// not tell while the log is open here.
bool LogReader::vanished(const Open& source) const {
  return source.watch >= 0 && ::access(source.cursor.bundle_dir().c_str(), F_OK) != 0;
}

LogReader::Pass LogReader::pull(Open& source, LogOutput& output) {
  if (source.over || source.head) return Pass::kGoOn;
  // Known before the look at the file: what was written before the end is not missed.
  const bool ended = source.ended || finishing_ || !query_.follow;
  LogLine line;
  LogCursor::Next next;
  while ((next = source.cursor.next(&line)) == LogCursor::Next::kMore) {
    if (!output.idle()) return Pass::kStop;
  }
  if (next == LogCursor::Next::kLine ||
      (next == LogCursor::Next::kNothing && ended && source.cursor.take_unfinished(&line))) {
    source.head = std::move(line);
  } else {
    source.over = ended || next == LogCursor::Next::kPastUntil || vanished(source);
  }
  return Pass::kGoOn;
}

LogReader::Pass LogReader::drain(LogOutput& output, const std::set<Open*>& changed) {
  const auto later = [](const Open* a, const Open* b) {
    if (a->head->time_ns != b->head->time_ns) return a->head->time_ns > b->head->time_ns;
    return a->task_id > b->task_id;
  };
  std::priority_queue<Open*, std::vector<Open*>, decltype(later)> heads(later);
  for (Open* source : changed) {
    if (pull(*source, output) == Pass::kStop) return Pass::kStop;
    if (source->head) heads.push(source);
  }
  while (!heads.empty()) {
    Open* source = heads.top();
    heads.pop();
    LogLine line = *std::exchange(source->head, std::nullopt);
    if (!output.line(source->task_id, std::move(line))) return Pass::kStop;
    if (pull(*source, output) == Pass::kStop) return Pass::kStop;
    if (source->head) heads.push(source);
  }
  return Pass::kGoOn;
}

// What is over lets go of its file and its watch: a service may be followed for months.
void LogReader::retire(const std::set<Open*>& changed) {
  std::set<Open*> over;
  for (Open* source : changed) {
    if (!source->over) continue;
    over.insert(source);
    by_task_[source->task_id] = nullptr;
    if (source->watch < 0) continue;
    by_watch_.erase(source->watch);
    ::inotify_rm_watch(inotify_.get(), source->watch);
  }
  std::erase_if(sources_, [&](const auto& source) { return over.count(source.get()) != 0; });
}

bool LogReader::complete() const {
  if (query_.follow && open_ended_ && !finishing_) return false;
  return sources_.empty();
}

bool LogReader::wait(std::set<Open*>* changed) {
  struct pollfd fds[2] = {{inotify_.get(), POLLIN, 0}, {event_.get(), POLLIN, 0}};
  const int count = ::poll(fds, 2, static_cast<int>(kIdlePeriod / 1ms));
  alignas(struct inotify_event) char buffer[16384];
  ssize_t got = 0;
  while ((got = ::read(inotify_.get(), buffer, sizeof buffer)) > 0) {
    for (ssize_t at = 0; at < got;) {
      const auto* event = reinterpret_cast<const struct inotify_event*>(buffer + at);
      at += static_cast<ssize_t>(sizeof *event + event->len);
      const auto found = by_watch_.find(event->wd);
      if (found != by_watch_.end()) changed->insert(found->second);
    }
  }
  // Events may have been dropped, or a directory made since: a look at everything is cheap.
  if (count == 0 || fds[1].revents != 0) {
    for (const auto& source : sources_) {
      watch(*source);
      changed->insert(source.get());
    }
  }
  uint64_t ignored = 0;
  [[maybe_unused]] const ssize_t taken = ::read(event_.get(), &ignored, sizeof ignored);
  std::lock_guard lock(mutex_);
  return !cancelled_;
}

Status LogReader::run(LogOutput& output) {
  if (query_.follow) {
    inotify_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!inotify_) return errno_status(errno, "following logs");
  }
  const SystemClock clock;
  std::set<Open*> changed;
  while (true) {
    const size_t known = sources_.size();
    const bool was_finishing = finishing_;
    take_news();
    for (size_t i = known; i < sources_.size(); ++i) changed.insert(sources_[i].get());
    if (finishing_ && !was_finishing) {
      for (const auto& source : sources_) changed.insert(source.get());
    }
    if (drain(output, changed) == Pass::kStop) return {};
    retire(changed);
    changed.clear();
    if (!was_current_) {
      was_current_ = true;
      if (!output.current()) return {};
    }
    if (!output.idle()) return {};
    if (!query_.follow || complete()) return {};
    if (query_.filter.until_ns > 0 && clock.wall_now().unix_ns >= query_.filter.until_ns) return {};
    if (!wait(&changed)) return {};
  }
}

}  // namespace muster::agent
