#include "agent/logs/log_forwarder.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include "agent/logs/log_plan.h"
#include "base/file.h"
#include "base/thread_executor.h"

namespace muster::agent {
namespace {

constexpr unsigned kDaemonFacility = 3;

// "<offset> <head>\n".
LogPosition load_position(const std::string& path) {
  LogPosition out;
  const auto text = read_file(path, 256);
  if (!text) return out;
  const char* const last = text->data() + text->size();
  const auto [end, error] = std::from_chars(text->data(), last, out.offset);
  const size_t newline = text->find('\n');
  if (error != std::errc() || end == last || *end != ' ' || newline == std::string::npos) return {};
  out.file_head.assign(end + 1, text->data() + newline);
  return out;
}

}  // namespace

std::string LogForwarder::position_file(const std::string& bundle_dir) {
  return bundle_dir + "/container.log.sent";
}

LogForwarder::LogForwarder(std::string journal_socket, Log log)
    : journal_socket_(std::move(journal_socket)),
      log_(std::move(log)),
      inotify_(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)),
      event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      thread_([this] { run(); }) {}

LogForwarder::~LogForwarder() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t done = ::write(event_.get(), &one, sizeof one);
  thread_.join();
}

void LogForwarder::set_targets(std::vector<ForwardTarget> targets) {
  std::lock_guard lock(mutex_);
  wanted_ = std::move(targets);
  changed_ = true;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t done = ::write(event_.get(), &one, sizeof one);
}

LogForwarder::Destination& LogForwarder::destination_of(const v1::LogDriver& driver) {
  const bool journal = driver.name() == "journald";
  const std::string address = journal ? "journal" : log_option(driver, "syslog-address");
  Destination& destination = destinations_[address];
  if (destination.sink == nullptr) {
    // The address was checked before the container was made.
    destination.sink = journal
                           ? make_journal_sink(journal_socket_)
                           : make_syslog_sink(parse_syslog_address(address).value_or(SyslogAddress{
                                 SyslogAddress::Transport::kUnixgram, "/dev/log", ""}));
  }
  return destination;
}

std::unique_ptr<LogForwarder::Forward> LogForwarder::open(ForwardTarget target) {
  auto forward = std::make_unique<Forward>(Forward{target,
                                                   LogCursor(target.bundle_dir, {}),
                                                   &destination_of(target.driver),
                                                   {},
                                                   0,
                                                   0,
                                                   true,
                                                   -1});
  if (!forward->cursor.seek(load_position(position_file(target.bundle_dir)))) {
    log_->warn("container {}: log lines may have been deleted before they could be forwarded",
               target.identity.name);
  }
  forward->watch = ::inotify_add_watch(inotify_.get(), target.bundle_dir.c_str(),
                                       IN_MODIFY | IN_MOVED_TO | IN_CREATE);
  return forward;
}

void LogForwarder::take_targets() {
  std::vector<ForwardTarget> wanted;
  {
    std::lock_guard lock(mutex_);
    if (!std::exchange(changed_, false)) return;
    wanted.swap(wanted_);
  }
  std::set<std::string> named;
  for (ForwardTarget& target : wanted) {
    named.insert(target.task_id);
    auto& slot = forwards_[target.task_id];
    if (slot == nullptr) {
      slot = open(std::move(target));
    } else if (target.ended && !slot->target.ended) {
      slot->target.ended = slot->more = true;
    }
  }
  for (auto it = forwards_.begin(); it != forwards_.end();) {
    if (named.count(it->first) != 0) {
      ++it;
      continue;
    }
    const Forward& gone = *it->second;
    if (gone.sent < gone.batch.size()) {
      log_->warn("container {}: its log was removed before all of it could be forwarded",
                 gone.target.identity.name);
    }
    if (gone.watch >= 0) ::inotify_rm_watch(inotify_.get(), gone.watch);
    it = forwards_.erase(it);
  }
}

std::string LogForwarder::message_of(const Forward& forward, const LogLine& line) const {
  const v1::LogDriver& driver = forward.target.driver;
  if (driver.name() == "journald") return journal_entry(forward.target.identity, line);
  const unsigned facility =
      parse_syslog_facility(log_option(driver, "syslog-facility")).value_or(kDaemonFacility);
  return syslog_message(log_option(driver, "syslog-format"), facility, forward.target.identity,
                        line);
}

void LogForwarder::save(const Forward& forward) {
  const LogPosition position = forward.cursor.position();
  // Not synced: it has to survive this process, and after a crash of the host lines sent twice are
  // better than waiting for the disk with every batch.
  const Status saved = write_file_atomic(
      position_file(forward.target.bundle_dir),
      fmt::format("{} {}\n", position.offset, position.file_head), 0600, Durability::kNone);
  if (!saved.ok()) log_->debug("log position: {}", saved.message());
}

bool LogForwarder::send(Forward& forward) {
  Destination& to = *forward.destination;
  const TimePoint now = clock_.now();
  if (now < to.blocked_until) return false;
  while (forward.sent < forward.batch.size()) {
    const Status sent = to.sink->send(message_of(forward, forward.batch[forward.sent]));
    if (!sent.ok()) {
      if (to.retry == kRetryMin) {
        log_->warn("container {}: {}; lines wait in its log", forward.target.identity.name,
                   sent.message());
      }
      to.blocked_until = clock_.now() + to.retry;
      to.retry = std::min(to.retry * 2, kRetryMax);
      return false;
    }
    to.retry = kRetryMin;
    ++forward.sent;
  }
  forward.batch.clear();
  forward.sent = 0;
  save(forward);
  return true;
}

bool LogForwarder::forward(Forward& forward) {
  if (forward.batch.empty()) {
    LogLine line;
    const bool ended = forward.target.ended;
    auto next = LogCursor::Next::kMore;
    while (forward.batch.size() < kBatchLines &&
           (next = forward.cursor.next(&line)) == LogCursor::Next::kLine) {
      forward.batch.push_back(std::move(line));
    }
    if (next == LogCursor::Next::kNothing) {
      forward.more = false;
      while (ended && forward.cursor.take_unfinished(&line)) {
        forward.batch.push_back(std::move(line));
      }
    }
  }
  if (forward.cursor.gaps() != forward.gaps) {
    forward.gaps = forward.cursor.gaps();
    log_->warn("container {}: log lines may have been rotated away before they could be forwarded",
               forward.target.identity.name);
  }
  if (forward.batch.empty()) return false;
  if (!send(forward)) {
    forward.more = true;
    return false;
  }
  return forward.more;
}

void LogForwarder::wait() {
  // Files that nothing can be sent from now are looked at again when their destination may be.
  Duration timeout = 60s;
  const TimePoint now = clock_.now();
  for (const auto& [id, forward] : forwards_) {
    if (!forward->more) continue;
    timeout = std::min(timeout, std::max<Duration>(forward->destination->blocked_until - now, 0ns));
  }
  struct pollfd fds[2] = {{inotify_.get(), POLLIN, 0}, {event_.get(), POLLIN, 0}};
  ::poll(fds, 2, static_cast<int>(timeout / 1ms) + 1);
  alignas(struct inotify_event) char buffer[16384];
  ssize_t got = 0;
  std::set<int> touched;
  while ((got = ::read(inotify_.get(), buffer, sizeof buffer)) > 0) {
    for (ssize_t at = 0; at < got;) {
      const auto* event = reinterpret_cast<const struct inotify_event*>(buffer + at);
      at += static_cast<ssize_t>(sizeof *event + event->len);
      touched.insert(event->wd);
    }
  }
  for (const auto& [id, forward] : forwards_) {
    if (touched.count(forward->watch) != 0 || touched.count(-1) != 0 || forward->watch < 0) {
      forward->more = true;
    }
  }
  uint64_t ignored = 0;
  [[maybe_unused]] const ssize_t taken = ::read(event_.get(), &ignored, sizeof ignored);
}

void LogForwarder::run() {
  while (true) {
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    take_targets();
    bool more = false;
    for (const auto& [id, forward] : forwards_) {
      if (forward->more && this->forward(*forward)) more = true;
    }
    if (!more) wait();
  }
}

}  // namespace muster::agent
