#include "agent/runtime/exit_watcher.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <utility>

#include "base/file.h"
#include "base/thread_executor.h"

namespace muster::agent {

ExitWatcher::ExitWatcher(std::string exit_dir, const Cgroups& cgroups, Log log)
    : exit_dir_(std::move(exit_dir)), cgroups_(cgroups), log_(std::move(log)) {}

Result<std::unique_ptr<ExitWatcher>> ExitWatcher::create(std::string exit_dir,
                                                         const Cgroups& cgroups, Log log) {
  std::unique_ptr<ExitWatcher> watcher(
      new ExitWatcher(std::move(exit_dir), cgroups, std::move(log)));
  watcher->inotify_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  watcher->wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  watcher->epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!watcher->inotify_ || !watcher->wake_ || !watcher->epoll_) {
    return fail(errno_status(errno, "watching container ends"));
  }
  if (::inotify_add_watch(watcher->inotify_.get(), watcher->exit_dir_.c_str(),
                          IN_MOVED_TO | IN_CLOSE_WRITE) < 0) {
    return fail(errno_status(errno, "watching " + watcher->exit_dir_));
  }
  for (const auto& [fd, serial] : {std::pair(watcher->inotify_.get(), kInotifySerial),
                                   std::pair(watcher->wake_.get(), kWakeSerial)}) {
    struct epoll_event event {};
    event.events = EPOLLIN;
    event.data.u64 = serial;
    if (::epoll_ctl(watcher->epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      return fail(errno_status(errno, "epoll"));
    }
  }
  watcher->thread_ = std::thread([raw = watcher.get()] { raw->run(); });
  ::pthread_setname_np(watcher->thread_.native_handle(), "exit-watch");
  return watcher;
}

ExitWatcher::~ExitWatcher() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  const uint64_t one = 1;
  if (wake_) [[maybe_unused]]
    const ssize_t done = ::write(wake_.get(), &one, sizeof one);
  if (thread_.joinable()) thread_.join();
}

Status ExitWatcher::watch(ExitSource source, UniqueFd monitor,
                          std::function<void(ContainerExit)> exited) {
  Watch watch;
  watch.monitor = std::move(monitor);
  const std::string id = source.container_id;
  watch.source = std::move(source);
  watch.exited = std::move(exited);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (watches_.count(id) != 0) return already_exists("container {} is watched already", id);
    if (watch.monitor) {
      watch.serial = next_serial_++;
      struct epoll_event event {};
      event.events = EPOLLIN | EPOLLONESHOT;
      event.data.u64 = watch.serial;
      if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, watch.monitor.get(), &event) != 0) {
        return errno_status(errno, "watching the monitor of container " + id);
      }
      by_serial_[watch.serial] = id;
    }
    watches_.emplace(id, std::move(watch));
    fresh_.push_back(id);
  }
  // The file may have come before the watch.
  const uint64_t one = 1;
  if (::write(wake_.get(), &one, sizeof one) < 0) return errno_status(errno, "eventfd");
  return {};
}

void ExitWatcher::forget(const std::string& container_id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = watches_.find(container_id);
  if (found == watches_.end()) return;
  by_serial_.erase(found->second.serial);
  watches_.erase(found);
}

std::optional<ContainerExit> ExitWatcher::read_exit(const ExitSource& source) const {
  const std::string path = exit_dir_ + "/" + source.container_id;
  const auto text = read_file(path, 4096);
  if (!text || text->empty()) return std::nullopt;
  ContainerExit out;
  const auto [end, error] =
      std::from_chars(text->data(), text->data() + text->size(), out.exit_code);
  if (error != std::errc()) return std::nullopt;
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0) {
    out.finished_at.unix_ns = int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
  }
  out.oom_killed = cgroups_.oom_killed(source.cgroup) ||
                   ::access((source.bundle_dir + "/oom").c_str(), F_OK) == 0;
  return out;
}

void ExitWatcher::check(const std::string& container_id, bool monitor_gone) {
  ExitSource source;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = watches_.find(container_id);
    if (found == watches_.end()) return;
    source = found->second.source;
    monitor_gone = monitor_gone || !found->second.monitor;
  }
  std::optional<ContainerExit> ended = read_exit(source);
  if (!ended) {
    if (!monitor_gone) return;
    // Read once more: the monitor may have written its file and ended between the two looks.
    ended = read_exit(source);
  }
  if (!ended) {
    log_->warn("the monitor of container {} was killed; stopping the container", container_id);
    ended = ContainerExit{137, cgroups_.oom_killed(source.cgroup), SystemClock().wall_now()};
    if (const Status status = cgroups_.kill_and_remove(source.cgroup); !status.ok()) {
      log_->warn("container {}: {}", container_id, status.message());
    }
  }
  std::function<void(ContainerExit)> exited;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = watches_.find(container_id);
    if (found == watches_.end()) return;
    exited = std::move(found->second.exited);
    by_serial_.erase(found->second.serial);
    watches_.erase(found);
  }
  exited(*ended);
}

void ExitWatcher::drain_inotify() {
  alignas(struct inotify_event) char buffer[16384];
  while (true) {
    const ssize_t got = ::read(inotify_.get(), buffer, sizeof buffer);
    if (got <= 0) return;
    for (ssize_t at = 0; at < got;) {
      const auto* event = reinterpret_cast<const struct inotify_event*>(buffer + at);
      if (event->mask & IN_Q_OVERFLOW) {
        // Events were lost: look at every watch.
        const std::lock_guard<std::mutex> lock(mutex_);
        for (const auto& [id, watch] : watches_) fresh_.push_back(id);
      } else if (event->len > 0) {
        check(event->name, false);
      }
      at += static_cast<ssize_t>(sizeof *event + event->len);
    }
  }
}

void ExitWatcher::run() {
  while (true) {
    struct epoll_event events[64];
    const int count = ::epoll_wait(epoll_.get(), events, 64, -1);
    std::vector<std::string> ended_monitors;
    for (int i = 0; i < count; ++i) {
      const uint64_t serial = events[i].data.u64;
      if (serial == kInotifySerial) {
        drain_inotify();
      } else if (serial == kWakeSerial) {
        uint64_t value = 0;
        [[maybe_unused]] const ssize_t done = ::read(wake_.get(), &value, sizeof value);
      } else {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto found = by_serial_.find(serial);
        if (found != by_serial_.end()) ended_monitors.push_back(found->second);
      }
    }
    for (const std::string& id : ended_monitors) check(id, true);
    std::vector<std::string> fresh;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (stopping_) return;
      fresh.swap(fresh_);
    }
    for (const std::string& id : fresh) check(id, false);
  }
}

}  // namespace muster::agent
